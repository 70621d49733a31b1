"""Mutated packets by the hundred thousand: the tc programs learn and count exactly what the reference says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from itertools import islice

import pytest
from scapy.layers.inet import TCP

from ipvsca.address import Endpoint
from ipvsca.dataplane import DataPlane
from ipvsca.kernel.programs import INGRESS_ETHERNET, INGRESS_IP, Program
from ipvsca.settings import DEFAULTS
from tests.bpf import layer3, told_packets
from tests.bpf.announced_packets import ELSEWHERE, FRAME, TAGS, framed, tagged
from tests.bpf.announcements import Ends
from tests.bpf.cases import ALL, at
from tests.bpf.ingress import Ingress, Outcome
from tests.bpf.mutation import Mutants, other_announcements, other_datagrams, other_segments
from tests.bpf.reference import expected
from tests.vectors import announcement_vectors, ipo_vectors, opp_vectors

BATCH = 250
SYN_REFUSALS = ("malformed", "length", "client", "untrusted", "fragment", "conflict")
SYNS = {"syn_learnt", *(f"refused_syn_{why}" for why in SYN_REFUSALS)}
BAD_ANNOUNCEMENTS = {
    f"refused_announcement_{why}" for why in ("fragment", "length", "checksum", "malformed", "kind", "client", "host")
}
ANNOUNCEMENTS = BAD_ANNOUNCEMENTS | {
    "refused_announcement_untrusted",
    "announcement_learnt",
    "flows_new",
    "flows_replaced",
}

BAD_IPO = {f"refused_ipo_{why}" for why in ("malformed", "length", "client", "checksum", "host")}
BAD_OPP = {f"refused_opp_{why}" for why in ("malformed", "length", "client", "checksum", "fragment", "host")}
BAD_UOA = BAD_IPO | BAD_OPP
LEARNT_UOA = {"ipo_learnt", "opp_learnt", "flows_new", "flows_replaced"}
UOA = BAD_UOA | LEARNT_UOA | {"refused_ipo_untrusted", "refused_opp_untrusted", "refused_opp_room"}

SERVERS = [Endpoint(IPv4Address(address), port) for address in ("10.80.0.10", "10.80.0.11") for port in (53, 8001)]
SERVERS_V6 = [Endpoint(IPv6Address(address), port) for address in ("fd00:80::10", "fd00:80::11") for port in (53, 8001)]
CLIENTS = [Endpoint(IPv4Address("198.51.100.1") + host, 5000 + host) for host in range(6)]
CLIENTS_V6 = [Endpoint(IPv6Address("2001:db8:c::1") + host, 5000 + host) for host in range(6)]

Judge = Callable[..., Outcome]


def directors(*addresses: str) -> list[Endpoint]:
    return [Endpoint.of(address, 40000 + port) for address in addresses for port in range(6)]


@pytest.mark.parametrize(("seed", "batches"), [(1, 400)])
def test_syns_on_ethernet(programs: Mapping[Program, int], plane: DataPlane, seed: int, batches: int) -> None:
    cases = [(bytes(case.packet), bytes(case.packet[TCP])) for case in ALL if TCP in case.packet]
    segments = other_segments(seed, [_front(*case) for case in cases])
    mutants = Mutants(seed, [bytes(case.packet) for case in ALL], segments)
    ingress = Ingress(programs[INGRESS_ETHERNET], plane)
    counted = _compare(ingress, mutants, batches, partial(expected, settings=DEFAULTS))
    assert counted.keys() >= SYNS
    assert min(counted[name] for name in SYNS) >= batches, counted


@pytest.mark.parametrize(("seed", "batches"), [(2, 400)])
def test_syns_without_link_layer(programs: Mapping[Program, int], plane: DataPlane, seed: int, batches: int) -> None:
    plane.apply(layer3.SETTINGS)
    cases = layer3.packets()
    fronts = [_front(packet, bytes(case.packet[TCP])) for case, packet in cases if TCP in case.packet]
    mutants = Mutants(seed, [packet for _, packet in cases], other_segments(seed, fronts))
    ingress = Ingress(programs[INGRESS_IP], plane)
    counted = _compare(ingress, mutants, batches, partial(expected, settings=layer3.SETTINGS, ethernet=False))
    assert counted.keys() >= SYNS
    assert min(counted[name] for name in SYNS) >= batches, counted


@pytest.mark.parametrize(("seed", "batches"), [(3, 400)])
def test_announcements_on_ethernet(programs: Mapping[Program, int], plane: DataPlane, seed: int, batches: int) -> None:
    ends = Ends(directors("10.90.0.2", "10.90.0.3", "203.0.113.66"), SERVERS, CLIENTS)
    frames = [FRAME] * 6 + [at(FRAME, dst=address) for address in ELSEWHERE.values()]
    fronts = [bytes(tagged(frame, *tags)) for frame in frames for tags in TAGS.values()]
    whole = [framed(vector.packet) for vector in announcement_vectors()]
    mutants = Mutants(seed, whole, other_announcements(seed, fronts, ends))
    ingress = Ingress(programs[INGRESS_ETHERNET], plane)
    counted = _compare(ingress, mutants, batches, partial(expected, settings=DEFAULTS))
    assert counted.keys() >= ANNOUNCEMENTS
    assert min(counted[name] for name in ANNOUNCEMENTS) >= batches, counted


@pytest.mark.parametrize(("seed", "batches"), [(4, 200)])
def test_announcements_without_link_layer(
    programs: Mapping[Program, int], plane: DataPlane, seed: int, batches: int
) -> None:
    """All are refused in the end: the first bytes of an IP header, taken for Ethernet's, never name this host."""
    plane.apply(layer3.SETTINGS)
    ends = Ends(directors("8.0.0.2", "8.0.0.3", "8.0.1.1"), SERVERS, CLIENTS)
    packets = other_announcements(seed, [b""], ends)
    mutants = Mutants(seed, list(islice(packets, BATCH)), packets)
    ingress = Ingress(programs[INGRESS_IP], plane)
    counted = _compare(ingress, mutants, batches, partial(expected, settings=layer3.SETTINGS, ethernet=False))
    assert counted.keys() >= BAD_ANNOUNCEMENTS
    assert min(counted[name] for name in BAD_ANNOUNCEMENTS) >= batches, counted


