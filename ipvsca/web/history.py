"""The figures of the last minutes, so that whoever opens the page sees rates at once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise

from ipvsca.dataplane import DataPlane
from ipvsca.errors import Problem
from ipvsca.settings import Settings
from ipvsca.traffic import Figure, Reading

INTERVAL_S = 5.0
_MOST = 121  # readings: ten minutes


class History:
    """Readings, INTERVAL_S apart. One thread takes them, any may ask."""

    def __init__(self) -> None:
        self._readings: tuple[Reading, ...] = ()

    def take(self, settings: Settings) -> None:
        """Read the figures, where the last time was long enough ago. Where nothing is loaded, forget all."""
        if self._readings and time.monotonic() - self._readings[-1].at_s < INTERVAL_S:
            return
        try:
            with DataPlane(settings.pin_path) as plane:
                self._readings = (*self._readings, Reading.of(plane.counts()))[-_MOST:]
        except (Problem, OSError):
            self._readings = ()

    def rates(self) -> Mapping[Figure, float] | None:
        """Per second, over the last two intervals; None while there is only one reading."""
        readings = self._readings[-3:]
        return readings[-1].rates_since(readings[0]) if len(readings) > 1 else None

    def course(self, figure: Figure) -> Sequence[float]:
        """A figure's rate in each interval, the last one last."""
        return [later.rates_since(earlier)[figure] for earlier, later in pairwise(self._readings)]
