"""Start restoring: compile where needed, load, attach; nothing changes where all is in place.

The settings of the configuration file are put into force. Programs of another version are replaced in one step, and
connections keep their clients. Where anything fails, all is as it was before.

examples:
  ipvsca load
  ipvsca load --config ./one-service.toml
"""

from __future__ import annotations

import argparse
import signal
import sys

from ipvsca import loader, settings


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="say nothing where it works")


def run(parsed: argparse.Namespace) -> None:
    signal.signal(signal.SIGTERM, _end)
    loaded = loader.load(settings.read_file(parsed.config))
    if parsed.quiet:
        return
    for change in loaded.changes:
        print(change)
    print("loaded" if loaded.changes else "already loaded: nothing to do")


def _end(number: int, _: object) -> None:
    """As an exception, so that what is half done is undone."""
    sys.exit(128 + number)
