"""Traffic in a few figures: what the counters add up to, how fast that grows, how full the table of flows is."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ipvsca.dataplane import Count

ALMOST_FULL = 0.9
"""The share of max_flows from which on one should look at it."""


@dataclass(frozen=True)
class Figure:
    """A sum of counters: all those whose names match `counters`."""

    name: str
    label: str
    counters: str

    def total(self, counts: Mapping[str, Count]) -> int:
        return sum(count.total for name, count in counts.items() if re.fullmatch(self.counters, name))


CONNECTIONS_RESTORED = Figure("connections_restored", "TCP connections restored", r"tcp_restored_\w+")
DATAGRAMS_RESTORED = Figure("datagrams_restored", "datagrams restored", r"recvmsg_restored")
DATAGRAMS_SENT_BACK = Figure("datagrams_sent_back", "datagrams sent back", r"sendmsg_redirected")
CONNECTIONS_WITHOUT_CLIENT = Figure("connections_without_client", "TCP connections without a client", r"tcp_no_client")
REFUSALS = Figure("refusals", "refusals", r"refused_\w+")

FIGURES = (
    CONNECTIONS_RESTORED,
    DATAGRAMS_RESTORED,
    DATAGRAMS_SENT_BACK,
    CONNECTIONS_WITHOUT_CLIENT,
    REFUSALS,
)


@dataclass(frozen=True)
class Reading:
    """The figures at a moment: `at_s` is CLOCK_MONOTONIC in seconds."""

    at_s: float
    totals: Mapping[Figure, int]

    @classmethod
    def of(cls, counts: Mapping[str, Count]) -> Reading:
        return cls(time.monotonic(), {figure: figure.total(counts) for figure in FIGURES})

    def rates_since(self, earlier: Reading) -> dict[Figure, float]:
        """How much each figure grew in a second; 0 where counters began anew meanwhile."""
        seconds = self.at_s - earlier.at_s
        return {figure: max(0.0, (total - earlier.totals[figure]) / seconds) for figure, total in self.totals.items()}


def flows(counts: Mapping[str, Count], max_flows: int) -> int:
    """How many flows are in the table, without counting them: as exact as the daemon's last sweep."""
    left = ("flows_taken_over", "flows_expired", "flows_evicted")
    return max(0, min(max_flows, counts["flows_new"].total - sum(counts[name].total for name in left)))


def as_text(rate: float) -> str:
    """Three digits are enough, and a rate that is not 0 is not shown as 0."""
    digits = 0 if rate >= 100 or rate == 0 else 1 if rate >= 1 else 2
    return f"{max(rate, 0.01) if rate else 0:,.{digits}f}"
