"""Mutated packets by the hundred thousand: the programs learn and count exactly what the reference says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from ipvsca.dataplane import DataPlane
from ipvsca.kernel import compiler
from ipvsca.kernel.programs import Program
from ipvsca.settings import DEFAULTS
from tests.bpf import probe
from tests.fuzz import corpus
from tests.fuzz.kinds import KINDS, Kind
from tests.fuzz.sides import Differ, Loaded, agreed, sides_of

BATCH = 250
BATCHES = {
    "syn": 400,
    "ack": 40,
    "announcement": 400,
    "ipo": 300,
    "opp": 300,
    "syn-ip": 400,
    "announcement-ip": 200,
    "uoa-ip": 100,
}
NAMED = {kind.name: kind for kind in KINDS}


@pytest.fixture
def everything(programs: Mapping[Program, int], probes: Any, plane: DataPlane) -> Loaded:
    return Loaded({**programs, probe.TOA: compiler.load(probes, probe.TOA)}, plane)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_mutants(everything: Loaded, kind: Kind) -> None:
    batches = BATCHES[kind.name]
    sides, packets = sides_of(kind, everything), kind.packets(1)
    decided: Counter[str] = Counter()
    for _ in range(batches):
        decided.update(sides.decisions(agreed(sides, list(islice(packets, BATCH)))))
    assert min(decided[name] for name in kind.decisions) >= batches // 2, decided


@pytest.mark.parametrize("name", [name for name in NAMED if corpus.read(name)])
def test_the_corpus_is_decided_as_it_was(everything: Loaded, name: str) -> None:
    sides = sides_of(NAMED[name], everything)
    for kept in corpus.read(name):
        assert corpus.decision(sides.decisions(agreed(sides, [kept.packet]))) == kept.decision, kept.packet.hex()


def test_every_decision_is_in_the_corpus() -> None:
    """But those on a packet that take another one before it."""
    for kind in KINDS:
        if kept := {name for kept in corpus.read(kind.name) for name in kept.decision.split()}:
            assert kind.decisions - kept <= {"flows_replaced", "refused_syn_conflict"}


def test_a_difference_is_told_by_the_packet_that_makes_it(everything: Loaded) -> None:
    """The programs have settings here of which the reference does not know."""
    sides = sides_of(NAMED["announcement"], everything)
    everything.plane.apply(replace(DEFAULTS, trusted=()))
    with pytest.raises(Differ) as differ:
        agreed(sides, list(islice(sides.kind.packets(1), BATCH)))
    (packet,) = differ.value.packets
    said = str(differ.value)
    assert "'announcement_learnt': 1" in said
    assert "'refused_announcement_untrusted': 1" in said
    assert f"python -m tests.fuzz --kind announcement --packets {packet.hex()}" in said
