"""The director without its I/O: scapy's packets go in, and what comes out is compared with scapy's again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from ipvsca.address import Address, Endpoint
from ipvsca.wire import toa
from tests.lab import addresses as a
from tests.lab.fullnat import Fullnat
from tests.lab.messages import Position, Service, Settings, Toa, Where
from tests.lab.states import State
from tests.lab.tcp_states import TCP_STATES

CLIENT_ISN, SERVER_ISN = 1000, 0xFFFFFFFF  # the server's next number wraps to 0
MSS = ("MSS", 1460)
TIMESTAMP = ("Timestamp", (1, 2))


class Ends(NamedTuple):
    """Who talks to whom, before and behind the director."""

    client: Endpoint
    vip: Endpoint
    local: Endpoint
    real: Endpoint


def ends(client: Address, vip: Address, lip: Address, rip: Address) -> Ends:
    return Ends(Endpoint(client, 40000), Endpoint(vip, 80), Endpoint(lip, 7000), Endpoint(rip, 8000))


V4 = ends(a.CLIENTS_V4[0], a.VIP_V4, a.LIPS_V4[0], a.RIPS_V4[0])
V6 = ends(a.CLIENTS_V6[0], a.VIP_V6, a.LIPS_V6[0], a.RIPS_V6[0])
NAT64 = ends(a.CLIENTS_V6[0], a.VIP_V6, a.LIPS_V4[0], a.RIPS_V4[0])
NAT46 = ends(a.CLIENTS_V4[0], a.VIP_V4, a.LIPS_V6[0], a.RIPS_V6[0])


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A director with one service between these ends, and both sides' packets."""

    def __init__(self, between: Ends, service: Service | None = None, timeouts: Mapping[State, float] = {}) -> None:
        self.ends = between
        self.service = service or service_of(between)
        self.clock = Clock()
        self.fullnat = Fullnat(Settings((self.service,), timeouts), self.clock)

    def from_client(
        self, flags: str, payload: bytes = b"", *, ack: int = 0, client: Endpoint | None = None
    ) -> list[bytes]:
        """What the director sends when the client sends this."""
        segment = tcp(flags, payload, seq=CLIENT_ISN, ack=ack, options=[MSS if "S" in flags else TIMESTAMP])
        return self.fullnat.handle(packet(client or self.ends.client, self.ends.vip, segment))

    def from_server(self, flags: str, payload: bytes = b"") -> list[bytes]:
        """What the director sends when the real server sends this."""
        segment = tcp(flags, payload, seq=SERVER_ISN, ack=CLIENT_ISN + 1, options=[MSS if "S" in flags else TIMESTAMP])
        return self.fullnat.handle(packet(self.ends.real, self.ends.local, segment))

    def handshake(self) -> None:
        self.from_client("S")
        self.from_server("SA")
        self.from_client("A", ack=0)

    def state(self) -> State:
        (connection,) = self.fullnat.connections()
        return connection.state


def service_of(between: Ends) -> Service:
    return Service(
        between.vip,
        (between.real,),
        Toa(Where.NONE),
        (between.local.address,),
        (between.local.port, between.local.port),
    )


def tcp(flags: str, payload: bytes = b"", **fields: object) -> Packet:
    return TCP(flags=flags, **fields) / Raw(payload)


def packet(source: Endpoint, destination: Endpoint, segment: Packet) -> bytes:
    """The segment from one endpoint to another, as scapy builds it."""
    segment = segment.copy()
    segment.sport, segment.dport = source.port, destination.port
    if source.address.version == 6:
        return bytes(IPv6(src=str(source.address), dst=str(destination.address)) / segment)
    return bytes(IP(src=str(source.address), dst=str(destination.address), id=0, flags="DF") / segment)


def dissect(sent: list[bytes]) -> Packet:
    """The only packet that was sent."""
    (only,) = sent
    return (IP if only[0] >> 4 == 4 else IPv6)(only)


def has_option(sent: list[bytes]) -> bool:
    return toa.parse_header(bytes(dissect(sent)[TCP])).verdict is toa.Verdict.FOUND


every_family = pytest.mark.parametrize("between", [V4, V6, NAT64, NAT46], ids=["v4", "v6", "nat64", "nat46"])


