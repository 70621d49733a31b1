"""What the program that answers DPVS's lookup calls costs every other getsockopt of its cgroup.

One process makes the calls all the time, on the same socket, while the program is attached and taken off again, so a
pair of measurements differs in nothing else. Printed is processor time: the medians, and the ratio of a pair: median,
least, most. An empty program shows which part of it is the kernel's.

    sudo .venv/bin/python -m tests.bench.getsockopt
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

from ipvsca.kernel import bpf, compiler
from ipvsca.kernel.programs import LOOKUP
from ipvsca.settings import DEFAULTS
from tests.lab import sandbox
from tests.lab.namespace import JOIN_CGROUP

SOURCE = Path(__file__).with_suffix(".c")
OPTIONS = ("SO_ERROR", "TCP_NODELAY", "IP_TOS", "TCP_INFO")
"""As SOURCE has them."""

Times = tuple[float, ...]
"""Nanoseconds a call, of each of OPTIONS."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--calls", type=int, default=200_000, help="of each option, in one measurement")
    parsed = parser.parse_args()
    with (
        sandbox.bpffs() as maps,
        sandbox.cgroup() as ours,
        sandbox.cgroup() as other,
        _caller(ours, parsed.calls) as measure,
        _programs(maps) as (lookup, empty),
    ):
        measure()
        for what, program, cgroup in (
            ("ipvsca_lookup", lookup, ours),
            ("an empty program", empty, ours),
            ("ipvsca_lookup elsewhere", lookup, other),
        ):
            _print(what, [_pair(measure, program, cgroup, bool(number % 2)) for number in range(parsed.pairs)])


@contextmanager
def _caller(cgroup: Path, calls: int) -> Iterator[Callable[[], Times]]:
    """The process that calls, in a cgroup; gives what makes it measure once."""
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder, "getsockopt")
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", built, SOURCE], check=True)
        argv: list[str | Path] = ["sh", "-c", JOIN_CGROUP, cgroup, built, str(calls)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            stdin, stdout = process.stdin, process.stdout
            assert stdin
            assert stdout

            def measure() -> Times:
                stdin.write("\n")
                stdin.flush()
                return tuple(map(float, stdout.readline().split()))

            yield measure
            stdin.close()


@contextmanager
def _programs(maps: Path) -> Iterator[tuple[int, int]]:
    """Ours, and one that does nothing."""
    with (
        compiler.loaded_programs(maps, DEFAULTS.max_flows, [LOOKUP]) as (programs, _),
        compiler.compiled("int empty(struct bpf_sockopt *call) { return 1; }", maps, DEFAULTS.max_flows) as module,
    ):
        yield programs[LOOKUP], compiler.load(module, replace(LOOKUP, name="empty"))


def _pair(measure: Callable[[], Times], program: int, cgroup: Path, with_first: bool) -> tuple[Times, Times]:
    """Without the program and with it on a cgroup; in which order is the caller's choice."""
    without = None if with_first else measure()
    with _attached(program, cgroup):
        with_ = measure()
    return without or measure(), with_


@contextmanager
def _attached(program: int, cgroup: Path) -> Iterator[None]:
    assert LOOKUP.attach is not None
    folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    link = bpf.link_create(program, folder, LOOKUP.attach)
    try:
        yield
    finally:
        os.close(link)
        os.close(folder)


def _print(what: str, pairs: list[tuple[Times, Times]]) -> None:
    print(f"{what:28} without     with    added   ratio (least - most of {len(pairs)} pairs)")
    for index, option in enumerate(OPTIONS):
        without, with_ = ([times[index] for times in side] for side in zip(*pairs, strict=True))
        ratios = [after / before for before, after in zip(without, with_, strict=True)]
        added = median(after - before for before, after in zip(without, with_, strict=True))
        print(
            f"  {option:26} {median(without):4.0f} ns  {median(with_):4.0f} ns {added:+5.0f} ns"
            f"   {median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
