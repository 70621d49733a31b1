"""Clients that name somebody else: whom the application is shown, exactly. docs/security.md says the same in words."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Dot1Q, Ether

from ipvsca.address import Address, Endpoint
from ipvsca.dataplane import NANOSECONDS, DataPlane
from ipvsca.kernel import layout
from ipvsca.settings import SegmentsWithOption
from ipvsca.wire import announcement
from ipvsca.wire.announcement import Announcement
from ipvsca.wire.toa import KIND_DPVS, KIND_LVS, NO_OPERATION, build
from tests.apps.catalogue import app
from tests.e2e.datagrams import ANY, Datagrams
from tests.e2e.datagrams import SERVER_PORT as UDP_SERVER_PORT
from tests.e2e.datagrams import SERVICE_PORT as UDP_SERVICE_PORT
from tests.e2e.hand_made import ISN, Client, Segments, by_hand
from tests.e2e.puppet import Puppet, puppet
from tests.e2e.traffic import IPV4, SERVER_PORT, SERVICE_PORT, Traffic, own_address, syn_destination
from tests.e2e.tun_device import LPORTS, Device, as_options, shake_hands, tun
from tests.kernel_state import wait_until
from tests.lab import addresses as a
from tests.lab import ip as lab_ip
from tests.lab import uoa
from tests.lab.capture import ETH_P_IP, Capture
from tests.lab.messages import Announce, Position, Service, Toa, UoaMode, Where
from tests.lab.namespace import Namespace
from tests.lab.topology import Lab
from tests.rig import REPOSITORY, Ipvsca

ACCEPT = app("c-accept")
VIP = Endpoint(IPV4.vip, SERVICE_PORT)
RIP = Endpoint(IPV4.rip, SERVER_PORT)
OTHER = Endpoint.of("192.0.2.66", 666)
"""Whom the client names: somebody else."""

PLANTED = build(OTHER)
NO_ROOM = PLANTED + bytes([NO_OPERATION] * 32)
"""All 40 bytes of options that a TCP header has: the director's own finds no place."""


@pytest.fixture(scope="module", autouse=True)
def _loaded(ipvsca: Ipvsca) -> Iterator[None]:
    with ipvsca.loaded():
        yield


@pytest.fixture(scope="module")
def device(traffic: Traffic) -> Iterator[Device]:
    with by_hand(traffic.lab) as device:
        yield device


def connected(traffic: Traffic, device: Device, segments: Segments, to: Endpoint = VIP) -> str:
    """Who is shown: `client`, `director` or `planted`."""
    client = Client(device, to, segments)
    client.open()
    ends = {"client": client.endpoint, "planted": OTHER}
    if to == VIP:
        ends["director"] = traffic.director.connection(client.endpoint).local
    seen = client.ask()
    return next(name for name, end in ends.items() if seen == ACCEPT.sees(end))


def documented(title: str) -> dict[str, dict[str, str]]:
    """A table of docs/security.md: by what the director writes, then by where the client plants, who is shown."""
    _, _, below = (REPOSITORY / "docs/security.md").read_text().partition(f"\n| {title} | ")
    head, _, *rows = below.partition("\n\n")[0].splitlines()
    places = _cells(head)
    found = {}
    for row in rows:
        writes, *shown = _cells(row)
        found[writes] = {place: who.strip("*") for place, who in zip(places, shown, strict=True)}
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


DIRECTORS = {
    "into the ACK, first": Toa(Where.ACK),
    "into the SYN, first": Toa(Where.SYN),
    "into both, first (DPVS)": Toa(Where.BOTH),
    "into the ACK, last": Toa(Where.ACK, position=Position.LAST),
    "into the SYN, last": Toa(Where.SYN, position=Position.LAST),
    "into both, last": Toa(Where.BOTH, position=Position.LAST),
    "nothing, it announces TCP": Toa(Where.NONE),
    "nothing, but it is in `trusted`": Toa(Where.NONE),
}
ANNOUNCES = "nothing, it announces TCP"
PLANTS = {
    "in the SYN": Segments(syn=PLANTED),
    "in the ACK": Segments(ack=PLANTED),
    "in both": Segments(syn=PLANTED, ack=PLANTED),
    "in both, no room left": Segments(syn=NO_ROOM, ack=NO_ROOM),
    "in data": Segments(data=PLANTED),
}


