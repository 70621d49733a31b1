"""What the commands of this folder have in common: a stage, and an exit status that tells whether all was withstood."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from tests.bench.stage import Stage


def play(on: Callable[[Stage], None]) -> int:
    """0 where that ended well; everything is cleaned up in any case."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        with Stage() as stage:
            on(stage)
    except KeyboardInterrupt:
        print("interrupted; everything is cleaned up")
        return 128 + signal.SIGINT
    except (AssertionError, RuntimeError) as failure:
        print(f"FAILED: {failure}")
        return 1
    return 0
