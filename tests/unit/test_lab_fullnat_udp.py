"""The director's UDP and its announcements, without I/O: scapy's packets go in, scapy's are expected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, IPv6
from scapy.packet import Packet, Raw

from ipvsca.address import Address, Endpoint
from ipvsca.wire import announcement
from ipvsca.wire.announcement import Announcement
from tests.lab import addresses as a
from tests.lab.fullnat import Fullnat
from tests.lab.messages import ALWAYS, FIRST_ONLY, Announce, Connection, Protocol, Service, Settings
from tests.lab.states import State

PORT = 53
LOCAL_PORTS = (7000, 7009)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A director with these services and both sides' packets; the first client becomes LIP:7000."""

    def __init__(self, *services: Service, timeouts: Mapping[State, float] = {}) -> None:
        self.clock = Clock()
        self.fullnat = Fullnat(Settings(services, timeouts), self.clock)

    def send(self, source: Endpoint, destination: Endpoint, payload: bytes = b"odd", **fields: int) -> list[bytes]:
        return self.fullnat.handle(packet(source, destination, payload, **fields))

    def connection(self) -> Connection:
        (only,) = self.fullnat.connections()
        return only


def packet(source: Endpoint, destination: Endpoint, payload: bytes = b"odd", **fields: int) -> bytes:
    """A datagram from one endpoint to another, as scapy builds it."""
    return bytes(network(source, destination) / UDP(sport=source.port, dport=destination.port, **fields) / Raw(payload))


def network(source: Endpoint, destination: Endpoint) -> Packet:
    if source.address.version == 6:
        return IPv6(src=str(source.address), dst=str(destination.address))
    return IP(src=str(source.address), dst=str(destination.address), id=0, flags="DF")


def service(vip: Address, *rips: Address, announce: Announce | None = None) -> Service:
    return Service(
        Endpoint(vip, PORT),
        tuple(Endpoint(rip, 5300) for rip in rips),
        local_addresses=(a.LIPS_V4[0], a.LIPS_V6[0]),
        local_ports=LOCAL_PORTS,
        protocol=Protocol.UDP,
        announce=announce,
    )


V4 = service(a.VIP_V4, a.RIPS_V4[0])
V6 = service(a.VIP_V6, a.RIPS_V6[0])
NAT64 = service(a.VIP_V6, a.RIPS_V4[0])
NAT46 = service(a.VIP_V4, a.RIPS_V6[0])
every_family = pytest.mark.parametrize("served", [V4, V6, NAT64, NAT46], ids=["v4", "v6", "nat64", "nat46"])

CLIENT, OTHER_CLIENT = (Endpoint(client, 40000) for client in a.CLIENTS_V4[:2])
LOCAL_V4, LOCAL_V6 = Endpoint(a.LIPS_V4[0], LOCAL_PORTS[0]), Endpoint(a.LIPS_V6[0], LOCAL_PORTS[0])
REAL_V4 = V4.real_servers[0]


def ends(served: Service) -> tuple[Endpoint, Endpoint, Endpoint]:
    """The client of the service, its first LIP:lport, and its first real server."""
    client = CLIENT if served.vip.address.version == 4 else Endpoint(a.CLIENTS_V6[0], 40000)
    (real, *_) = served.real_servers
    return client, LOCAL_V4 if real.address.version == 4 else LOCAL_V6, real


def announced(local: Endpoint, client: Endpoint = CLIENT, protocol: Protocol = Protocol.UDP) -> bytes:
    """The announcement of a client, as a director sends it that was told nothing else."""
    return announcement.build(Announcement(protocol, local, REAL_V4, client))


@every_family
@pytest.mark.parametrize("payload", [b"", b"odd"], ids=["empty", "odd"])
def test_a_datagram_goes_both_ways_with_other_addresses_alone(served: Service, payload: bytes) -> None:
    bench = Bench(served)
    client, local, real = ends(served)
    assert bench.send(client, served.vip, payload) == [packet(local, real, payload)]
    assert bench.send(real, local, payload) == [packet(served.vip, client, payload)]
    assert bench.fullnat.counters == {"connections": 1, "to_server": 1, "to_client": 1}
    assert bench.connection() == Connection(Protocol.UDP, client, served.vip, local, real, State.UDP)


def test_no_checksum_stays_none_within_ipv4() -> None:
    bench = Bench(V4)
    assert bench.send(CLIENT, V4.vip, chksum=0) == [packet(LOCAL_V4, REAL_V4, chksum=0)]
    assert bench.send(REAL_V4, LOCAL_V4, chksum=0) == [packet(V4.vip, CLIENT, chksum=0)]