def datagram_ends(*directors_v4: str) -> list[Ends]:
    clients = [*CLIENTS, *CLIENTS_V6]
    directors_v6 = directors("fd00:90::2", "fd00:90::3", "2001:db8:66::1")
    return [Ends(directors(*directors_v4), SERVERS, clients), Ends(directors_v6, SERVERS_V6, clients)]


@pytest.mark.parametrize(("seed", "batches"), [(5, 600)])
def test_uoa_on_ethernet(programs: Mapping[Program, int], plane: DataPlane, seed: int, batches: int) -> None:
    """What is changed is changed to what the reference says."""
    frames = [FRAME] * 9 + [at(FRAME, dst=address) for address in ELSEWHERE.values()]
    fronts = [
        tuple(told_packets.framed(version, tagged(frame, *tags))[: -len(version)] for version in (b"\x40", b"\x60"))
        for frame in frames
        for tags in [(), (), (), *TAGS.values()]
    ]
    ends = datagram_ends("10.90.0.2", "10.90.0.3", "203.0.113.66")
    whole = [told_packets.framed(vector.packet) for vector in (*ipo_vectors(), *opp_vectors())]
    mutants = Mutants(seed, whole, other_datagrams(seed, fronts, ends))
    ingress = Ingress(programs[INGRESS_ETHERNET], plane)
    counted = _compare(ingress, mutants, batches, partial(expected, settings=DEFAULTS))
    assert counted.keys() >= UOA
    assert min(counted[name] for name in UOA) >= batches, counted


@pytest.mark.parametrize(("seed", "batches"), [(6, 100)])
def test_uoa_without_link_layer(programs: Mapping[Program, int], plane: DataPlane, seed: int, batches: int) -> None:
    """All are refused in the end, as announcements are; what is changed on such devices is seen on a real one."""
    plane.apply(layer3.SETTINGS)
    (ends, _) = datagram_ends("8.0.0.2", "8.0.0.3", "8.0.1.1")
    packets = other_datagrams(seed, [(b"", b"")], [ends])
    mutants = Mutants(seed, list(islice(packets, BATCH)), packets)
    ingress = Ingress(programs[INGRESS_IP], plane)
    counted = _compare(ingress, mutants, batches, partial(expected, settings=layer3.SETTINGS, ethernet=False))
    assert counted.keys() >= BAD_UOA
    assert min(counted[name] for name in BAD_UOA) >= batches // 2, counted


def _front(packet: bytes, segment: bytes) -> bytes:
    return packet[: packet.index(segment[:16])]


def _compare(ingress: Ingress, mutants: Mutants, batches: int, judge: Judge) -> Counter[str]:
    """How often which counter has grown."""
    total: Counter[str] = Counter()
    packets = iter(mutants)
    for _ in range(batches):
        batch = list(islice(packets, BATCH))
        outcome = judge(*batch)
        if ingress.feed(*batch) != outcome:
            pytest.fail(_first_difference(ingress, batch, judge))
        total.update(outcome.counted)
    return total


def _first_difference(ingress: Ingress, batch: Sequence[bytes], judge: Judge) -> str:
    for packet in batch:
        if (outcome := ingress.feed(packet)) != judge(packet):
            return f"{packet.hex()}\n{outcome}, not {judge(packet)}"
    for number in range(2, len(batch) + 1):
        if (outcome := ingress.feed(*batch[:number])) != judge(*batch[:number]):
            return f"{number} packets, the last one {batch[number - 1].hex()}\n{outcome}, not {judge(*batch[:number])}"
    return "packets that are judged alike once are not the next time"
