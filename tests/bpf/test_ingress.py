"""The tc programs learn exactly what a director's SYN says, whatever is around it, and touch nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from scapy.layers.inet import TCP
from scapy.packet import Packet

from ipvsca.dataplane import DataPlane
from ipvsca.kernel.programs import INGRESS_ETHERNET, Program
from ipvsca.settings import DEFAULTS
from ipvsca.wire import toa
from tests.bpf.cases import ALL, LEARNT, LEARNT_V4, NOTHING, STRANGER_V4, STRANGER_V6, Case, at, refused
from tests.bpf.ingress import Handshake, Ingress, Outcome
from tests.bpf.packets import DIRECTOR_V4, DIRECTOR_V6, FRAME, ISN, OPTION_V6, SERVER_V4, V4, V6, syn_v4, syn_v6
from tests.bpf.reference import expected
from tests.bpf.testrun import shortest

MAX_HANDSHAKES = 65536  # of bpf/types.h
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10


@pytest.fixture
def ethernet(programs: Mapping[Program, int], plane: DataPlane) -> Ingress:
    return Ingress(programs[INGRESS_ETHERNET], plane)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.sentence)
def test_case(ethernet: Ingress, case: Case) -> None:
    assert ethernet.feed(case.packet) == case.outcome


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.sentence)
def test_reference_agrees(case: Case) -> None:
    """Otherwise it would be no judge of the mutated packets."""
    assert expected(bytes(case.packet), settings=DEFAULTS) == case.outcome


@pytest.mark.parametrize("case", LEARNT, ids=lambda case: case.sentence)
def test_cut_at_each_byte(ethernet: Ingress, case: Case) -> None:
    """Only a TCP header that is there whole is believed."""
    whole = bytes(case.packet)
    header = whole.index(bytes(case.packet[TCP])[: toa.TCP_HEADER])
    end = header + case.packet[TCP].dataofs * 4
    for length in range(shortest(whole[12:14]), len(whole)):
        if length < header + toa.TCP_HEADER:
            outcome = NOTHING
        elif length < end:
            outcome = refused("malformed")
        else:
            outcome = case.outcome
        assert ethernet.feed(whole[:length]) == outcome, f"cut at {length}"


@pytest.mark.parametrize(("case", "field", "real"), [(LEARNT[0], "len", 48), (LEARNT[1], "plen", 40)], ids=["v4", "v6"])
def test_every_length_that_ip_may_claim(ethernet: Ingress, case: Case, field: str, real: int) -> None:
    """What lies behind the IP packet is not part of it."""
    for length in range(real + 20):
        packet = case.packet.copy()
        setattr(packet.payload, field, length)
        outcome = case.outcome if length >= real else refused("malformed")
        assert ethernet.feed(packet) == outcome, f"length {length}"


def test_every_header_length_that_tcp_may_claim(ethernet: Ingress) -> None:
    """One word is too short for the option that is there, one is long enough for the data behind it."""
    for words in range(16):
        outcome = {5: NOTHING, 6: refused("malformed"), 7: LEARNT_V4, 8: LEARNT_V4}.get(words, refused("malformed"))
        assert ethernet.feed(FRAME / V4 / syn_v4(payload=b"\1\1\1\1", dataofs=words)) == outcome, f"{words} words"


def test_every_combination_of_flags(ethernet: Ingress) -> None:
    for flags in range(256):
        is_syn = flags & (FIN | SYN | RST | ACK) == SYN
        outcome = LEARNT_V4 if is_syn else NOTHING
        assert ethernet.feed(FRAME / V4 / syn_v4(flags=flags)) == outcome, f"flags {flags:#04x}"


def test_a_v4_mapped_source_passes_for_no_director(ethernet: Ingress) -> None:
    """Nobody sends from it, but a forger might, past a filter that knows directors by their IPv4 addresses."""
    packet = FRAME / at(V6, src=f"::ffff:{DIRECTOR_V4.address}") / syn_v6()
    assert ethernet.feed(packet) == expected(bytes(packet), settings=DEFAULTS) == NOTHING


def test_a_syn_sent_again_says_nothing_new(ethernet: Ingress) -> None:
    syn = FRAME / V4 / syn_v4()
    assert ethernet.feed(syn, syn) == replace(LEARNT_V4, counted={"syn_learnt": 2})


@pytest.mark.parametrize("others", range(1, 4))
def test_syns_that_name_different_clients_leave_doubt(ethernet: Ingress, others: int) -> None:
    """One of them may be damaged, or forged: nobody knows which."""
    first, other = FRAME / V4 / syn_v4(), FRAME / V4 / syn_v4(OPTION_V6)
    doubt = dict.fromkeys(LEARNT_V4.learnt)
    counted = {"syn_learnt": 1, "refused_syn_conflict": others}
    assert ethernet.feed(first, *[other] * others) == Outcome(doubt, counted)
    again = {"syn_learnt": 2, "refused_syn_conflict": others}
    assert ethernet.feed(first, *[other] * others, first) == Outcome(doubt, again), "doubt stays"


@pytest.mark.parametrize(
    "other",
    [
        FRAME / V6 / syn_v6(sport=17),
        FRAME / V6 / syn_v6(dport=17),
        FRAME / V6 / syn_v6(seq=17),
        FRAME / at(V6, src="fd00::17") / syn_v6(),
        FRAME / at(V6, dst="fd00::17") / syn_v6(),
    ],
    ids=["lport", "rport", "ISN", "LIP", "RIP"],
)
def test_handshakes_that_differ_in_one_thing_are_two(ethernet: Ingress, other: Packet) -> None:
    assert len(ethernet.feed(FRAME / V6 / syn_v6(), other).learnt) == 2


def test_a_counter_remembers_who_made_it_grow(ethernet: Ingress, plane: DataPlane) -> None:
    ethernet.feed(FRAME / STRANGER_V6 / syn_v6(), FRAME / STRANGER_V4 / syn_v4(), FRAME / V6 / syn_v6())
    counts = plane.counts()
    assert str(counts["refused_syn_untrusted"].last_source) == STRANGER_V4.src
    assert counts["syn_learnt"].last_source == DIRECTOR_V6.address
    assert counts["refused_syn_untrusted"].last_ns <= counts["syn_learnt"].last_ns


def test_a_flood_of_syns_costs_the_oldest_not_the_newest(ethernet: Ingress) -> None:
    """Nothing is refused for want of room, and the table stays in its bounds."""
    template = bytes(FRAME / V4 / syn_v4())
    at_isn = template.index(ISN.to_bytes(4))
    flood = [template[:at_isn] + isn.to_bytes(4) + template[at_isn + 4 :] for isn in range(MAX_HANDSHAKES + 5000)]
    outcome = ethernet.feed(*flood)
    assert outcome.counted == {"syn_learnt": len(flood)}
    assert len(outcome.learnt) <= MAX_HANDSHAKES
    newest = {Handshake(DIRECTOR_V4, SERVER_V4, isn) for isn in range(len(flood) - 1000, len(flood))}
    assert newest <= outcome.learnt.keys()
