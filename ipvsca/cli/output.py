"""How values are printed, for people and for scripts."""

from __future__ import annotations

import json
import sys
from typing import Any

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2))


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min`, `5 h`, `2 d`: one unit, no more precise than a person needs."""
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"


def since(seconds: float | None) -> str:
    """`never`, or how long ago."""
    return "never" if seconds is None else f"{duration(seconds)} ago"


def coloured(text: str, code: int) -> str:
    """In an ANSI colour where standard output is a terminal, plain elsewhere."""
    return f"\x1b[{code}m{text}\x1b[0m" if sys.stdout and sys.stdout.isatty() else text
