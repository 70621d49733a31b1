"""How a verb ends: its exit status, and one line on standard error for what a user can mend."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from ipvsca import log
from ipvsca.errors import Problem

_INTERRUPTED = 130
_SHORT = " (this machine, or the memory cgroup that this runs in, has no more memory for it)"
_REMEDIES = {errno.ENOMEM: _SHORT, errno.ENOBUFS: _SHORT}


def status_of(run: Callable[..., int | None], *arguments: Any) -> int:
    """Run something to its end; gives the exit status."""
    try:
        status = _status(run, *arguments)
        print(end="", flush=True)  # not sys.stdout.flush(): it is None where standard output is closed
    except BrokenPipeError:  # `ipvsca list | head`
        # Python writes once more what is left, as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _status(run: Callable[..., int | None], *arguments: Any) -> int:
    try:
        return run(*arguments) or 0
    except Problem as problem:
        print(f"{log.marked(logging.ERROR)}ipvsca: {problem}", file=sys.stderr)
        return problem.exit_status
    except BrokenPipeError:
        raise
    except OSError as error:  # of which no Problem was made: still a line, and no traceback
        print(f"{log.marked(logging.ERROR)}ipvsca: {_in_words(error)}", file=sys.stderr)
        return 1
    except SystemExit as end:  # argparse, after --help and after a wrong word
        return int(end.code or 0)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _in_words(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}{_REMEDIES.get(error.errno or 0, '')}" if error.strerror else str(error)
