"""Datagrams with UOA on real devices: what a socket gets of them, wherever their bytes lie in the kernel's buffer."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import pytest
from scapy.layers.inet import IP, fragment
from scapy.layers.l2 import Dot1AD, Dot1Q
from scapy.packet import Packet

from ipvsca.address import Endpoint
from ipvsca.dataplane import DataPlane
from ipvsca.kernel.layout import LearntFrom
from ipvsca.kernel.programs import Program
from ipvsca.settings import DEFAULTS
from ipvsca.wire import uoa
from ipvsca.wire.uoa import PROTOCOL_OPP, Told
from tests.bpf import devices
from tests.bpf.announced_packets import FRAME, tagged
from tests.bpf.cases import at
from tests.bpf.devices import Tap, Tun, Vxlan
from tests.bpf.ingress import Outcome, counts, grown, outcome_of
from tests.bpf.packets import SERVER_V4, SERVER_V6
from tests.bpf.told_packets import NAT64, V4, V6, framed, learnt, refused
from tests.lab import sandbox
from tests.lab.namespace import Namespace
from tests.vectors import opp_vectors

TIMEOUT_S = 10
ETHERNET = 14
ETH_P_ALL = 3  # not in Python's socket module
LENGTHS = (0, 1, 1400, 8000)
TO_US = at(FRAME, dst=devices.ADDRESS)
ONE_TAG, TWO_TAGS = tagged(TO_US, Dot1Q()), tagged(TO_US, Dot1AD(), Dot1Q())


class Sockets:
    """Where the packets' servers are: an address of each IP version, and on each a socket of UDP and one of opp."""

    def __init__(self, namespace: Namespace, device: str) -> None:
        # whoever sends is a neighbour, so that no filter of return paths keeps packets out
        namespace.run(["ip", "address", "add", f"{SERVER_V4.address}/8", "dev", device])
        namespace.run(["ip", "address", "add", f"{SERVER_V6.address}/16", "dev", device, "nodad"])
        self._udp, self._opp = {}, {}
        with namespace.entered():
            for family, server in ((socket.AF_INET, SERVER_V4), (socket.AF_INET6, SERVER_V6)):
                version = server.address.version
                self._udp[version] = _bound(socket.socket(family, socket.SOCK_DGRAM), server)
                self._opp[version] = _bound(socket.socket(family, socket.SOCK_RAW, PROTOCOL_OPP), server)

    def close(self) -> None:
        for one in (*self._udp.values(), *self._opp.values()):
            one.close()

    def datagram(self, told: Told) -> bytes:
        """The next datagram's data. No program is on these sockets: it comes from the director."""
        data, source = self._udp[told.server.address.version].recvfrom(0x10000)
        assert Endpoint.of(source[0], source[1]) == told.director
        return data

    def opp(self, told: Told) -> bytes:
        """The next packet that the kernel takes for one of protocol 248, without IPv6's header."""
        return self._opp[told.server.address.version].recv(0x10000)


def _bound(one: socket.socket, server: Endpoint) -> socket.socket:
    one.bind((str(server.address), server.port if one.type == socket.SOCK_DGRAM else 0))
    one.settimeout(TIMEOUT_S)
    return one


@dataclass(frozen=True)
class Host:
    """A host that receives by one device."""

    end: Tap | Tun | Vxlan
    sockets: Sockets
    namespace: Namespace

    def receive(self, packet: bytes) -> None:
        """An IP packet, with as little of it in the linear part as may be."""
        if isinstance(self.end, Tap):
            self.receive_frame(framed(packet, TO_US), ETHERNET)
        elif isinstance(self.end, Vxlan):
            self.end.receive(framed(packet, TO_US))
        else:
            self.end.receive(packet)

    def packets(self) -> socket.socket:
        """A socket that gets whatever a device receives from now on."""
        with self.namespace.entered():
            return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(ETH_P_ALL))

    def receive_frame(self, frame: bytes, linear: int) -> None:
        assert isinstance(self.end, Tap)
        self.end.receive_in_parts(frame, linear)


@contextmanager
def host_with(
    name: str, device: Callable[..., AbstractContextManager[Tap | Tun | Vxlan]], *where: object
) -> Iterator[Host]:
    """A host of its own; `device` makes the device that packets come by."""
    with sandbox.cgroup() as group, Namespace(group) as namespace, device(namespace, *where) as end:
        sockets = Sockets(namespace, name)
        yield Host(end, sockets, namespace)
        sockets.close()


@pytest.fixture(scope="module")
def tap(programs: Mapping[Program, int], pins: Path) -> Iterator[Host]:
    with host_with("tap0", devices.tap, programs, pins) as host:
        yield host


@pytest.fixture(scope="module")
def tun(programs: Mapping[Program, int], pins: Path) -> Iterator[Host]:
    with host_with("tun0", devices.tun, programs, pins) as host:
        yield host


@pytest.fixture(scope="module")
def vxlan(programs: Mapping[Program, int], pins: Path) -> Iterator[Host]:
    with host_with("vxlan0", devices.vxlan, programs, pins) as host:
        yield host


@pytest.fixture(params=["tap", "tun", "vxlan"])
def host(request: pytest.FixtureRequest) -> Host:
    host: Host = request.getfixturevalue(request.param)
    return host


every_flow = pytest.mark.parametrize("told", [V4, V6, NAT64], ids=["v4", "v6", "nat64"])
every_flow_of_ipv4 = pytest.mark.parametrize("told", [V4, NAT64], ids=["v4", "nat64"])
every_length = pytest.mark.parametrize("length", LENGTHS)


def payload_of(length: int) -> bytes:
    return bytes(byte % 251 for byte in range(length))