def test_no_checksum_becomes_one_on_the_way_to_ipv6() -> None:
    to_server, to_client = Bench(NAT46), Bench(NAT64)
    assert to_server.send(CLIENT, NAT46.vip, chksum=0) == [packet(LOCAL_V6, NAT46.real_servers[0])]
    client, local, real = ends(NAT64)
    to_client.send(client, NAT64.vip)
    assert to_client.send(real, local, chksum=0) == [packet(NAT64.vip, client)]


def test_clients_have_connections_of_their_own() -> None:
    bench = Bench(V4)
    for number, client in enumerate((CLIENT, OTHER_CLIENT, CLIENT)):
        bench.send(client, V4.vip, bytes([number]))
    locals_ = {connection.client: connection.local for connection in bench.fullnat.connections()}
    assert locals_ == {CLIENT: LOCAL_V4, OTHER_CLIENT: replace(LOCAL_V4, port=7001)}
    for client, local in locals_.items():
        assert bench.send(REAL_V4, local) == [packet(V4.vip, client)]


def test_real_servers_take_turns_and_have_pools_of_their_own() -> None:
    bench = Bench(service(a.VIP_V4, *a.RIPS_V4))
    for client in (CLIENT, OTHER_CLIENT):
        bench.send(client, V4.vip)
    connections = bench.fullnat.connections()
    assert [connection.real.address for connection in connections] == list(a.RIPS_V4)
    assert {connection.local for connection in connections} == {LOCAL_V4}


def test_a_connection_is_forgotten_300_seconds_after_its_last_datagram() -> None:
    bench = Bench(V4)
    bench.send(CLIENT, V4.vip)
    bench.clock.now = 200.0
    bench.send(REAL_V4, LOCAL_V4)
    bench.clock.now = 400.0
    bench.send(CLIENT, V4.vip)
    bench.clock.now = 699.9
    assert bench.connection().local == LOCAL_V4
    bench.clock.now = 700.0
    assert bench.fullnat.connections() == []
    assert bench.send(REAL_V4, LOCAL_V4) == []


def test_the_timeout_can_be_shortened() -> None:
    bench = Bench(V4, timeouts={State.UDP: 5.0})
    bench.send(CLIENT, V4.vip)
    bench.clock.now = 5.0
    assert bench.fullnat.connections() == []


def test_the_same_port_serves_tcp_and_udp() -> None:
    over_tcp = Service(V4.vip, (Endpoint(a.RIPS_V4[1], 80),))
    bench = Bench(V4, over_tcp)
    syn = network(CLIENT, V4.vip) / TCP(sport=CLIENT.port, dport=PORT, flags="S")
    bench.send(CLIENT, V4.vip)
    bench.fullnat.handle(bytes(syn))
    reals = {connection.protocol: connection.real for connection in bench.fullnat.connections()}
    assert reals == {Protocol.UDP: REAL_V4, Protocol.TCP: over_tcp.real_servers[0]}


def test_forgetting_a_client_frees_its_port_and_leaves_the_others() -> None:
    bench = Bench(replace(V4, local_ports=(7000, 7000)), replace(V6, local_ports=(7000, 7000)))
    bench.send(CLIENT, V4.vip)
    bench.send(ends(V6)[0], V6.vip)
    assert bench.send(OTHER_CLIENT, V4.vip) == []
    assert bench.fullnat.counters["dropped_no_local_port"] == 1
    for stranger in (OTHER_CLIENT, replace(CLIENT, port=CLIENT.port + 1)):
        assert bench.fullnat.forget(stranger) == 0
    assert bench.fullnat.forget(CLIENT) == 1
    assert bench.send(OTHER_CLIENT, V4.vip) == [packet(LOCAL_V4, REAL_V4)]
    assert bench.send(REAL_V4, LOCAL_V4) == [packet(V4.vip, OTHER_CLIENT)]
    assert {connection.client for connection in bench.fullnat.connections()} == {OTHER_CLIENT, ends(V6)[0]}


def test_everybody_can_be_forgotten() -> None:
    bench = Bench(V4, Service(V4.vip, (REAL_V4,)))
    syn = network(CLIENT, V4.vip) / TCP(sport=CLIENT.port, dport=PORT, flags="S")
    bench.fullnat.handle(bytes(syn))
    for client in (CLIENT, OTHER_CLIENT):
        bench.send(client, V4.vip)
    assert len(bench.fullnat.connections(CLIENT)) == 2
    assert bench.fullnat.forget() == 3
    assert bench.fullnat.connections() == []


@pytest.mark.parametrize(
    ("every", "ahead_of"),
    [(FIRST_ONLY, {0}), (ALWAYS, {0, 1, 2, 3, 4}), (2, {0, 2, 4}), (3, {0, 3})],
    ids=["first only", "always", "every 2nd", "every 3rd"],
)
def test_an_announcement_goes_ahead_of(every: int, ahead_of: set[int]) -> None:
    bench = Bench(replace(V4, announce=Announce(every)))
    datagram = packet(LOCAL_V4, REAL_V4)
    for number in range(5):
        expected = [announced(LOCAL_V4), datagram] if number in ahead_of else [datagram]
        assert bench.send(CLIENT, V4.vip) == expected
        assert len(bench.send(REAL_V4, LOCAL_V4)) == 1, "none goes to a client, and answers do not count"
    assert bench.fullnat.counters["announcements"] == len(ahead_of)


