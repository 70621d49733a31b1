"""The kinds of packets that are fuzzed: what they are made of, which program reads them, what may be decided."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import islice

from scapy.layers.inet import TCP

from ipvsca.address import Endpoint
from ipvsca.kernel.programs import INGRESS_ETHERNET, INGRESS_IP, Program
from ipvsca.settings import DEFAULTS, Settings
from ipvsca.wire import toa
from tests.bpf import layer3, probe, told_packets
from tests.bpf.announced_packets import ELSEWHERE, FRAME, TAGS, framed, tagged
from tests.bpf.announcements import Ends
from tests.bpf.cases import ALL, at
from tests.bpf.headers import Headers
from tests.bpf.mutation import Mutants, other_announcements, other_datagrams, other_segments
from tests.fuzz import corpus
from tests.vectors import UoaVector, announcement_vectors, ipo_vectors, opp_vectors, toa_vectors

_SEEDS = 250  # packets that are made, where there are no written ones

_SYNS = {f"refused_syn_{why}" for why in ("malformed", "length", "client", "untrusted", "fragment", "conflict")}
_BAD_ANNOUNCEMENTS = {
    f"refused_announcement_{why}" for why in ("fragment", "length", "checksum", "malformed", "kind", "client", "host")
}
_BAD_IPO = {f"refused_ipo_{why}" for why in ("malformed", "length", "client", "checksum", "host")}
_BAD_OPP = {f"refused_opp_{why}" for why in ("malformed", "length", "client", "checksum", "fragment", "host")}
_FLOWS = {"flows_new", "flows_replaced"}

_SERVERS = [Endpoint(IPv4Address(address), port) for address in ("10.80.0.10", "10.80.0.11") for port in (53, 8001)]
_SERVERS_V6 = [
    Endpoint(IPv6Address(address), port) for address in ("fd00:80::10", "fd00:80::11") for port in (53, 8001)
]
_CLIENTS = [Endpoint(IPv4Address("198.51.100.1") + host, 5000 + host) for host in range(6)]
_CLIENTS_V6 = [Endpoint(IPv6Address("2001:db8:c::1") + host, 5000 + host) for host in range(6)]


@dataclass(frozen=True)
class Kind:
    """Packets of one kind, and the program that reads them."""

    name: str
    program: Program
    packets: Callable[[int], Iterator[bytes]]
    """An endless source, the same for the same seed."""
    decisions: frozenset[str]
    """The counters that some of them reach; for `ack`, which counts nothing, the verdicts."""
    settings: Settings = DEFAULTS


def _syns(seed: int) -> Iterator[bytes]:
    cases = [(bytes(case.packet), bytes(case.packet[TCP])) for case in ALL if TCP in case.packet]
    segments = other_segments(seed, [_front(*case) for case in cases])
    return iter(Mutants(seed, [*(bytes(case.packet) for case in ALL), *corpus.packets("syn")], segments))


def _syns_without_link_layer(seed: int) -> Iterator[bytes]:
    cases = layer3.packets()
    fronts = [_front(packet, bytes(case.packet[TCP])) for case, packet in cases if TCP in case.packet]
    return iter(Mutants(seed, [packet for _, packet in cases], other_segments(seed, fronts)))


def _front(packet: bytes, segment: bytes) -> bytes:
    return packet[: packet.index(segment[:16])]


def _segments(seed: int) -> Iterator[bytes]:
    """TCP headers alone."""
    whole = [*(vector.segment for vector in toa_vectors()), *corpus.packets("ack")]
    return iter(Mutants(seed, whole, iter(Headers(seed, toa.DEFAULT_KINDS))))


def _announcements(seed: int) -> Iterator[bytes]:
    ends = Ends(_directors("10.90.0.2", "10.90.0.3", "203.0.113.66"), _SERVERS, _CLIENTS)
    frames = [FRAME] * 6 + [at(FRAME, dst=address) for address in ELSEWHERE.values()]
    fronts = [bytes(tagged(frame, *tags)) for frame in frames for tags in TAGS.values()]
    whole = [*(framed(vector.packet) for vector in announcement_vectors()), *corpus.packets("announcement")]
    return iter(Mutants(seed, whole, other_announcements(seed, fronts, ends)))


def _announcements_without_link_layer(seed: int) -> Iterator[bytes]:
    """All are refused in the end: the first bytes of an IP header, taken for Ethernet's, never name this host."""
    ends = Ends(_directors("8.0.0.2", "8.0.0.3", "8.0.1.1"), _SERVERS, _CLIENTS)
    packets = other_announcements(seed, [b""], ends)
    return iter(Mutants(seed, list(islice(packets, _SEEDS)), packets))


