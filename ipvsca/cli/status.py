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
    status = 0
    try:
        status = _status(run, *arguments)
        print(end="", flush=True)  # not sys.stdout.flush(): it is None where standard output is closed
    except BrokenPipeError:  # `ipvsca list | head`
        log.forget_output()
    except OSError as error:  # the disk is full
        log.forget_output()
        status = status or _told(error, "standard output")
    return status


def _status(run: Callable[..., int | None], *arguments: Any) -> int:
    try:
        return run(*arguments) or 0
    except Problem as problem:
        log.tell(logging.ERROR, f"ipvsca: {problem}")
        return problem.exit_status
    except BrokenPipeError:
        raise
    except OSError as error:  # of which no Problem was made: still a line, and no traceback
        return _told(error, error.filename)
    except SystemExit as end:  # argparse, after --help and after a wrong word
        return int(end.code or 0)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _told(error: OSError, where: str | None) -> int:
    what = f"{error.strerror}{_REMEDIES.get(error.errno or 0, '')}" if error.strerror else str(error)
    log.tell(logging.ERROR, f"ipvsca: {f'{where}: ' if where else ''}{what}")
    return 1
