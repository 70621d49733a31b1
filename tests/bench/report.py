"""Tables and plots of what a run has recorded, for terminals and documents. Computes nothing but medians and ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from tests.bench import plot
from tests.bench.hooks import COST
from tests.bench.records import Record, Results
from tests.bench.rounds import Spread, ratios
from tests.bench.table import Table
from tests.bench.targets import TARGETS

COMPARISONS = {"tcp": "TCP", "udp": "UDP", "proxy": "ipvsca and PROXY protocol"}
"""Parts in which variants are compared with each other."""
COSTS = {"hooks": "Each hook's cost", "parts": "What hooks are made of"}
"""Parts in which a thing has a cost, and measuring it another."""
GROWTH = {"flows": "Growth: UDP flows", "connections": "Growth: TCP connections"}
"""Parts in which a variant is a number of flows or connections."""


def tables(results: Results) -> dict[str, Table]:
    """By name, as a document's markers have it."""
    found = {part: _comparison(title, results.of(part)) for part, title in COMPARISONS.items() if results.of(part)}
    found |= {part: _costs(title, results.of(part)) for part, title in COSTS.items() if results.of(part)}
    found |= {part: _growth(title, results.of(part)) for part, title in GROWTH.items() if results.of(part)}
    if loads := results.of("load"):
        found["load"] = _loads(loads)
    found["addresses"] = _addresses(results)
    found["machine"] = _machine(results)
    return found


def plots(results: Results) -> dict[str, str]:
    """SVG documents by name."""
    compared = _compared(results.of("tcp") | results.of("udp"))
    proxied = _compared(results.of("proxy"))
    costs = [(what, Spread.of(variants[COST].samples)) for what, variants in results.of("hooks").items()]
    grown = {
        what: {int(flows): Spread.of(record.samples).median for flows, record in variants.items()}
        for what, variants in results.of("flows").items()
        if next(iter(variants.values())).unit == "ns"
    }
    return {
        "ratios": plot.dots("With ipvsca, compared with nothing loaded (1 is the same)", compared, 1.0),
        "proxy": plot.dots("Compared with nothing at all, where the director is seen (1 is the same)", proxied, 1.0),
        "hooks": plot.dots("Nanoseconds", costs),
        "flows": plot.lines("Nanoseconds a call, by number of flows", grown),
    }


def _comparison(title: str, things: Mapping[str, Mapping[str, Record]]) -> Table:
    variants = list(next(iter(things.values())))
    compared = list(combinations(variants, 2))
    columns = ["", *variants, *(f"{variant} / {base}" for base, variant in compared), "target"]
    rows = []
    for what, records in things.items():
        samples = _samples(records)
        unit = records[variants[0]].unit
        medians = [f"{_figure(Spread.of(samples[variant]).median)} {unit}" for variant in variants]
        spreads = [_spread(Spread.of(ratios(samples, variant, base))) for base, variant in compared]
        rows.append([what, *medians, *spreads, TARGETS.get(what, "")])
    return Table(title, columns, rows)


def _costs(title: str, things: Mapping[str, Mapping[str, Record]]) -> Table:
    rows = [
        [what, _spread(Spread.of(records[COST].samples), " ns"), TARGETS.get(what, "")]
        for what, records in things.items()
    ]
    return Table(title, ["", "median (lowest to highest)", "target"], rows)


def _growth(title: str, things: Mapping[str, Mapping[str, Record]]) -> Table:
    sizes = list(next(iter(things.values())))
    rows = [
        [
            f"{what}, {records[sizes[0]].unit}",
            *(_figure(Spread.of(records[size].samples).median) for size in sizes),
            TARGETS.get(what, ""),
        ]
        for what, records in things.items()
    ]
    return Table(title, ["", *(f"{int(size):,}" for size in sizes), "target"], rows)


def _loads(things: Mapping[str, Mapping[str, Record]]) -> Table:
    rows = [
        [
            f"{what}, {variant}",
            _spread(Spread.of(record.samples), f" {record.unit}"),
            TARGETS.get(f"{what}, {variant}", ""),
        ]
        for what, records in things.items()
        for variant, record in records.items()
    ]
    return Table("Loading", ["", "median (lowest to highest)", "target"], rows)


def _addresses(results: Results) -> Table:
    rows = [
        [part, *(f"{number:,}" for number in (judged.right, judged.wrong, judged.missing, judged.failed))]
        for part, judged in results.judged.items()
    ]
    return Table("Addresses that servers saw", ["", "right", "wrong", "missing", "no answer"], rows)


def _machine(results: Results) -> Table:
    facts = results.machine | results.command
    return Table("This run", ["", ""], [[name.replace("_", " "), str(fact)] for name, fact in facts.items()])


def _samples(records: Mapping[str, Record]) -> dict[str, Sequence[float]]:
    return {variant: record.samples for variant, record in records.items()}


def _compared(things: Mapping[str, Mapping[str, Record]]) -> list[tuple[str, Spread]]:
    """Each variant's ratio to the first one."""
    return [
        (f"{what}, {variant}", Spread.of(ratios(_samples(variants), variant, next(iter(variants)))))
        for what, variants in things.items()
        for variant in list(variants)[1:]
    ]


def _spread(spread: Spread, unit: str = "") -> str:
    return f"{_figure(spread.median)}{unit} ({_figure(spread.low)} to {_figure(spread.high)})"


def _figure(figure: float) -> str:
    """With three digits, or all that stand before the point."""
    if abs(figure) >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.1f}" if abs(figure) >= 10 else f"{figure:.3f}"
