"""How values are printed, for people and for scripts."""

from __future__ import annotations

import json
import sys
from typing import Any


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2))


def coloured(text: str, code: int) -> str:
    """In an ANSI colour where standard output is a terminal, plain elsewhere."""
    return f"\x1b[{code}m{text}\x1b[0m" if sys.stdout and sys.stdout.isatty() else text