def named(toa: Toa, segment: Where, planted: bytes) -> str | None:
    """Whom a segment names as it arrives."""
    is_written = toa.where in (segment, Where.BOTH) and planted != NO_ROOM
    if planted and (not is_written or toa.position is Position.LAST):
        return "planted"
    return "client" if is_written else None


def expected(writes: str, plants: Segments, read: SegmentsWithOption) -> str:
    """Who is shown, by the rules of docs/security.md."""
    toa = DIRECTORS[writes]
    words = {named(toa, Where.SYN, plants.syn) if read.syn else None}
    words |= {named(toa, Where.ACK, plants.ack) if read.ack else None}
    words -= {None}
    if not words and writes == ANNOUNCES:
        return "client"
    return str(words.pop()) if len(words) == 1 else "director"


def direct(traffic: Traffic, writes: str) -> None:
    announce = Announce() if writes == ANNOUNCES else None
    traffic.director.serve(Service(VIP, (RIP,), DIRECTORS[writes], announce=announce))


@pytest.mark.parametrize("read", SegmentsWithOption)
@pytest.mark.parametrize("writes", DIRECTORS)
def test_a_client_that_plants_an_option(
    traffic: Traffic, device: Device, ipvsca: Ipvsca, writes: str, read: SegmentsWithOption
) -> None:
    with traffic.serving(ACCEPT, IPV4), ipvsca.having("tcpopt_in", read):
        direct(traffic, writes)
        shown = {place: connected(traffic, device, plants) for place, plants in PLANTS.items()}
    assert shown == {place: expected(writes, plants, read) for place, plants in PLANTS.items()}


def test_what_is_documented_of_planted_options() -> None:
    def by_place(writes: str, read: SegmentsWithOption) -> dict[str, str]:
        return {place: expected(writes, plants, read) for place, plants in PLANTS.items()}

    assert documented("the director writes") == {
        writes: by_place(writes, SegmentsWithOption.BOTH) for writes in DIRECTORS
    }
    narrowed = documented("the director writes, `tcpopt_in` is")
    assert {row.partition(": ")[0] for row in narrowed} == {each for each in DIRECTORS if "both" not in each}
    for row, shown in narrowed.items():
        writes, _, read = row.partition(": ")
        assert shown == by_place(writes, SegmentsWithOption(read.strip('"`'))), row


def is_gone(plane: DataPlane, handshake: layout.Handshake) -> None:
    """As where others have pushed it out."""
    plane.table("handshakes").remove(handshake)


def is_late(plane: DataPlane, handshake: layout.Handshake) -> None:
    table = plane.table("handshakes")
    told = table.get(handshake)
    told.learnt_ns -= (plane.settings().tcp_timeout + 1) * NANOSECONDS
    table.put(handshake, told)


@pytest.mark.parametrize("read", ["both", "syn"])
@pytest.mark.parametrize("happens", [is_gone, is_late])
def test_an_option_in_the_ack_and_a_syn_that_is_not_known_any_more(
    traffic: Traffic, device: Device, ipvsca: Ipvsca, happens: Callable[[DataPlane, layout.Handshake], None], read: str
) -> None:
    """Of a director that writes into the SYN alone. Then nothing contradicts the client, if its ACK is read."""
    with traffic.serving(ACCEPT, IPV4), ipvsca.having("tcpopt_in", read), DataPlane(ipvsca.pin_path) as plane:
        traffic.direct(IPV4, Toa(Where.SYN))
        client = Client(device, VIP, Segments(ack=PLANTED))
        plane.forget_handshakes(time.monotonic_ns())
        client.open()
        ((handshake, _),) = plane.handshakes()
        happens(plane, handshake)
        local = traffic.director.connection(client.endpoint).local
        assert client.ask() == ACCEPT.sees(OTHER if read == "both" else local)


def test_the_first_data_can_be_what_ends_the_handshake(traffic: Traffic, device: Device) -> None:
    """It then counts as the ACK does, and is the only one of all data that is looked at."""
    planted = Segments(data=PLANTED, sends_ack=False)
    with traffic.serving(ACCEPT, IPV4):
        for where, shown in ((Where.ACK, "client"), (Where.SYN, "director"), (Where.NONE, "planted")):
            traffic.direct(IPV4, Toa(where))
            assert connected(traffic, device, planted) == shown


