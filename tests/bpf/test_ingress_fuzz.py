"""Mutated packets by the hundred thousand: the tc programs learn and count exactly what the reference says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import pytest
from scapy.layers.inet import TCP

from ipvsca.address import Endpoint
from ipvsca.dataplane import DataPlane
from ipvsca.kernel.programs import INGRESS_ETHERNET, INGRESS_IP, Program
from ipvsca.settings import DEFAULTS
from tests.bpf import layer3, reference
from tests.bpf.cases import ALL
from tests.bpf.ingress import Handshake, Ingress, Outcome
from tests.bpf.mutation import Mutants

BATCH = 250
REFUSALS = {f"refused_syn_{why}" for why in ("malformed", "length", "client", "untrusted", "fragment")}

Judge = Callable[[bytes], Outcome]


@pytest.mark.parametrize(("seed", "batches"), [(1, 1000)])
def test_ethernet(programs: Mapping[Program, int], plane: DataPlane, seed: int, batches: int) -> None:
    cases = [(bytes(case.packet), bytes(case.packet[TCP])) for case in ALL if TCP in case.packet]
    mutants = Mutants(seed, [bytes(case.packet) for case in ALL], [_front(*case) for case in cases])
    ingress = Ingress(programs[INGRESS_ETHERNET], plane)
    _compare(ingress, mutants, batches, lambda packet: reference.expected(packet, DEFAULTS))


@pytest.mark.parametrize(("seed", "batches"), [(2, 400)])
def test_without_link_layer(programs: Mapping[Program, int], plane: DataPlane, seed: int, batches: int) -> None:
    plane.apply(layer3.SETTINGS)
    cases = layer3.packets()
    fronts = [_front(packet, bytes(case.packet[TCP])) for case, packet in cases if TCP in case.packet]
    mutants = Mutants(seed, [packet for _, packet in cases], fronts)
    ingress = Ingress(programs[INGRESS_IP], plane)
    _compare(ingress, mutants, batches, lambda packet: reference.expected(packet, layer3.SETTINGS, ethernet=False))


def _front(packet: bytes, segment: bytes) -> bytes:
    return packet[: packet.index(segment[:16])]


def _compare(ingress: Ingress, mutants: Mutants, batches: int, judge: Judge) -> None:
    total: Counter[str] = Counter()
    packets = iter(mutants)
    for _ in range(batches):
        batch = list(islice(packets, BATCH))
        expected = _together([judge(packet) for packet in batch])
        if ingress.feed(*batch) != expected:
            pytest.fail(_first_difference(ingress, batch, judge))
        total.update(expected.counted)
    assert total.keys() == REFUSALS | {"syn_learnt"}
    assert min(total.values()) >= batches, total


def _together(outcomes: Sequence[Outcome]) -> Outcome:
    learnt: dict[Handshake, Endpoint] = {}
    counted: Counter[str] = Counter()
    for outcome in outcomes:
        learnt.update(outcome.learnt)
        counted.update(outcome.counted)
    return Outcome(learnt, dict(counted))


def _first_difference(ingress: Ingress, batch: Sequence[bytes], judge: Judge) -> str:
    for packet in batch:
        if (outcome := ingress.feed(packet)) != judge(packet):
            return f"{packet.hex()}\n{outcome}, not {judge(packet)}"
    return "packets that are judged alike one by one are not when they come together"