@pytest.mark.parametrize("kind", [200, 254])
@pytest.mark.parametrize("little_endian", [True, False])
def test_an_announcement_is_as_it_was_asked_for(kind: int, little_endian: bool) -> None:
    bench = Bench(replace(V4, announce=Announce(kind=kind, little_endian=little_endian)))
    sent, _ = bench.send(CLIENT, V4.vip)
    expected = Announcement(Protocol.UDP, LOCAL_V4, REAL_V4, CLIENT, kind)
    assert sent == announcement.build(expected, little_endian=little_endian)


def test_nothing_is_announced_unasked() -> None:
    bench = Bench(V4)
    assert len(bench.send(CLIENT, V4.vip)) == 1
    assert bench.fullnat.counters == {"connections": 1, "to_server": 1}


def test_each_new_flow_is_announced() -> None:
    bench = Bench(replace(V4, announce=Announce(), local_ports=(7000, 7000)))
    bench.send(CLIENT, V4.vip)
    bench.fullnat.forget(CLIENT)
    sent, _ = bench.send(OTHER_CLIENT, V4.vip)
    assert sent == announced(LOCAL_V4, OTHER_CLIENT)


@pytest.mark.parametrize("served", [V6, NAT64, NAT46], ids=["v6", "nat64", "nat46"])
def test_ipv6_cannot_be_announced(served: Service) -> None:
    bench = Bench(replace(served, announce=Announce()))
    client, local, real = ends(served)
    assert bench.send(client, served.vip) == [packet(local, real)]
    assert bench.fullnat.counters["announcement_impossible"] == 1
    assert "announcements" not in bench.fullnat.counters


def test_tcp_is_announced_ahead_of_its_syn() -> None:
    bench = Bench(replace(V4, protocol=Protocol.TCP, announce=Announce()))
    segment = TCP(sport=CLIENT.port, dport=PORT, flags="S", seq=1)
    first, syn = bench.fullnat.handle(bytes(network(CLIENT, V4.vip) / segment))
    assert first == announced(LOCAL_V4, protocol=Protocol.TCP)
    assert IP(syn)[TCP].flags == "S"
    (again,) = bench.fullnat.handle(bytes(network(CLIENT, V4.vip) / segment))
    assert again == syn


def test_answers_to_announcements_are_swallowed_and_counted() -> None:
    bench = Bench(V4)
    reply = network(REAL_V4, LOCAL_V4) / ICMP(type="echo-reply", id=0x3412) / Raw(bytes(14))
    assert bench.fullnat.handle(bytes(reply)) == []
    assert bench.fullnat.counters == {"echo_replies": 1}


@pytest.mark.parametrize(
    ("stray", "reason"),
    [
        pytest.param(packet(REAL_V4, LOCAL_V4), "no_service", id="from a server, unasked"),
        pytest.param(packet(CLIENT, replace(V4.vip, port=54)), "no_service", id="a port without a service"),
        pytest.param(packet(CLIENT, V4.vip, len=100), "malformed", id="longer than its packet"),
        pytest.param(bytes(IP(dst=str(a.VIP_V4), proto=17) / Raw(bytes(7))), "malformed", id="half a header"),
        pytest.param(packet(ends(V6)[0], V6.vip, chksum=0), "malformed", id="IPv6 without a checksum"),
        pytest.param(bytes(IP(dst=str(a.VIP_V4), flags="MF") / UDP(dport=PORT)), "fragment", id="a fragment"),
        pytest.param(bytes(IP(dst=str(a.LIPS_V4[0])) / ICMP()), "other_protocol", id="a ping"),
        pytest.param(bytes(IP(dst=str(a.LIPS_V4[0]), proto=1)), "other_protocol", id="empty ICMP"),
        pytest.param(bytes(IP(dst=str(a.LIPS_V4[0]), proto="gre") / Raw(bytes(8))), "other_protocol", id="GRE"),
        pytest.param(bytes(IPv6(dst=str(a.LIPS_V6[0])) / ICMPv6EchoReply()), "other_protocol", id="ICMPv6"),
    ],
)
def test_a_stray_packet_is_dropped_and_counted(stray: bytes, reason: str) -> None:
    bench = Bench(replace(V4, announce=Announce(ALWAYS)), V6)
    assert bench.fullnat.handle(stray) == []
    assert bench.fullnat.counters == {f"dropped_{reason}": 1}
    assert bench.fullnat.connections() == []
