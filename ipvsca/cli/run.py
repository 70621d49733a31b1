"""Load where needed, then stay in the foreground and keep the tables tidy.

SIGTERM or SIGINT ends it. What is loaded stays in force then, also after kill -9: `ipvsca unload` takes it off.

examples:
  ipvsca run
  ipvsca run --config /etc/ipvsca/ipvsca.toml
"""

from __future__ import annotations

import argparse
import os

from ipvsca import daemon, settings
from ipvsca.cli import load
from ipvsca.cli.status import status_of


def arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(parsed: argparse.Namespace) -> int:
    wanted = settings.read_file(parsed.config)
    status = _load_in_a_child(parsed)
    if status == 0:
        daemon.run(wanted.pin_path)
    return status


def _load_in_a_child(parsed: argparse.Namespace) -> int:
    """Loading brings in a compiler: a process of its own takes it away again. Gives its exit status."""
    child = os.fork()
    if child == 0:
        os._exit(status_of(load.run, argparse.Namespace(config=parsed.config, quiet=False)))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