def _ipo(seed: int) -> Iterator[bytes]:
    (ends, _) = _datagram_ends("10.90.0.2", "10.90.0.3", "203.0.113.66")
    return _uoa(seed, "ipo", ipo_vectors(), [ends], 1)


def _opp(seed: int) -> Iterator[bytes]:
    return _uoa(seed, "opp", opp_vectors(), _datagram_ends("10.90.0.2", "10.90.0.3", "203.0.113.66"), 0)


def _uoa(seed: int, name: str, vectors: list[UoaVector], ends: list[Ends], ipo: float) -> Iterator[bytes]:
    frames = [FRAME] * 9 + [at(FRAME, dst=address) for address in ELSEWHERE.values()]
    fronts = [
        (
            told_packets.framed(b"\x40", tagged(frame, *tags))[:-1],
            told_packets.framed(b"\x60", tagged(frame, *tags))[:-1],
        )
        for frame in frames
        for tags in [(), (), (), *TAGS.values()]
    ]
    whole = [*(told_packets.framed(vector.packet) for vector in vectors), *corpus.packets(name)]
    return iter(Mutants(seed, whole, other_datagrams(seed, fronts, ends, ipo)))


def _uoa_without_link_layer(seed: int) -> Iterator[bytes]:
    """All are refused in the end, as announcements are; what is changed on such devices is seen on a real one."""
    (ends, _) = _datagram_ends("8.0.0.2", "8.0.0.3", "8.0.1.1")
    packets = other_datagrams(seed, [(b"", b"")], [ends])
    return iter(Mutants(seed, list(islice(packets, _SEEDS)), packets))


def _datagram_ends(*directors_v4: str) -> list[Ends]:
    """With IPv4, and with IPv6."""
    clients = [*_CLIENTS, *_CLIENTS_V6]
    directors_v6 = _directors("fd00:90::2", "fd00:90::3", "2001:db8:66::1")
    return [Ends(_directors(*directors_v4), _SERVERS, clients), Ends(directors_v6, _SERVERS_V6, clients)]


def _directors(*addresses: str) -> list[Endpoint]:
    return [Endpoint.of(address, 40000 + port) for address in addresses for port in range(6)]


_SYN_DECISIONS = frozenset(_SYNS | {"syn_learnt"})

KINDS = (
    Kind("syn", INGRESS_ETHERNET, _syns, _SYN_DECISIONS),
    Kind("ack", probe.TOA, _segments, frozenset(verdict.name.lower() for verdict in toa.Verdict)),
    Kind(
        "announcement",
        INGRESS_ETHERNET,
        _announcements,
        frozenset(_BAD_ANNOUNCEMENTS | _FLOWS | {"refused_announcement_untrusted", "announcement_learnt"}),
    ),
    Kind("ipo", INGRESS_ETHERNET, _ipo, frozenset(_BAD_IPO | _FLOWS | {"refused_ipo_untrusted", "ipo_learnt"})),
    Kind(
        "opp",
        INGRESS_ETHERNET,
        _opp,
        frozenset(_BAD_OPP | _FLOWS | {"refused_opp_untrusted", "refused_opp_room", "opp_learnt"}),
    ),
    Kind("syn-ip", INGRESS_IP, _syns_without_link_layer, _SYN_DECISIONS, layer3.SETTINGS),
    Kind(
        "announcement-ip",
        INGRESS_IP,
        _announcements_without_link_layer,
        frozenset(_BAD_ANNOUNCEMENTS),
        layer3.SETTINGS,
    ),
    Kind("uoa-ip", INGRESS_IP, _uoa_without_link_layer, frozenset(_BAD_IPO | _BAD_OPP), layer3.SETTINGS),
)
"""Those that end in -ip are for devices without a link layer."""
