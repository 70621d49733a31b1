"""A run under way: what it plays on, how long and how often it measures, what it has measured so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from tests.bench.programs import Where
from tests.bench.records import Judged, Results
from tests.bench.rounds import Samples, Spread, interleaved
from tests.bench.stage import Attached, Stage


@dataclass
class Bench:
    """Every part gets this one."""

    stage: Stage
    results: Results
    rounds: int
    seconds: int
    """How long one measurement takes."""
    where: Where
    """The segments that carry the option."""

    def compare(self, part: str, what: str, unit: str, measure: Callable[[bool], float]) -> None:
        """With nothing, empty programs and ipvsca, round by round; `measure` is told whether addresses are restored."""

        def measured(attached: Attached) -> float:
            self.stage.have(attached)
            return measure(attached is Attached.IPVSCA)

        self.interleave(part, what, unit, {attached.value: partial(measured, attached) for attached in Attached})

    def interleave(self, part: str, what: str, unit: str, measures: Mapping[str, Callable[[], float]]) -> Samples:
        """Measure variants in turn, and keep what comes out; says after each round what that was."""

        def watch(number: int, figures: Mapping[str, float]) -> None:
            said = ", ".join(f"{variant} {figure:.5g}" for variant, figure in figures.items())
            self.say(f"{part}: {what} ({number + 1} of {self.rounds}): {said} {unit}")

        samples = interleaved(measures, self.rounds, watch)
        self.results.keep(part, what, unit, samples)
        return samples

    def keep(self, part: str, what: str, unit: str, samples: Mapping[str, Sequence[float]]) -> None:
        """Figures that are whole, and say what they are."""
        self.results.keep(part, what, unit, samples)
        said = ", ".join(f"{variant} {Spread.of(figures).median:.5g}" for variant, figures in samples.items())
        self.say(f"{part}: {what}: {said} {unit}")

    @contextmanager
    def judged_by_counters(self, part: str, restored: bool) -> Iterator[None]:
        """For clients that cannot tell whether a server saw them right: what ipvsca itself counts inside the block."""
        before = self.stage.ipvsca.counts() if restored else {}
        yield
        if restored:
            after = self.stage.ipvsca.counts()
            grown = {name: count - before[name] for name, count in after.items()}
            right = sum(count for name, count in grown.items() if name.startswith("tcp_restored"))
            wrong = sum(count for name, count in grown.items() if name.startswith("refused"))
            self.results.judge(part, Judged(right, wrong, grown["tcp_no_client"]))

    def say(self, text: str) -> None:
        """What goes on, for people who wait."""
        print(text, flush=True)