def test_a_client_that_comes_straight_to_the_server(traffic: Traffic, device: Device, ipvsca: Ipvsca) -> None:
    of_syn, of_ack = {"refused_syn_untrusted": 1}, {"refused_ack_untrusted": 1}
    with traffic.serving(ACCEPT, IPV4):
        for segments, refused in (
            (Segments(syn=PLANTED), of_syn),
            (Segments(ack=PLANTED), of_ack),
            (Segments(data=PLANTED), {}),
            (Segments(data=PLANTED, sends_ack=False), of_ack),
            (Segments(syn=NO_ROOM, ack=NO_ROOM), of_syn | of_ack),
        ):
            with ipvsca.counted(**refused, tcp_no_client=1):
                assert connected(traffic, device, segments, RIP) == "client"


@pytest.mark.parametrize("kinds", [(KIND_LVS, KIND_DPVS), (KIND_DPVS, KIND_LVS)], ids=str)
def test_of_two_kinds_in_one_header_the_first_counts(traffic: Traffic, device: Device, kinds: tuple[int, int]) -> None:
    """So that the director's, which stands first, counts whatever kind the client takes."""
    of_director, of_client = kinds
    with traffic.serving(ACCEPT, IPV4):
        traffic.direct(IPV4, Toa(Where.BOTH, of_director))
        planted = build(OTHER, of_client)
        assert connected(traffic, device, Segments(syn=planted, ack=planted)) == "client"


def test_a_kind_that_is_not_named_plants_nothing(traffic: Traffic, device: Device, ipvsca: Ipvsca) -> None:
    """Whatever the director's position, and however much room it leaves: then nobody is shown."""
    of_200 = build(OTHER, KIND_LVS)
    no_room = of_200 + bytes([NO_OPERATION] * 32)
    with traffic.serving(ACCEPT, IPV4), ipvsca.having("tcpopt_addr", str(KIND_DPVS)):
        traffic.direct(IPV4, Toa(Where.BOTH, KIND_DPVS, position=Position.LAST))
        assert connected(traffic, device, Segments(syn=of_200, ack=of_200)) == "client"
        assert connected(traffic, device, Segments(syn=no_room, ack=no_room)) == "director"


@pytest.mark.parametrize(("guess", "names"), [(ISN - 1, "client"), (ISN, "director")], ids=["another", "the very"])
def test_a_forged_syn_from_the_director(
    traffic: Traffic, device: Device, ipvsca: Ipvsca, guess: int, names: str
) -> None:
    """While a handshake is under way, on its very ports. Who hits the sequence number can hide the client, no more."""
    counted = {"syn_learnt": 2} if names == "client" else {"syn_learnt": 1, "refused_syn_conflict": 1}
    with traffic.serving(ACCEPT, IPV4), ipvsca.counted(**counted):
        traffic.direct(IPV4, Toa(Where.SYN))
        client = Client(device, VIP, Segments())
        client.open()
        local = traffic.director.connection(client.endpoint).local
        forged = TCP(sport=local.port, dport=SERVER_PORT, flags="S", seq=guess, options=as_options(OTHER))
        traffic.director.inject(bytes(IP(src=str(local.address), dst=str(IPV4.rip)) / forged))
        assert client.ask() == ACCEPT.sees(client.endpoint if names == "client" else local)


AS_BY_DEFAULT, WITHOUT_COOKIES = "1", "1538"


