"""The command line: fuzz for a while, run some packets once more, or collect the corpus anew."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from ipvsca.errors import Problem
from tests.fuzz import corpus
from tests.fuzz.corpus import Kept
from tests.fuzz.kinds import KINDS, Kind
from tests.fuzz.sides import Differ, Loaded, Sides, agreed, loaded, sides_of

BATCH = 250  # packets between two looks at all that was learnt
TURN = 40  # batches of a kind before the next kind's
SAY_EVERY_S = 10
COLLECTED = 20_000  # packets of a kind that are looked at for the corpus

NAMES = {kind.name: kind for kind in KINDS}


class Fuzzing:
    """A run under way: what was decided so far, by kind."""

    def __init__(self, loaded: Loaded, kinds: Sequence[Kind], seed: int) -> None:
        self._loaded = loaded
        self._sources = {kind: kind.packets(seed) for kind in kinds}
        self.decided: dict[Kind, Counter[str]] = {kind: Counter() for kind in kinds}
        self.fed: Counter[Kind] = Counter()

    def turn(self, kind: Kind) -> None:
        """Some batches of a kind. Raises Differ."""
        sides = sides_of(kind, self._loaded)
        for _ in range(TURN):
            batch = list(islice(self._sources[kind], BATCH))
            self.decided[kind].update(sides.decisions(agreed(sides, batch)))
            self.fed[kind] += BATCH


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where BPF and Python agreed on everything; Ctrl-C ends it sooner."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.packets and not options.kind:
        parser.error("--packets are of one --kind")
    kinds = [NAMES[options.kind]] if options.kind else KINDS
    try:
        with loaded() as programs:
            if options.packets:
                print(f"BPF and Python agree: {agreed(sides_of(kinds[0], programs), options.packets)}")
                return 0
            if options.collect:
                for kind in KINDS:
                    _collect(sides_of(kind, programs), options.seed)
                return 0
            _fuzz(Fuzzing(programs, kinds, options.seed), options.seconds, options.count, options.seed)
    except (Problem, Differ) as problem:
        print(problem)
        return 1
    return 0


def _fuzz(fuzzing: Fuzzing, seconds: float, count: int, seed: int) -> None:
    began = said = time.monotonic()
    turns = _in_turn(list(fuzzing.decided))
    with suppress(KeyboardInterrupt):
        while fuzzing.fed.total() < count and time.monotonic() < began + seconds:
            fuzzing.turn(next(turns))
            if time.monotonic() > said + SAY_EVERY_S:
                said = time.monotonic()
                print(_rate(fuzzing.fed.total(), said - began), flush=True)
    took = time.monotonic() - began
    for kind, decided in fuzzing.decided.items():
        print(f"\n{kind.name:34} {fuzzing.fed[kind]:12,} packets")
        for name, times in sorted(decided.items()):
            print(f"  {name:32} {times:12,}")
    print(f"\n{_rate(fuzzing.fed.total(), took)}, {took:.0f} s, seed {seed}")
    print("BPF and Python agreed on every one; none was stopped, and none changed but by taking opp's header away")


def _rate(packets: int, seconds: float) -> str:
    return f"{packets:,} packets, {packets / seconds:,.0f} a second"


def _in_turn(kinds: Sequence[Kind]) -> Iterator[Kind]:
    while True:
        yield from kinds


def _collect(sides: Sides[Any], seed: int) -> None:
    """Add the shortest packets of each decision to a kind's corpus, where it has one."""
    name = sides.kind.name
    if name.endswith("-ip"):
        return
    known = [*corpus.packets(name), *islice(sides.kind.packets(seed), COLLECTED)]
    kept = (Kept(corpus.decision(sides.decisions(sides.python(packet))), packet) for packet in known)
    corpus.write(name, corpus.shortest(kept))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long; default: %(default)s")
    parser.add_argument("--count", type=int, default=sys.maxsize, help="how many packets at the most")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="default: another one each time")
    parser.add_argument("--kind", choices=NAMES, help="default: all in turn")
    parser.add_argument("--packets", type=bytes.fromhex, nargs="+", metavar="HEX", help="run these, of --kind")
    parser.add_argument("--collect", action="store_true", help="add what is found to the corpus")
    return parser


if __name__ == "__main__":
    sys.exit(main())
