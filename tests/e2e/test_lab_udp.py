"""The lab's UDP proven end to end: datagrams, announcements, and what a test may do to the director."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import IPv6Address
from typing import NamedTuple

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from ipvsca.address import Address, Endpoint
from ipvsca.wire import announcement, toa
from ipvsca.wire.announcement import Announcement
from ipvsca.wire.uoa import KIND, PROTOCOL_OPP
from tests.kernel_state import wait_until
from tests.lab import addresses as a
from tests.lab.capture import Capture
from tests.lab.control import Director
from tests.lab.messages import ALWAYS, Announce, Protocol, Service, Settings, Toa, Uoa, UoaMode, Where
from tests.lab.namespace import Namespace
from tests.lab.states import State
from tests.lab.topology import Lab

SERVICE_PORT = 53
SERVER_PORT = 5300
TIMEOUT = 10.0
STRANGER = Endpoint(a.CLIENTS_V4[8], 40000)
WIDE_MTU, ETHERNET_MTU = 9000, 1500
# Not in Python's socket module.
SO_NO_CHECK = 11
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0
ANY = IPv6Address("::")


class Ends(NamedTuple):
    """A virtual address, and the address of the real server behind it."""

    vip: Address
    rip: Address


PLAIN_V4 = Ends(a.VIP_V4, a.RIPS_V4[0])
PLAIN_V6 = Ends(a.VIP_V6, a.RIPS_V6[0])
NAT64 = Ends(a.VIP_V6, a.RIPS_V4[0])
NAT46 = Ends(a.VIP_V4, a.RIPS_V6[0])
every_family = pytest.mark.parametrize("ends", [PLAIN_V4, PLAIN_V6, NAT64, NAT46], ids=["v4", "v6", "nat64", "nat46"])


def service(
    ends: Ends, announce: Announce | None = None, protocol: Protocol = Protocol.UDP, tells: Uoa | None = None
) -> Service:
    return Service(
        Endpoint(ends.vip, SERVICE_PORT),
        (Endpoint(ends.rip, SERVER_PORT),),
        Toa(Where.NONE),
        protocol=protocol,
        announce=announce,
        uoa=tells,
    )


@pytest.fixture(autouse=True)
def nobody_is_known(director: Director) -> None:
    """Flows outlive their sockets, and a client may get a port again that an earlier test's client had."""
    director.forget_all()


@pytest.fixture
def server(lab: Lab) -> Iterator[socket.socket]:
    """A socket on every address of the real servers; IPv4 peers are v4-mapped."""
    with bound(lab.server, ANY, SERVER_PORT) as made:
        yield made