@every_length
@every_flow
def test_opp(host: Host, plane: DataPlane, told: Told, length: int) -> None:
    payload = payload_of(length)
    packet = uoa.build_opp(told, payload)
    assert outcome_of(partial(host.receive, packet), plane) == learnt(told, LearntFrom.OPP)
    assert host.sockets.datagram(told) == payload


@every_length
@every_flow_of_ipv4
def test_ipo(host: Host, plane: DataPlane, told: Told, length: int) -> None:
    payload = payload_of(length)
    packet = uoa.build_ipo(told, payload)
    assert outcome_of(partial(host.receive, packet), plane) == learnt(told, LearntFrom.IPO)
    assert host.sockets.datagram(told) == payload


@pytest.mark.parametrize(
    "sentence", ["behind IP options", "behind 40 bytes of IP options", "with a checksum of UDP", "padded by Ethernet"]
)
def test_opp_in_other_packets(host: Host, plane: DataPlane, sentence: str) -> None:
    (vector,) = (vector for vector in opp_vectors() if vector.sentence == sentence)
    told = vector.expected.told
    assert told
    assert outcome_of(partial(host.receive, vector.packet), plane) == learnt(told, LearntFrom.OPP)
    assert host.sockets.datagram(told) == b"hello"


@every_flow
def test_wherever_the_linear_part_ends(tap: Host, plane: DataPlane, told: Told) -> None:
    payload = payload_of(8000)
    frame = framed(uoa.build_opp(told, payload), TO_US)
    for linear in range(ETHERNET, len(frame) - len(payload) + 2):
        outcome = outcome_of(partial(tap.receive_frame, frame, linear), plane)
        assert outcome == learnt(told, LearntFrom.OPP), f"{linear} bytes are linear"
        assert tap.sockets.datagram(told) == payload, f"{linear} bytes are linear"


@every_flow_of_ipv4
def test_ipo_wherever_the_linear_part_ends(tap: Host, plane: DataPlane, told: Told) -> None:
    payload = payload_of(8000)
    frame = framed(uoa.build_ipo(told, payload), TO_US)
    for linear in range(ETHERNET, len(frame) - len(payload) + 2):
        outcome = outcome_of(partial(tap.receive_frame, frame, linear), plane)
        assert outcome == learnt(told, LearntFrom.IPO), f"{linear} bytes are linear"
        assert tap.sockets.datagram(told) == payload, f"{linear} bytes are linear"


@pytest.mark.parametrize("frame", [ONE_TAG, TWO_TAGS], ids=["one tag", "two tags"])
def test_opp_behind_vlan_tags(tap: Host, plane: DataPlane, frame: Packet) -> None:
    """The kernel takes the first tag off before a program sees the packet."""
    outcome = outcome_of(partial(tap.receive_frame, framed(uoa.build_opp(V4), frame), ETHERNET), plane)
    assert outcome == (learnt(V4, LearntFrom.OPP) if frame is ONE_TAG else refused("opp", "room"))


@every_flow
@pytest.mark.usefixtures("plane")
def test_who_listens_on_the_device_sees_the_packet_as_it_came(tap: Host, told: Told) -> None:
    """A packet socket, as tcpdump has one, shares the buffer out of which opp is taken."""
    frame = framed(uoa.build_opp(told, b"hello"), TO_US)
    with tap.packets() as packets:
        tap.receive_frame(frame, ETHERNET)
        assert tap.sockets.datagram(told) == b"hello"
        assert packets.recv(0x10000) == frame


@every_length
@every_flow
def test_opp_of_a_stranger_stays_as_it_is(host: Host, plane: DataPlane, told: Told, length: int) -> None:
    strangers = {4: "10.99.0.2", 6: "fd00:99::2"}
    plane.apply(replace(DEFAULTS, trusted=(ip_network("10.90.0.0/24"), ip_network("fd00:90::/64"))))
    other = replace(told, director=Endpoint.of(strangers[told.director.address.version], 1))
    packet = uoa.build_opp(other, payload_of(length))
    assert outcome_of(partial(host.receive, packet), plane) == refused("opp", "untrusted")
    assert host.sockets.opp(told) == (packet if told.director.address.version == 4 else packet[40:])


def test_ipo_in_fragments(host: Host, plane: DataPlane) -> None:
    """The first one tells the client, the kernel puts them together."""
    payload = payload_of(8000)
    parts = [bytes(part) for part in fragment(IP(uoa.build_ipo(V4, payload)), 1400)]
    assert len(parts) > 2
    outcome = outcome_of(lambda: [host.receive(part) for part in parts], plane)
    assert outcome == learnt(V4, LearntFrom.IPO)
    assert host.sockets.datagram(V4) == payload


def test_opp_in_fragments_stays_as_it_is(host: Host, plane: DataPlane) -> None:
    whole = uoa.build_opp(V4, payload_of(8000))
    parts = [bytes(part) for part in fragment(IP(whole), 1400)]
    outcome = outcome_of(lambda: [host.receive(part) for part in parts], plane)
    assert outcome == Outcome({}, {"refused_opp_fragment": len(parts)})
    assert host.sockets.opp(V4)[20:] == whole[20:]


def test_loopback_is_not_believed_by_wire(host: Host, plane: DataPlane) -> None:
    """The kernel drops such a packet, but only after the program has seen it."""
    for told, address in ((V4, "127.0.0.1"), (V6, "::1")):
        before = counts(plane)
        host.receive(uoa.build_opp(replace(told, director=Endpoint.of(address, 1))))
        assert grown(before, counts(plane)) == {"refused_opp_untrusted": 1}
