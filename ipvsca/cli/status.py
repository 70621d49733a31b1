"""How a verb ends: its exit status, and one line on standard error for what a user can mend."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from ipvsca.errors import Problem

_INTERRUPTED = 130


def status_of(run: Callable[[argparse.Namespace], int | None], parsed: argparse.Namespace) -> int:
    """Run a verb to its end; gives the exit status."""
    try:
        status = run(parsed)
        sys.stdout.flush()
    except Problem as problem:
        print(f"ipvsca: {problem}", file=sys.stderr)
        return problem.exit_status
    except BrokenPipeError:  # `ipvsca list | head`
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status or 0