@contextmanager
def bound(namespace: Namespace, address: Address, port: int = 0) -> Iterator[socket.socket]:
    """A UDP socket."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with namespace.entered():
        made = socket.socket(family, socket.SOCK_DGRAM)
    with made:
        made.settimeout(TIMEOUT)
        made.bind((str(address), port))
        yield made


@contextmanager
def client_of(lab: Lab, vip: Address, number: int = 0) -> Iterator[socket.socket]:
    """A socket of one of the clients, connected to a virtual address."""
    source = (a.CLIENTS_V4 if vip.version == 4 else a.CLIENTS_V6)[number]
    with bound(lab.client, source) as made:
        made.connect((str(vip), SERVICE_PORT))
        yield made


def own(client: socket.socket) -> Endpoint:
    return Endpoint.of(*client.getsockname()[:2])


def there_and_back(client: socket.socket, server: socket.socket, content: bytes) -> Endpoint:
    """One datagram and its echo; returns whom the server saw."""
    client.send(content)
    data, peer = server.recvfrom(1 << 16)
    assert data == content
    server.sendto(data, peer)
    assert client.recv(1 << 16) == content
    return Endpoint.of(peer[0].removeprefix("::ffff:"), peer[1])


def dissect(packet: bytes) -> Packet:
    return (IP if packet[0] >> 4 == 4 else IPv6)(packet)


def datagrams(capture: Capture) -> list[bytes]:
    """The UDP packets that came in, whole."""
    return [packet for packet in capture.incoming() if UDP in dissect(packet)]


def with_right_checksums(packet: bytes) -> bytes:
    """The packet as scapy would have built it."""
    dissected = dissect(packet)
    del dissected[UDP].chksum
    if IP in dissected:
        del dissected[IP].chksum
    return bytes(dissected)


def announcement_of(director: Director, client: Endpoint) -> Announcement:
    """What the director has to say about this client, by its own table."""
    connection = director.connection(client)
    return Announcement(connection.protocol, connection.local, connection.real, client)


def story(capture: Capture) -> list[Announcement | bytes]:
    """What came in, in its order: announcements, and the payloads of datagrams."""
    seen: list[Announcement | bytes] = []
    for packet in capture.incoming():
        if found := announcement.parse(packet).announcement:
            seen.append(found)
        elif UDP in dissect(packet):
            seen.append(bytes(dissect(packet)[UDP].payload))
    return seen


@contextmanager
def wide(lab: Lab) -> Iterator[None]:
    """Links that carry 8,000 bytes in one piece."""
    try:
        lab.set_client_mtu(WIDE_MTU)
        lab.set_server_mtu(WIDE_MTU)
        yield
    finally:
        lab.set_client_mtu(ETHERNET_MTU)
        lab.set_server_mtu(ETHERNET_MTU)


def growth(director: Director, before: dict[str, int], *names: str) -> list[int]:
    """By how much these counters have grown."""
    after = director.stats()
    return [after.get(name, 0) - before.get(name, 0) for name in names]


@every_family
@pytest.mark.parametrize("length", [0, 1, 1400])
def test_a_datagram_goes_there_and_back(
    lab: Lab, director: Director, server: socket.socket, ends: Ends, length: int
) -> None:
    director.serve(service(ends))
    content = random.Random(length).randbytes(length)
    with client_of(lab, ends.vip) as client:
        seen = there_and_back(client, server, content)
        connection = director.connection(own(client))
    assert seen == connection.local
    assert connection.local.address in (a.LIPS_V4 if ends.rip.version == 4 else a.LIPS_V6)
    assert (connection.real.address, connection.state) == (ends.rip, State.UDP)


def test_several_clients_at_once_have_connections_of_their_own(
    lab: Lab, director: Director, server: socket.socket
) -> None:
    director.serve(service(PLAIN_V4), service(PLAIN_V6))
    with ExitStack() as stack:
        clients = [
            stack.enter_context(client_of(lab, vip, number % 16))
            for number in range(100)
            for vip in (a.VIP_V4, a.VIP_V6)
        ]
        for client in clients:
            client.send(str(own(client)).encode())
        peers = {}
        for _ in clients:
            data, peer = server.recvfrom(100)
            server.sendto(data, peer)
            peers[Endpoint.parse(data.decode())] = Endpoint.of(peer[0].removeprefix("::ffff:"), peer[1])
        assert [client.recv(100) for client in clients] == [str(own(client)).encode() for client in clients]
        locals_ = {connection.client: connection.local for connection in director.connections()}
        assert {client: locals_[client] for client in peers} == peers
    assert len(set(peers.values())) == len(clients)


def test_a_burst_waits_for_the_director(lab: Lab, director: Director, server: socket.socket) -> None:
    """A TUN device of the usual length holds 500 packets, and counters are asked for while these wait."""
    director.serve(service(PLAIN_V4))
    before = director.stats()
    with client_of(lab, a.VIP_V4) as client:
        for _ in range(3000):
            client.send(b"burst")
        assert growth(director, before, "to_server") == [3000]


def test_the_first_datagram_through_a_new_director_arrives() -> None:
    """The kernel makes its device ready some time after the director has opened it, and drops packets until then."""
    with Lab() as lab, client_of(lab, a.VIP_V4) as client:
        for _ in range(10):
            with lab.start_director([service(PLAIN_V4)]) as director:
                client.send(b"first")
                assert director.stats().get("to_server") == 1


def test_the_director_stays_on_one_cpu(director: Director) -> None:
    """Else an announcement and its datagram could overtake each other, if rarely."""
    assert len(os.sched_getaffinity(director._process.pid)) == 1


@every_family
@pytest.mark.parametrize("length", [0, 1, 1000])
def test_every_checksum_is_right(lab: Lab, director: Director, server: socket.socket, ends: Ends, length: int) -> None:
    director.serve(service(ends, Announce()))
    with Capture(lab.client) as at_client, Capture(lab.server) as at_server, client_of(lab, ends.vip) as client:
        for _ in range(2):
            there_and_back(client, server, bytes(length))
    packets = datagrams(at_client) + datagrams(at_server)
    assert len(packets) == 4
    for packet in packets:
        assert with_right_checksums(packet) == packet
        assert dissect(packet)[UDP].chksum


@pytest.mark.parametrize("ends", [PLAIN_V4, NAT46], ids=["v4", "nat46"])
def test_only_ipv4_can_do_without_a_checksum(lab: Lab, director: Director, server: socket.socket, ends: Ends) -> None:
    director.serve(service(ends))
    with Capture(lab.server) as capture, client_of(lab, ends.vip) as client:
        client.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        there_and_back(client, server, b"unchecked")
    (packet,) = datagrams(capture)
    assert (dissect(packet)[UDP].chksum == 0) == (ends is PLAIN_V4)
    if ends is NAT46:
        assert with_right_checksums(packet) == packet


def test_an_announcement_goes_ahead_of_each_new_flow(lab: Lab, director: Director, server: socket.socket) -> None:
    director.serve(service(PLAIN_V4, Announce()))
    before = director.stats()
    with Capture(lab.server) as capture, client_of(lab, a.VIP_V4) as first, client_of(lab, a.VIP_V4, 1) as second:
        for client in (first, first, second, first):
            there_and_back(client, server, b"question")
        told = [announcement_of(director, own(client)) for client in (first, second)]
    assert story(capture) == [told[0], b"question", b"question", told[1], b"question", b"question"]
    assert growth(director, before, "announcements", "echo_replies") == [2, 2]


def test_many_new_flows_are_each_announced_first(lab: Lab, director: Director, server: socket.socket) -> None:
    director.serve(service(PLAIN_V4, Announce()))
    with Capture(lab.server) as capture, ExitStack() as stack:
        clients = [stack.enter_context(client_of(lab, a.VIP_V4, number % 16)) for number in range(200)]
        for client in clients:
            client.send(str(own(client)).encode())
        for _ in clients:
            server.recv(100)
        told = {connection.client: connection for connection in director.connections()}
    seen = story(capture)
    assert len(seen) == 2 * len(clients)
    for announced, payload in zip(seen[::2], seen[1::2], strict=True):
        assert isinstance(payload, bytes)
        client = Endpoint.parse(payload.decode())
        assert announced == Announcement(Protocol.UDP, told[client].local, told[client].real, client)


@pytest.mark.parametrize("every", [ALWAYS, 3])
def test_announcements_can_go_ahead_of_later_datagrams(
    lab: Lab, director: Director, server: socket.socket, every: int
) -> None:
    director.serve(service(PLAIN_V4, Announce(every)))
    with Capture(lab.server) as capture, client_of(lab, a.VIP_V4) as client:
        for _ in range(4):
            there_and_back(client, server, b"question")
        told = announcement_of(director, own(client))
    expected = [told, b"question"] * 4 if every == ALWAYS else [told, *[b"question"] * 3, told, b"question"]
    assert story(capture) == expected


@pytest.mark.parametrize("kind", [toa.KIND_LVS, toa.KIND_DPVS])
@pytest.mark.parametrize("little_endian", [True, False])
def test_the_announcement_is_the_reference_s_but_for_its_ttl(
    lab: Lab, director: Director, server: socket.socket, kind: int, little_endian: bool
) -> None:
    director.serve(service(PLAIN_V4, Announce(kind=kind, little_endian=little_endian)))
    with Capture(lab.server) as capture, client_of(lab, a.VIP_V4) as client:
        there_and_back(client, server, b"")
        told = replace(announcement_of(director, own(client)), kind=kind)
    (echo,) = (packet for packet in capture.incoming() if ICMP in dissect(packet))
    expected = IP(announcement.build(told, little_endian=little_endian))
    expected.ttl -= 1
    del expected.chksum
    assert echo == bytes(expected)


@pytest.mark.parametrize("ends", [PLAIN_V6, NAT64, NAT46], ids=["v6", "nat64", "nat46"])
def test_ipv6_is_not_announced(lab: Lab, director: Director, server: socket.socket, ends: Ends) -> None:
    director.serve(service(ends, Announce(ALWAYS)))
    before = director.stats()
    with Capture(lab.server) as capture, client_of(lab, ends.vip) as client:
        there_and_back(client, server, b"question")
    assert story(capture) == [b"question"]
    assert growth(director, before, "announcements", "announcement_impossible") == [0, 1]


def test_tcp_is_announced_ahead_of_its_syn(lab: Lab, director: Director) -> None:
    director.serve(service(PLAIN_V4, Announce(), Protocol.TCP))
    with lab.server.entered():
        listener = socket.create_server((str(a.RIPS_V4[0]), SERVER_PORT))
    with listener, Capture(lab.server) as capture:
        with lab.client.entered():
            client = socket.create_connection((str(a.VIP_V4), SERVICE_PORT), TIMEOUT)
        with client:
            told = announcement_of(director, own(client))
    first, syn, *rest = (packet for packet in capture.incoming() if IP in dissect(packet))
    assert announcement.parse(first).announcement == told
    assert dissect(syn)[TCP].flags == "S"
    assert not any(ICMP in dissect(packet) for packet in rest)


def test_a_test_can_send_packets_of_its_own(lab: Lab, director: Director, server: socket.socket) -> None:
    director.serve(service(PLAIN_V4))
    forged = Announcement(Protocol.UDP, Endpoint(a.LIPS_V4[1], 7), Endpoint(a.RIPS_V4[0], SERVER_PORT), STRANGER)
    datagram = IP(src=str(STRANGER.address), dst=str(a.RIPS_V4[0])) / UDP(sport=7, dport=SERVER_PORT) / b"injected"
    over_ipv6 = IPv6(src=str(a.LIPS_V6[0]), dst=str(a.RIPS_V6[0])) / UDP(sport=7, dport=SERVER_PORT) / b"as well"
    before = director.stats()
    with Capture(lab.server) as capture:
        director.inject(announcement.build(forged), bytes(datagram), bytes(over_ipv6))
        assert server.recvfrom(100)[:2] == (b"injected", (f"::ffff:{STRANGER.address}", 7, 0, 0))
        assert server.recvfrom(100)[:2] == (b"as well", (str(a.LIPS_V6[0]), 7, 0, 0))
    assert story(capture) == [forged, b"injected", b"as well"]
    assert growth(director, before, "echo_replies") == [1]


@pytest.mark.parametrize("packet", [b"", bytes(20)], ids=["nothing", "version 0"])
def test_what_is_no_packet_cannot_be_sent(director: Director, packet: bytes) -> None:
    with pytest.raises(ValueError, match="Invalid argument"):
        director.inject(packet)


def test_a_local_port_can_be_given_to_another_client_at_once(
    lab: Lab, director: Director, server: socket.socket
) -> None:
    director.serve(replace(service(PLAIN_V4, Announce()), local_addresses=a.LIPS_V4[:1], local_ports=(7000, 7000)))
    local = Endpoint(a.LIPS_V4[0], 7000)
    with Capture(lab.server) as capture, client_of(lab, a.VIP_V4) as first, client_of(lab, a.VIP_V4, 1) as second:
        told = []
        for client in (first, second, first):
            assert there_and_back(client, server, b"question") == local
            told.append(announcement_of(director, own(client)))
            director.forget(own(client))
        assert [each.client for each in told] == [own(client) for client in (first, second, first)]
        assert story(capture) == [part for each in told for part in (each, b"question")]
        with pytest.raises(ValueError, match="has no connections"):
            director.forget(own(first))
    assert director.connections() == []


def test_a_local_port_is_free_when_its_connection_is_past_its_time(
    lab: Lab, director: Director, server: socket.socket
) -> None:
    pinched = replace(service(PLAIN_V4), local_addresses=a.LIPS_V4[:1], local_ports=(7000, 7000))
    director.configure(Settings((pinched,), {State.UDP: 0.0}))
    with client_of(lab, a.VIP_V4) as first, client_of(lab, a.VIP_V4, 1) as second:
        for client in (first, second):
            client.send(b"question")
            assert server.recvfrom(100)[1][:2] == (f"::ffff:{a.LIPS_V4[0]}", 7000)


@every_family
def test_large_datagrams_pass_where_the_links_let_them(
    lab: Lab, director: Director, server: socket.socket, ends: Ends
) -> None:
    director.serve(service(ends))
    with wide(lab), client_of(lab, ends.vip) as client:
        there_and_back(client, server, random.Random(8000).randbytes(8000))


def test_a_server_gets_fragments_where_only_its_link_is_narrow(
    lab: Lab, director: Director, server: socket.socket
) -> None:
    director.serve(service(PLAIN_V4))
    content = random.Random(8000).randbytes(8000)
    with wide(lab), Capture(lab.server) as capture, client_of(lab, a.VIP_V4) as client:
        lab.set_server_mtu(1500)
        client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        client.send(content)
        assert server.recv(1 << 16) == content
    assert len(capture.incoming()) == 6


@pytest.mark.parametrize("ends", [PLAIN_V4, NAT64], ids=["v4", "nat64"])
def test_a_server_that_knows_nothing_of_ipo_gets_the_datagram(
    lab: Lab, director: Director, server: socket.socket, ends: Ends
) -> None:
    director.serve(service(ends, tells=Uoa(UoaMode.IPO, datagrams=2)))
    with Capture(lab.server) as capture, client_of(lab, ends.vip) as client:
        for _ in range(3):
            there_and_back(client, server, b"question")
        option = toa.build(own(client), KIND)
    packets = datagrams(capture)
    assert [packet[20 : (packet[0] & 15) * 4] for packet in packets] == [option, option, b""]
    assert [with_right_checksums(packet) for packet in packets] == packets


@every_family
def test_a_server_that_knows_nothing_of_opp_gets_the_next_datagram(
    lab: Lab, director: Director, server: socket.socket, ends: Ends
) -> None:
    director.serve(service(ends, tells=Uoa(UoaMode.OPP, datagrams=1)))
    with Capture(lab.server) as capture, client_of(lab, ends.vip) as client:
        client.send(b"not received")
        there_and_back(client, server, b"question")
        option = toa.build(own(client), KIND)
    (packet,) = of_protocol(capture, PROTOCOL_OPP)
    assert option in packet
    assert packet.endswith(b"not received")


@pytest.mark.parametrize("ends", [PLAIN_V4, NAT64], ids=["v4", "nat64"])
def test_a_carrier_of_ipo_is_an_empty_datagram(lab: Lab, director: Director, server: socket.socket, ends: Ends) -> None:
    director.serve(service(ends, tells=Uoa(UoaMode.IPO, datagrams=1, always_by_carrier=True)))
    with client_of(lab, ends.vip) as client:
        client.send(b"question")
        assert [server.recv(100) for _ in range(2)] == [b"", b"question"]


@pytest.mark.parametrize(("mode", "protocol"), [(UoaMode.IPO, socket.IPPROTO_UDP), (UoaMode.OPP, PROTOCOL_OPP)])
def test_a_datagram_that_tells_can_come_in_fragments(
    lab: Lab, director: Director, mode: UoaMode, protocol: int
) -> None:
    """The director's kernel makes them where the director takes the link for a wider one; ipo's option is in each."""
    director.serve(service(PLAIN_V4, tells=Uoa(mode, mtu=WIDE_MTU)))
    with wide(lab), Capture(lab.server) as capture, client_of(lab, a.VIP_V4) as client:
        lab.set_server_mtu(ETHERNET_MTU)
        client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        client.send(bytes(8000))
        assert wait_until(lambda: len(of_protocol(capture, protocol)) == 6)
        option = toa.build(own(client), KIND)
    assert [option in packet[:60] for packet in of_protocol(capture, protocol)] == [
        True,
        *[mode is UoaMode.IPO] * 5,
    ]


def of_protocol(capture: Capture, protocol: int) -> list[bytes]:
    """The packets of this protocol that came in, fragments among them."""
    return [packet for packet in capture.incoming() if packet[9 if packet[0] >> 4 == 4 else 6] == protocol]


def test_fragments_are_dropped_and_counted(lab: Lab, director: Director, server: socket.socket) -> None:
    director.serve(service(PLAIN_V4), service(PLAIN_V6))
    before = director.stats()
    for vip in (a.VIP_V4, a.VIP_V6):
        with client_of(lab, vip) as client:
            client.send(bytes(2000))
            there_and_back(client, server, b"small")
    assert growth(director, before, "dropped_fragment", "to_server") == [4, 2]
