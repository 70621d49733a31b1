"""Load where needed, then stay in the foreground: keep the tables tidy, follow interfaces that come and go.

SIGHUP has the configuration file read again: all of it takes effect or, where anything is wrong, nothing. SIGTERM or
SIGINT ends it. What is loaded stays in force then, also after kill -9: `ipvsca unload` takes it off.

examples:
  ipvsca run
  ipvsca run --no-load
  ipvsca run --config /etc/ipvsca/ipvsca.toml
"""

from __future__ import annotations

import argparse
import os
import signal
from functools import partial
from pathlib import Path

from ipvsca import log, settings
from ipvsca.cli import load
from ipvsca.cli.status import status_of


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-load", action="store_true", help="load nothing; where nothing is loaded, wait for that")


def run(parsed: argparse.Namespace) -> int:
    log.start()
    read = partial(settings.read_file, parsed.config)
    wanted = read()
    status, is_stopped = (0, False) if parsed.no_load else _load_in_a_child(parsed.config)
    if status == 0 and not is_stopped:
        from ipvsca import daemon  # which brings an HTTP server along: no other verb needs that

        daemon.run(wanted, read)
    return status


def _load(config: Path | None) -> None:
    for line in load.load(config):
        log.say(line)


def _load_in_a_child(config: Path | None) -> tuple[int, bool]:
    """Loading brings in a compiler: a process of its own takes it away again.

    Gives its exit status, as a shell gives it where a signal ended it, and whether we were told to stop meanwhile: so
    is it then, and undoes what it has done.
    """
    awaited = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever started us may have it ignored, and then none comes
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os._exit(status_of(_load, config))
    is_stopped = False
    while (received := signal.sigwait(awaited)) != signal.SIGCHLD:
        is_stopped = True
        os.kill(child, received)
    _, status = os.waitpid(child, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    exitcode = os.waitstatus_to_exitcode(status)
    return exitcode if exitcode >= 0 else 128 - exitcode, is_stopped