@pytest.mark.parametrize(
    ("fast_open", "segments", "shown"),
    [(AS_BY_DEFAULT, "both", None), (WITHOUT_COOKIES, "both", "planted"), (WITHOUT_COOKIES, "ack", "director")],
)
def test_a_forged_syn_where_tcp_fast_open_is_on(
    traffic: Traffic, ipvsca: Ipvsca, fast_open: str, segments: str, shown: str | None
) -> None:
    """There it is enough. A cookie, where one is asked for, is no secret to whoever was served by this director."""
    lport, server_side = next(LPORTS), traffic.lab.server
    syn = TCP(sport=lport, dport=SERVER_PORT, flags="S", seq=ISN, options=[*as_options(OTHER), (34, b"")])
    forged = IP(src=str(a.LIPS_V4[0]), dst=str(IPV4.rip)) / syn / b"hello"
    with (
        sysctl(server_side, "ipv4/tcp_fastopen", fast_open),
        ipvsca.having("tcpopt_in", segments),
        puppet(traffic.lab) as server,
        Capture(server_side) as capture,
    ):
        server(f"l = create_server(('{IPV4.rip}', {SERVER_PORT})); l.setblocking(False)")
        traffic.director.inject(bytes(forged))
        assert wait_until(lambda: any(not seen.incoming for seen in capture.packets())), "no SYN was answered"
        if shown is None:
            with pytest.raises(RuntimeError, match="temporarily unavailable"):
                server("l.accept()")
        else:
            seen = OTHER if shown == "planted" else Endpoint(a.LIPS_V4[0], lport)
            assert server("l.accept()[1]") == as_tuple(seen)


def test_a_compromised_director_names_whom_it_likes(traffic: Traffic, device: Device) -> None:
    with traffic.serving(ACCEPT, IPV4):
        traffic.direct(IPV4, Toa(Where.BOTH, raw=PLANTED))
        assert connected(traffic, device, Segments()) == "planted"


@pytest.mark.parametrize(("where", "shown"), [(Where.ACK, "client"), (Where.SYN, "client"), (Where.NONE, "planted")])
def test_a_forged_announcement_for_tcp(traffic: Traffic, device: Device, where: Where, shown: str) -> None:
    """It serves a connection that carries no option; where there is one, that counts."""
    with traffic.serving(ACCEPT, IPV4):
        traffic.direct(IPV4, Toa(where))
        client = Client(device, VIP, Segments())
        client.open()
        local = traffic.director.connection(client.endpoint).local
        traffic.director.inject(announcement.build(Announcement(socket.IPPROTO_TCP, local, RIP, OTHER)))
        assert client.ask() == ACCEPT.sees(client.endpoint if shown == "client" else OTHER)


ON = ("tcp_connect", "true")


def connecting_to(other: Endpoint) -> str:
    """For a puppet: it begins to connect, and does not wait for an answer."""
    return f"c = socket(); c.setblocking(False); c.connect_ex({as_tuple(other)})"


def as_tuple(endpoint: Endpoint) -> tuple[str, int]:
    return str(endpoint.address), endpoint.port


def connected_from_within(traffic: Traffic, device: Device) -> tuple[Endpoint, Endpoint]:
    """A client names somebody else, whom the server then connects to: the director's end, and where that SYN went."""
    client = Client(device, VIP, Segments(ack=PLANTED))
    with puppet(traffic.lab) as server, Capture(traffic.lab.server) as capture:
        client.open()
        local = traffic.director.connection(client.endpoint).local
        assert client.ask() == ACCEPT.sees(OTHER)
        server(connecting_to(OTHER))
    return local, syn_destination(capture)


def test_a_connect_of_the_server_to_whom_a_client_has_named(traffic: Traffic, device: Device, ipvsca: Ipvsca) -> None:
    """With `tcp_connect` it does not get there any more, whichever process connects; by default it does."""
    traffic.direct(IPV4, Toa(Where.NONE))
    with traffic.serving(ACCEPT, IPV4):
        _, destination = connected_from_within(traffic, device)
        assert destination == OTHER
        with ipvsca.having(*ON):
            local, destination = connected_from_within(traffic, device)
            assert destination == local


@contextmanager
def named_by_a_user(lab: Lab, lip: Address, other: Endpoint) -> Iterator[int]:
    """In a network namespace as any user can have one, a connection from LIP has named somebody else: its lport.

    A user makes it with `unshare -Urn`, and is root in it. For our programs that makes no difference.
    """
    rip = ip_address("10.70.0.10")
    with (
        Namespace(lab.cgroup.parent) as inside,
        tun(lab, lip, rip, inside) as device,
        sysctl(inside, "ipv4/conf/tun0/route_localnet", "1"),
        puppet(lab, inside) as server,
    ):
        server(f"l = create_server(('{rip}', {SERVER_PORT}))")
        lport = shake_hands(device, lip, rip, None, other)
        assert server("l.accept()[1]") == as_tuple(other)
        yield lport


