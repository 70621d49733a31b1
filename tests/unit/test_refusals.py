"""How refusals grow is told once a minute, a line a reason, and nothing where there is nothing to tell."""

from __future__ import annotations

from ipaddress import ip_address

from ipvsca.counters import Meaning
from ipvsca.dataplane import NANOSECONDS, Count
from ipvsca.refusals import INTERVAL_S, Refusals

START_NS = 5 * NANOSECONDS
DUE_NS = START_NS + INTERVAL_S * NANOSECONDS


def counts(**totals: int) -> dict[str, Count]:
    """Each over two CPUs; what ends with _from remembers who it was last."""
    return {
        name: Count(
            Meaning(0, name, f"what {name} means"),
            (total, 0),
            1 if name.endswith("_from") else 0,
            ip_address("10.8.0.9") if name.endswith("_from") else None,
        )
        for name, total in totals.items()
    }


def test_each_reason_that_was_met_is_a_line() -> None:
    refusals = Refusals(counts(refused_a_from=10, refused_b=5, refused_c=7, tcp_restored_ack=0), START_NS)
    now = counts(refused_a_from=822, refused_b=6, refused_c=7, tcp_restored_ack=99)
    assert list(refusals.grown(now, DUE_NS)) == [
        "refused_a_from +812 in 60 s, last from 10.8.0.9: what refused_a_from means",
        "refused_b +1 in 60 s: what refused_b means",
    ]


def test_nothing_before_its_time_and_nothing_is_lost() -> None:
    refusals = Refusals(counts(refused_a=0), START_NS)
    assert list(refusals.grown(counts(refused_a=3), DUE_NS - 1)) == []
    assert list(refusals.grown(counts(refused_a=5), DUE_NS + 7 * NANOSECONDS)) == [
        "refused_a +5 in 67 s: what refused_a means"
    ]
    assert list(refusals.grown(counts(refused_a=9), DUE_NS + 8 * NANOSECONDS)) == []
    assert list(refusals.grown(counts(refused_a=9), DUE_NS + 70 * NANOSECONDS)) == [
        "refused_a +4 in 63 s: what refused_a means"
    ]


def test_counters_that_begin_anew_are_not_told() -> None:
    refusals = Refusals(counts(refused_a=100), START_NS)
    assert list(refusals.grown(counts(refused_a=1), DUE_NS)) == []


def test_a_counter_that_is_new_counts_from_nothing() -> None:
    """Another version was loaded meanwhile."""
    refusals = Refusals({}, START_NS)
    assert list(refusals.grown(counts(refused_a=1), DUE_NS)) == ["refused_a +1 in 60 s: what refused_a means"]
