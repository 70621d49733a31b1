"""Where measurements are repeated in turn and what is made of their figures: the bench's only statistics."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Samples = dict[str, list[float]]
"""What was measured for each variant, round by round."""


@dataclass(frozen=True)
class Spread:
    """The median of some figures, the lowest and the highest.

    Of seven or more independent figures, the true median lies between the lowest and the highest with 98 % certainty.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        return cls(statistics.median(figures), min(figures), max(figures))


def interleaved(
    measures: Mapping[str, Callable[[], float]],
    rounds: int,
    watch: Callable[[int, Mapping[str, float]], None] = lambda *_: None,
) -> Samples:
    """Measure each variant once in every round, in turn forwards and backwards: A B, B A, A B, ...

    What drifts, or disturbs for longer than a measurement, so meets all variants alike, and what is switched on for a
    variant stays on over two measurements. `watch` is called after each round with its number and its figures.
    """
    samples: Samples = {variant: [] for variant in measures}
    order = list(measures)
    for number in range(rounds):
        for variant in order:
            samples[variant].append(measures[variant]())
        order.reverse()
        watch(number, {variant: figures[-1] for variant, figures in samples.items()})
    return samples


def ratios(samples: Mapping[str, Sequence[float]], variant: str, base: str) -> list[float]:
    """Of each round, so that two figures of the same moment are compared."""
    return [figure / other for figure, other in zip(samples[variant], samples[base], strict=True)]