def test_a_user_who_takes_over_connects_of_the_server(lab: Lab, ipvsca: Ipvsca) -> None:
    """By an address of this server that is in `trusted`, with `tcp_connect` alone."""
    other = Endpoint.of("192.0.2.67", 667)
    with named_by_a_user(lab, IPV4.rip, other), puppet(lab) as server, Capture(lab.server) as capture:
        server(connecting_to(other))
    assert syn_destination(capture) == other
    with ipvsca.having(*ON), named_by_a_user(lab, IPV4.rip, other) as lport, puppet(lab) as server:
        server(f"of_user = create_server(('{IPV4.rip}', {lport}))")
        server(f"c = create_connection({as_tuple(other)})")
        assert server("of_user.accept()[1]") == server("c.getsockname()")
        assert server("c.getpeername()") == as_tuple(other)


def test_a_user_who_tries_it_by_loopback(lab: Lab, ipvsca: Ipvsca) -> None:
    other = Endpoint.of("192.0.2.68", 668)
    with (
        ipvsca.having(*ON),
        named_by_a_user(lab, ip_address("127.0.0.2"), other),
        puppet(lab) as server,
        Capture(lab.server) as capture,
    ):
        server(connecting_to(other))
    assert syn_destination(capture) == other


@dataclass(frozen=True)
class Flow:
    """A UDP flow through the director; its client was announced, and is asked about again and again."""

    server: Puppet
    client: socket.socket
    announced: Announcement

    def shown(self) -> Endpoint:
        """Whom the application sees behind the client's next datagram. The answer arrives, whoever that is."""
        self.client.send(b"question")
        payload, source = self.server("s.recvfrom(99)")
        assert payload == b"question"
        self.server(f"s.sendto(b'answer', {source})")
        assert self.client.recv(99) == b"answer"
        return Endpoint.of(*source)


@pytest.fixture
def flow(datagrams: Datagrams) -> Iterator[Flow]:
    datagrams.direct(ANY, Announce())
    to, rip = Endpoint(ANY.vip, UDP_SERVICE_PORT), Endpoint(ANY.rip, UDP_SERVER_PORT)
    with puppet(datagrams.lab) as server, datagrams.socket(ANY.sources[0], to) as client:
        server(f"s = socket(AF_INET, SOCK_DGRAM); s.bind(('0.0.0.0', {UDP_SERVER_PORT}))")
        client.send(b"first")
        assert server("s.recvfrom(99)") == (b"first", client.getsockname())
        local = datagrams.director.connection(own_address(client)).local
        yield Flow(server, client, Announcement(socket.IPPROTO_UDP, local, rip, own_address(client)))


def test_who_sends_from_a_director_s_address_can_rename_a_flow(datagrams: Datagrams, flow: Flow) -> None:
    """Answers reach the real client all the same, and the director's next announcement mends it."""
    datagrams.director.inject(announcement.build(replace(flow.announced, client=OTHER)))
    assert flow.shown() == OTHER
    datagrams.director.inject(announcement.build(flow.announced))
    assert flow.shown() == own_address(flow.client)


def test_who_sends_from_elsewhere_can_rename_nothing(datagrams: Datagrams, ipvsca: Ipvsca, flow: Flow) -> None:
    stranger = Endpoint(a.CLIENTS_V4[8], flow.announced.director.port)
    with ipvsca.counted(refused_announcement_untrusted=1, announcement_learnt=0):
        datagrams.director.inject(announcement.build(replace(flow.announced, director=stranger, client=OTHER)))
        assert flow.shown() == own_address(flow.client)


def test_an_announcement_in_a_vlan_of_which_this_host_is_no_member(datagrams: Datagrams, flow: Flow) -> None:
    """A filter sees what comes by its interface, in whichever VLAN's tag."""
    echo = announcement.build(replace(flow.announced, client=OTHER))
    with datagrams.lab.director.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("servers", 0))
        wire.send(bytes(Ether(dst=mac_of(datagrams.lab.server, "eth0")) / Dot1Q(vlan=42, type=ETH_P_IP) / echo))
    assert flow.shown() == OTHER


def mac_of(namespace: Namespace, device: str) -> str:
    (link,) = json.loads(namespace.run(["ip", "-json", "link", "show", device]).stdout)
    return str(link["address"])