@every_family
def test_a_segment_goes_both_ways_with_other_addresses_alone(between: Ends) -> None:
    bench = Bench(between)
    syn = tcp("S", seq=CLIENT_ISN, options=[MSS])
    assert bench.from_client("S") == [packet(between.local, between.real, syn)]
    syn_ack = tcp("SA", seq=SERVER_ISN, ack=CLIENT_ISN + 1, options=[MSS])
    assert bench.from_server("SA") == [packet(between.vip, between.client, syn_ack)]
    data = tcp("PA", b"odd", seq=CLIENT_ISN, ack=0, options=[TIMESTAMP])
    assert bench.from_client("PA", b"odd") == [packet(between.local, between.real, data)]


@every_family
@pytest.mark.parametrize("kind", [toa.KIND_LVS, toa.KIND_DPVS])
def test_the_option_names_the_client(between: Ends, kind: int) -> None:
    bench = Bench(between, replace(service_of(between), toa=Toa(Where.SYN, kind)))
    header = bytes(dissect(bench.from_client("S"))[TCP])
    assert toa.parse_header(header, {kind}).client == between.client


@pytest.mark.parametrize(
    ("where", "on_syn", "on_ack"),
    [(Where.NONE, False, False), (Where.SYN, True, False), (Where.ACK, False, True), (Where.BOTH, True, True)],
)
def test_the_option_is_where_it_was_asked_for(where: Where, on_syn: bool, on_ack: bool) -> None:
    bench = Bench(V4, replace(service_of(V4), toa=Toa(where)))
    assert has_option(bench.from_client("S")) == on_syn
    assert dissect(bench.from_server("SA"))[TCP].options == [("MSS", 1452 if on_ack else 1460)]
    for flags, payload in (("A", b""), ("PA", b"data"), ("PA", b"data again"), ("FA", b"")):
        assert has_option(bench.from_client(flags, payload, ack=0)) == on_ack
    assert not has_option(bench.from_client("R", ack=0))
    assert not has_option(bench.from_client("RA", ack=0))
    assert not has_option(bench.from_client("A", ack=1))


def test_the_mss_leaves_room_for_20_bytes() -> None:
    bench = Bench(NAT64, replace(service_of(NAT64), toa=Toa(Where.ACK)))
    bench.from_client("S")
    assert dissect(bench.from_server("SA"))[TCP].options == [("MSS", 1440)]


def test_an_ack_without_a_handshake_carries_nothing() -> None:
    bench = Bench(V4, replace(service_of(V4), toa=Toa(Where.ACK)))
    bench.from_client("S")
    assert not has_option(bench.from_client("A", ack=0))


def test_an_option_without_room_is_left_out_and_counted() -> None:
    bench = Bench(V6, replace(service_of(V6), toa=Toa(Where.SYN)))
    crowded = tcp("S", seq=CLIENT_ISN, options=[MSS, TIMESTAMP, TIMESTAMP])
    sent = bench.fullnat.handle(packet(V6.client, V6.vip, crowded))
    assert sent == [packet(V6.local, V6.real, crowded)]
    assert bench.fullnat.counters["option_no_room"] == 1


@pytest.mark.parametrize("position", Position)
def test_raw_bytes_are_padded_at_their_end(position: Position) -> None:
    settings = Toa(Where.SYN, position=position, raw=b"\xfe\x08\x01", padding=toa.END_OF_LIST)
    bench = Bench(V4, replace(service_of(V4), toa=settings))
    (sent,) = bench.from_client("S")
    mss = bytes.fromhex("020405b4")
    both = [b"\xfe\x08\x01\x00", mss] if position is Position.FIRST else [mss, b"\xfe\x08\x01\x00"]
    assert sent[40:] == b"".join(both)


def test_the_final_ack_is_lost_once() -> None:
    bench = Bench(V4, replace(service_of(V4), toa=Toa(Where.ACK), lose_final_ack=True))
    bench.from_client("S")
    bench.from_server("SA")
    assert bench.from_client("A", ack=0) == []
    assert bench.state() is State.ESTABLISHED, "it was lost behind the director"
    assert has_option(bench.from_client("A", ack=0))
    assert bench.fullnat.counters["final_ack_lost"] == 1


def test_data_that_ends_the_handshake_is_not_lost() -> None:
    bench = Bench(V4, replace(service_of(V4), lose_final_ack=True))
    bench.from_client("S")
    bench.from_server("SA")
    assert bench.from_client("PA", b"data", ack=0)


def test_a_syn_sent_again_is_the_same_connection() -> None:
    bench = Bench(V4)
    assert bench.from_client("S") == bench.from_client("S")
    assert bench.fullnat.counters["connections"] == 1


