"""What can be watched of the data plane: moments, and how things went between two of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from ipvsca import cost, health, traffic
from ipvsca.cost import Cost
from ipvsca.dataplane import Count, DataPlane
from ipvsca.directors import Director, directors
from ipvsca.health import Finding
from ipvsca.settings import Settings
from ipvsca.traffic import Figure, Reading

_SCANS_SHARE = 20  # no more than a twentieth of the time goes into what is slow to read
_SCAN_AFTER_S = 2.0


@dataclass(frozen=True)
class Moment:
    """What can be read quickly. `costs` is None where the kernel does not measure them."""

    reading: Reading
    counts: Mapping[str, Count]
    max_flows: int
    costs: Mapping[str, Cost] | None

    @property
    def flows(self) -> int:
        return traffic.flows(self.counts, self.max_flows)


@dataclass(frozen=True)
class Surroundings:
    """What takes longer, and changes more slowly."""

    directors: list[Director]
    wrong: list[Finding]


@dataclass(frozen=True)
class View:
    """Two moments, and what is between them."""

    before: Moment
    now: Moment
    around: Surroundings

    @property
    def seconds(self) -> float:
        return self.now.reading.at_s - self.before.reading.at_s

    @property
    def rates(self) -> Mapping[Figure, float]:
        return self.now.reading.rates_since(self.before.reading)

    @property
    def refusals(self) -> list[tuple[Count, float]]:
        """Those that there were, and how many a second there are; the busiest first."""
        found = [
            (count, max(0, count.total - self.before.counts[name].total) / self.seconds)
            for name, count in self.now.counts.items()
            if count.meaning.is_refusal and count.total
        ]
        return sorted(found, key=lambda refused: (-refused[1], -refused[0].total))

    @property
    def costs(self) -> list[tuple[str, Cost]] | None:
        """Of each program, what it cost in between; the dearest first."""
        if self.now.costs is None or self.before.costs is None:
            return None
        before, none = self.before.costs, Cost(0, 0)
        found = [(name, after - before.get(name, none)) for name, after in self.now.costs.items()]
        return sorted(found, key=lambda each: (-each[1].seconds, -each[1].runs))


class Source:
    """Reads what is shown, from the pinned maps."""

    def __init__(self, wanted: Settings, is_measured: bool) -> None:
        self._settings = wanted
        self._is_measured = is_measured
        self._around: Surroundings | None = None
        self._next_scan_s = 0.0

    def moment(self) -> Moment:
        """Raises Problem where nothing is loaded."""
        with DataPlane(self._settings.pin_path) as plane:
            counts = plane.counts()
            costs = cost.costs(self._settings.pin_path) if self._is_measured else None
            return Moment(Reading.of(counts), counts, plane.settings().max_flows, costs)

    def view(self, before: Moment) -> View:
        """From a moment before to now. Raises Problem where nothing is loaded."""
        return View(before, self.moment(), self._surroundings())

    def _surroundings(self) -> Surroundings:
        begun = time.monotonic()
        if self._around is None or begun >= self._next_scan_s:
            with DataPlane(self._settings.pin_path) as plane:
                wrong = [finding for finding in health.attachments(self._settings) if not finding.ok]
                self._around = Surroundings(directors(plane), wrong)
            ended = time.monotonic()
            self._next_scan_s = ended + max(_SCAN_AFTER_S, _SCANS_SHARE * (ended - begun))
        return self._around