def test_a_client_s_ip_option_that_the_director_passes_on(datagrams: Datagrams, flow: Flow) -> None:
    """As a director does that writes its own into the first datagrams only, and takes away no client's."""
    local, server = flow.announced.director, flow.announced.server
    packet = IP(src=str(local.address), dst=str(server.address)) / UDP(sport=local.port, dport=server.port) / b"planted"
    datagrams.director.inject(lab_ip.build(*uoa.told(UoaMode.IPO, OTHER, *lab_ip.parse(bytes(packet)))))
    assert flow.server("s.recvfrom(99)") == (b"planted", as_tuple(OTHER))
    assert flow.shown() == OTHER


def test_who_asks_from_a_namespace_of_its_own_is_told_whose_a_flow_is(datagrams: Datagrams, flow: Flow) -> None:
    """The table of flows is one for all network namespaces."""
    lip, lport = as_tuple(flow.announced.director)
    with Namespace(datagrams.lab.cgroup.parent) as inside, puppet(datagrams.lab, inside) as curious:
        inside.run(["ip", "-batch", "-"], input=f"link set lo up\naddress add {lip}/32 dev lo")
        curious(f"s = socket(AF_INET, SOCK_DGRAM); s.bind(('0.0.0.0', {UDP_SERVER_PORT}))")
        curious(f"t = socket(AF_INET, SOCK_DGRAM); t.bind(('{lip}', {lport}))")
        curious(f"t.sendto(b'whose?', ('127.0.0.1', {UDP_SERVER_PORT}))")
        assert curious("s.recvfrom(99)") == (b"whose?", flow.client.getsockname())


PING = """
import socket, sys
target, port, announced = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
ping = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
ping.bind(("", 0x1234))  # the kernel puts a ping socket's port into the identifier
ping.sendto(announced, (target, 0))
ping.recv(99)
speaker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
speaker.bind(("", int(sys.argv[4])))
speaker.sendto(b"hello", (target, port))
"""


NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c"]
LPORT = 40404


@pytest.mark.parametrize(
    ("machine", "address", "shown"),
    [
        ("director", a.SERVER_GATEWAY_V4, OTHER),
        ("server", ANY.rip, Endpoint(ANY.rip, LPORT)),
    ],
    ids=["of a trusted machine", "of the server itself"],
)
def test_a_user_without_privileges(datagrams: Datagrams, machine: str, address: Address, shown: Endpoint) -> None:
    """What pings say is for users to choose, where net.ipv4.ping_group_range lets them ping. Loopback is not read."""
    namespace: Namespace = getattr(datagrams.lab, machine)
    told = Announcement(socket.IPPROTO_UDP, Endpoint(address, LPORT), Endpoint(ANY.rip, UDP_SERVER_PORT), OTHER)
    echo = announcement.build(told)[20:]
    with sysctl(namespace, "ipv4/ping_group_range", "0 65534"), puppet(datagrams.lab) as server:
        server(f"s = socket(AF_INET, SOCK_DGRAM); s.bind(('0.0.0.0', {UDP_SERVER_PORT}))")
        namespace.run([*NOBODY, PING, str(ANY.rip), str(UDP_SERVER_PORT), echo.hex(), str(LPORT)])
        assert server("s.recvfrom(99)") == (b"hello", as_tuple(shown))


def test_a_user_without_privileges_cannot_write_ipo(datagrams: Datagrams) -> None:
    option = build(OTHER, uoa.KIND)
    write = f"import socket; socket.socket(type=socket.SOCK_DGRAM).setsockopt(socket.IPPROTO_IP, 4, {option!r})"
    done = datagrams.lab.server.run([*NOBODY, write], check=False)
    assert "PermissionError" in done.stderr or "Invalid argument" in done.stderr
    assert datagrams.lab.server.run([sys.executable, "-c", write]).stderr == "", "root can"


@contextmanager
def sysctl(namespace: Namespace, name: str, value: str) -> Iterator[None]:
    """A setting of a namespace's network, put back afterwards."""
    file = Path("/proc/sys/net", name)
    with namespace.entered():
        before = file.read_text()
        file.write_text(value)
    try:
        yield
    finally:
        with namespace.entered():
            file.write_text(before)
