"""The log of a long-running process: one line an event on standard error, in the journal with its level.

Whoever has something to say takes `logging.getLogger(__name__)`. A line that cannot be written ends no work, be the
disk full or the reader gone.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import suppress
from typing import TextIO

REPEATED_AFTER_S = 60.0

_SYSLOG = {logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}


def start() -> None:
    """Write what is logged from now on, information and worse."""
    handler = _ToStandardError()
    handler.setFormatter(_OneLine())
    handler.addFilter(_Repeats())
    root = logging.getLogger("ipvsca")
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    root.propagate = False


def tell(level: int, text: str) -> None:
    """One line on standard error; where that is the journal, it knows the level."""
    if sys.stderr:  # print() would take standard output in place of one that is closed
        with suppress(OSError):
            print(f"{_mark(level)}{text}", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """One line on standard output; after one that could not be written, none any more."""
    try:
        print(text, flush=True)
    except OSError:
        _drop(sys.stdout)


def drop_unwritten() -> None:
    """Before the end: what could not be written Python would try once more then, and fail with a status of its own."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            _drop(stream)


def _drop(stream: TextIO) -> None:
    """Also all that comes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _mark(level: int) -> str:
    return f"<{_SYSLOG[level]}>" if _is_journal() else ""


def _is_journal() -> bool:
    """Whether standard error is the stream that systemd gave us (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class _ToStandardError(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell(record.levelno, self.format(record))


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"{level}{record.getMessage()}".replace("\n", " ")


class _Repeats(logging.Filter):
    """The same complaint once a minute at most."""

    def __init__(self) -> None:
        super().__init__()
        self._written: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        now = time.monotonic()
        self._written = {text: at for text, at in self._written.items() if now - at < REPEATED_AFTER_S}
        return self._written.setdefault(record.getMessage(), now) == now
