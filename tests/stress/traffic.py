"""Clients of the bench's stage that go on until they are told to stop, and every address that a server saw of them."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

from tests.bench.applications import BARE_PORT, udp_echo
from tests.bench.records import Judged
from tests.bench.stage import END_TIMEOUT_S, LIPS, RIP, Stage
from tests.bench.storms import FIRST_LPORT, NO_END_S, UDP_PORT, announce
from tests.kernel_state import wait_until

Judge = Callable[[Judged], None]

FLOWS_LIP = LIPS[1]


@contextmanager
def connecting(stage: Stage, restored: bool, judge: Judge) -> Iterator[Popen[str]]:
    """One TCP connection after the other inside the block, some at once, to an accept_loop() that is there.

    The server has to see the client that belongs to each one's source, or where it is not restored the source itself.
    Gives the process that connects.
    """
    end = [str(RIP), str(BARE_PORT), "restored" if restored else "not"]
    argv: list[str | Path] = [stage.program("connections"), *end, str(NO_END_S), "", *map(str, LIPS)]
    with _running(stage, argv) as client:
        yield client
        right, wrong, missing, failed, _ = _ended(client)
        judge(Judged(int(right), int(wrong), int(missing), int(failed)))


@contextmanager
def exchanging(stage: Stage, flows: int, judge: Judge) -> Iterator[Popen[str]]:
    """Datagrams of so many announced flows inside the block, each answered, in turn and some at once.

    Gives the process that sends them.
    """
    announce(stage, flows, FLOWS_LIP)
    end = [RIP, UDP_PORT, FLOWS_LIP, FIRST_LPORT, flows, NO_END_S]
    with (
        udp_echo(stage, True, judge),
        _running(stage, [stage.program("datagrams"), *map(str, end)]) as client,
    ):
        yield client
        _, lost, _ = _ended(client)
        judge(Judged(failed=int(lost)))


def are_running(*clients: Popen[str]) -> bool:
    """Whether all of them are. If not, stop waiting for them: leaving its block raises what one complained of."""
    return all(client.poll() is None for client in clients)


@contextmanager
def _running(stage: Stage, argv: list[str | Path]) -> Iterator[Popen[str]]:
    client: Popen[str] = stage.client.popen(argv, cgroup=stage.client_cgroup, stdout=PIPE, stderr=PIPE, text=True)
    try:
        assert wait_until(lambda: _catches(client.pid, signal.SIGTERM) or not are_running(client))
        yield client
    finally:
        client.kill()
        client.communicate()


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal: until then it would be killed by it."""
    (handled,) = re.findall(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(handled, 16) >> (number - 1) & 1)


def _ended(client: Popen[str]) -> list[str]:
    """What a client says once it is told to stop. Raises RuntimeError with its complaint where it failed."""
    was_running = are_running(client)
    client.terminate()
    said, complaint = client.communicate(timeout=END_TIMEOUT_S)
    if client.returncode or not was_running:
        when = "when" if was_running else "before"
        reason = complaint if client.returncode else f"its {NO_END_S} seconds are over"
        raise RuntimeError(f"a client ended {when} it was told to, with status {client.returncode}: {reason}")
    return said.split()
