"""The clock of our programs, bpf_ktime_get_ns(): CLOCK_MONOTONIC as the first time namespace has it."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

NANOSECONDS = 1_000_000_000

_OFFSETS = Path("/proc/self/timens_offsets")


def now_ns() -> int:
    """Comparable with the times in our maps, also where we are in a time namespace, as a restored container may be."""
    return time.monotonic_ns() - _offset_ns()


@cache
def _offset_ns() -> int:
    """By how much our CLOCK_MONOTONIC is ahead of the first namespace's (time_namespaces(7))."""
    if not _OFFSETS.exists():  # a kernel without time namespaces
        return 0
    words = next(line.split() for line in _OFFSETS.read_text().splitlines() if line.startswith("monotonic"))
    return int(words[1]) * NANOSECONDS + int(words[2])
