"""The counters' names and meanings, read from bpf/counters.h: the only list there is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from ipvsca.kernel import source

_COUNTER = re.compile(r'COUNTER\((\w+),\s*"([^"]+)"\)')


@dataclass(frozen=True)
class Meaning:
    """One counter. `name` is its name everywhere, `help` says what one more of it means."""

    index: int
    name: str
    help: str

    @property
    def is_refusal(self) -> bool:
        return self.name.startswith("refused_")


MAX_COUNTERS = 128
"""Entries of the map: MAX_COUNTERS of bpf/counters.h."""

SWEPT = {
    "expired": Meaning(-1, "flows_expired", "flows forgotten because their time had run out"),
    "evicted": Meaning(-1, "flows_evicted", "flows dropped by the kernel to make room for new ones"),
}
"""What the daemon counts, by its name in struct swept of bpf/types.h: programs do not see it."""


@cache
def meanings() -> tuple[Meaning, ...]:
    """Every counter, in the order of enum counter_id."""
    header = (source.folder() / "counters.h").read_text()
    return tuple(Meaning(index, *match) for index, match in enumerate(_COUNTER.findall(header)))
