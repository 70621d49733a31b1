"""How refusals grow: what the log says of what was not believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ipvsca.dataplane import NANOSECONDS, Count

INTERVAL_S = 60


class Refusals:
    """A line for each reason that was met since the last look, which is INTERVAL_S ago at least."""

    def __init__(self, counts: Mapping[str, Count], now_ns: int) -> None:
        self._counts = counts
        self._looked_ns = now_ns

    def grown(self, counts: Mapping[str, Count], now_ns: int) -> Iterator[str]:
        """Nothing before its time. `now_ns` is of the programs' clock."""
        seconds = (now_ns - self._looked_ns) / NANOSECONDS
        if seconds < INTERVAL_S:
            return
        for name, count in counts.items():
            more = count.total - (self._counts[name].total if name in self._counts else 0)
            if count.meaning.is_refusal and more > 0:
                source = f", last from {count.last_source}" if count.last_source else ""
                yield f"{name} +{more} in {seconds:.0f} s{source}: {count.meaning.help}"
        self._counts, self._looked_ns = counts, now_ns
