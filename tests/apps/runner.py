"""Starts an application, waits until it is ready, and ends it with all its processes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .listener import Listener
from .program import Program

READY_S = 10.0
END_S = 5.0


class NotReady(Exception):
    """The application ended, or stayed silent, before it was ready. Its messages are in the text."""


@dataclass(frozen=True)
class Running:
    """An application that listens. Its files lie in `directory`: nginx's access.log, a DNS server's log."""

    app: Program
    process: subprocess.Popen[bytes]
    directory: Path


def _wait_for_ready(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Whether the line `ready` came in time. Nothing is sent: the tests count connections and datagrams."""
    assert process.stdout
    stdout = process.stdout.fileno()
    deadline = time.monotonic() + timeout_s
    said = b""
    while b"ready\n" not in said:
        readable, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
        more = os.read(stdout, 4096) if readable else b""
        if not more:
            return False
        said += more
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the process group, SIGKILL to what is left of it after END_S.

    Every process of the application holds the write end of stdout, so its end of file means that all are gone.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.communicate(timeout=END_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@contextlib.contextmanager
def _started(
    argv: list[str], launch: Callable[..., subprocess.Popen[bytes]], messages: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    process = launch(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages, start_new_session=True)
    if os.getpgid(process.pid) != process.pid:
        process.kill()
        process.communicate()
        raise ValueError("launch has to pass start_new_session on, else the application cannot be ended as a whole")
    try:
        yield process
    finally:
        _end(process)


@contextlib.contextmanager
def running(
    app: Program,
    address: str,
    port: int,
    launch: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen,
    *,
    shared: Path,
    v6only: bool = False,
    extra: tuple[str, ...] = (),
    ready_s: float = READY_S,
) -> Iterator[Running]:
    """The application, listening on `address` and `port`; raises NotReady where it does not come to that.

    `launch` is called like subprocess.Popen and may enter a namespace or a cgroup first, but must end in an exec: the
    process it returns is the application's, and leads a process group of its own. `shared` keeps the compiled programs;
    the directory of this run is made in it. `extra` are further arguments, for example `--workers 4`.
    """
    own = Path(tempfile.mkdtemp(prefix=f"{app.name}-", dir=shared))
    argv = [*app.argv(shared, own, address, port, v6only), *extra]
    with (
        tempfile.TemporaryFile() as messages,
        Listener(address, port, app.TRANSPORT) as listener,
        _started(argv, launch, messages) as process,
    ):
        if not _wait_for_ready(process, ready_s):
            messages.seek(0)
            raise NotReady(f"{app} on {address} port {port}: {messages.read().decode(errors='replace')}")
        listener.watch(process.pid)
        yield Running(app, process, own)