def test_a_syn_after_the_end_is_a_new_connection() -> None:
    service = replace(service_of(V4), local_ports=(7000, 7001))
    bench = Bench(V4, service)
    bench.handshake()
    bench.from_client("R", ack=0)
    assert bench.state() is State.CLOSE
    assert dissect(bench.from_client("S"))[TCP].sport == 7001
    assert bench.state() is State.SYN_RECV


def test_real_servers_take_turns() -> None:
    rips = tuple(Endpoint(rip, 8000) for rip in a.RIPS_V4)
    bench = Bench(V4, replace(service_of(V4), real_servers=rips))
    clients = [Endpoint(client, 40000) for client in a.CLIENTS_V4[:2]]
    chosen = [dissect(bench.from_client("S", client=client))[IP].dst for client in clients]
    assert chosen == [str(rip) for rip in a.RIPS_V4]


@pytest.mark.parametrize("state", TCP_STATES)
def test_a_connection_is_forgotten_when_its_states_time_is_over(state: State) -> None:
    """Only the timeout of the state it is in counts, and each packet starts it anew."""
    bench = Bench(V4, timeouts={each: 5.0 if each is state else 1000.0 for each in State})
    bench.from_client("S")
    if state is not State.SYN_RECV:
        bench.from_server("SA")
        bench.from_client("A", ack=0)
    if state is State.CLOSE:
        bench.from_client("R", ack=0)
    if state in (State.FIN_WAIT, State.TIME_WAIT):
        bench.from_server("FA")
    if state in (State.CLOSE_WAIT, State.TIME_WAIT):
        bench.from_client("FA", ack=0)
    assert bench.state() is state
    bench.clock.now = 4.0
    bench.from_server("A")
    bench.clock.now = 8.9
    assert bench.state() is state
    bench.clock.now = 9.0
    assert bench.fullnat.connections() == []


def test_a_shortened_timeout_leaves_the_others() -> None:
    bench = Bench(V4, timeouts={State.ESTABLISHED: 1.0})
    bench.from_client("S")
    bench.clock.now = 59.9
    assert bench.state() is State.SYN_RECV


def test_a_new_configuration_keeps_connections_and_their_service() -> None:
    bench = Bench(V4, replace(service_of(V4), toa=Toa(Where.ACK)))
    bench.from_client("S")
    bench.from_server("SA")
    bench.fullnat.configure(Settings())
    assert has_option(bench.from_client("A", ack=0))
    assert bench.from_client("S", client=Endpoint(a.CLIENTS_V4[1], 40000)) == []
    assert bench.fullnat.counters["dropped_no_service"] == 1


def test_a_new_configuration_bounds_the_table() -> None:
    bench = Bench(V4, replace(service_of(V4), local_ports=(7000, 7009)))
    bench.from_client("S")
    bench.fullnat.configure(Settings((bench.service,), max_connections=1))
    assert bench.from_client("S", client=Endpoint(a.CLIENTS_V4[1], 40000)) == []
    assert bench.fullnat.counters["dropped_table_full"] == 1


STRANGER = Endpoint(a.CLIENTS_V4[5], 50000)


@pytest.mark.parametrize(
    ("stray", "reason"),
    [
        pytest.param(packet(STRANGER, V4.vip, tcp("A")), "no_connection", id="no SYN"),
        pytest.param(packet(STRANGER, V4.vip, tcp("SA")), "no_connection", id="a SYN/ACK"),
        pytest.param(packet(STRANGER, V4.vip, tcp("SR")), "no_connection", id="a SYN with RST"),
        pytest.param(packet(V4.real, V4.local, tcp("SA")), "no_connection", id="from a server, unasked"),
        pytest.param(packet(STRANGER, Endpoint(a.VIP_V4, 81), tcp("S")), "no_service", id="a port without a service"),
        pytest.param(bytes(IP(dst=str(a.VIP_V4)) / ICMP()), "other_protocol", id="a ping"),
        pytest.param(bytes(IP(dst=str(a.VIP_V4), proto=6) / Raw(bytes(19))), "malformed", id="half a TCP header"),
        pytest.param(b"\x45", "malformed", id="half an IP header"),
        pytest.param(bytes(IP(dst=str(a.VIP_V4), flags="MF") / TCP()), "fragment", id="a fragment"),
    ],
)
def test_a_stray_packet_is_dropped_and_counted(stray: bytes, reason: str) -> None:
    bench = Bench(V4)
    assert bench.fullnat.handle(stray) == []
    assert bench.fullnat.counters == {f"dropped_{reason}": 1}
    assert bench.fullnat.connections() == []
