"""Which processes an application has, and what they hold open: by looking at /proc, and doing nothing."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from .runner import Running


def processes(run: Running) -> list[int]:
    """The processes of its process group, the first one first."""
    groups = {int(path.name): group(path) for path in Path("/proc").iterdir() if path.name.isdecimal()}
    return sorted(pid for pid, pgid in groups.items() if pgid == run.process.pid)


def group(proc: Path) -> int | None:
    """The process group; None for a process that has ended, reaped or not."""
    with contextlib.suppress(OSError):
        state, _parent, pgid = (proc / "stat").read_text().rpartition(")")[2].split()[:3]
        return None if state in "ZX" else int(pgid)
    return None


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it comes true, for what a process does on its own time."""
    deadline = time.monotonic() + 5
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def all_gone(run: Running) -> bool:
    return eventually(lambda: processes(run) == [])


def open_files(pid: int) -> list[str]:
    """What its descriptors are; nothing for a process that has just ended."""
    with contextlib.suppress(OSError):
        return [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return []


def sockets(pid: int) -> set[str]:
    return {file for file in open_files(pid) if file.startswith("socket:")}
