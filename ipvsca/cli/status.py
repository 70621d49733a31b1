"""How a verb ends: its exit status, and one line on standard error for what a user can mend."""

from __future__ import annotations

import errno
import logging
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
        status = _run(run, *arguments)
        _flush()
        return status
    except Problem as problem:
        log.tell(logging.ERROR, f"ipvsca: {problem}")
        return problem.exit_status
    except BrokenPipeError:  # `ipvsca list | head`
        return 0
    except OSError as error:  # of which no Problem was made: still a line, and no traceback
        log.tell(logging.ERROR, f"ipvsca: {_in_words(error)}")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    finally:
        log.drop_unwritten()


def _run(run: Callable[..., int | None], *arguments: Any) -> int:
    try:
        return run(*arguments) or 0
    except SystemExit as end:  # argparse, after --help and after a wrong word
        return int(end.code or 0)


def _flush() -> None:
    try:
        print(end="", flush=True)  # not sys.stdout.flush(): it is None where standard output is closed
    except OSError as error:  # the disk is full
        error.filename = "standard output"
        raise


def _in_words(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}{_REMEDIES.get(error.errno or 0, '')}" if error.strerror else str(error)
