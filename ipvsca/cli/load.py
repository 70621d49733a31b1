"""Start restoring: compile where needed, load, attach; nothing changes where all is in place.

The settings of the configuration file are put into force. Programs of another version are replaced in one step, and
connections keep their clients. Where anything fails, all is as it was before.

examples:
  ipvsca load
  ipvsca load --config ./one-service.toml
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ipvsca import loader, log, settings

_ENDING = (signal.SIGTERM, signal.SIGINT)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="say nothing where it works")


def run(parsed: argparse.Namespace) -> None:
    lines = load(parsed.config)
    if not parsed.quiet:
        print("\n".join(lines))


def load(config: Path | None) -> list[str]:
    """Load, warn of interfaces that do not exist, and give what there is to say."""
    wanted = settings.read_file(config)
    with _ended_once():
        loaded = loader.load(wanted)
    for name in loaded.missing:
        comes = "`ipvsca run` attaches to it when it comes, as does `ipvsca load`"
        log.tell(logging.WARNING, f"ipvsca: interface {name} does not exist: {comes}")
    return [*loaded.changes, "loaded"] if loaded.changes else ["already loaded: nothing to do"]


@contextmanager
def _ended_once() -> Iterator[None]:
    """A signal to end comes as an exception, so that what is half done is undone. A second one does not disturb that.

    Both come easily: Ctrl-C reaches `ipvsca run` and the load that it has started, and `run` passes it on.
    """
    before = {number: signal.signal(number, _end) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: object) -> None:
    for each in _ENDING:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)
