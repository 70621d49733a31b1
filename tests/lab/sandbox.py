"""What a lab owns beside network namespaces: a cgroup v2 directory and a bpffs of its own.

Every process of a lab is in its cgroup. A guard, this file run as a program, reads a pipe from us; when we end, by
kill -9 too, it kills what is in the cgroup, daemons that left their session included, and removes it. Mounts are
private to our process and its children: with the last of them the bpffs goes, and all that is pinned in it. What may
stay behind are empty directories; the next lab sweeps them.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

PREFIX = "ipvsca-lab-"
CLONE_NEWNS = 0x00020000
MS_REC_PRIVATE = 0x4000 | 0x40000
END_TIMEOUT = 5.0  # seconds

_libc = ctypes.CDLL(None, use_errno=True)
_serial = itertools.count()


@cache
def private_mounts() -> None:
    """Give this process mounts of its own, once. Raises RuntimeError in another thread than the main one.

    The kernel moves the calling thread alone; what it starts from then on, threads and processes, goes with it.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("call private_mounts() in the main thread")
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC_PRIVATE), None), "mount --make-rprivate")


@contextmanager
def bpffs() -> Iterator[Path]:
    """A fresh bpffs on a directory of its own, gone with all that is pinned in it."""
    private_mounts()
    sweep(Path(tempfile.gettempdir()))
    path = Path(tempfile.gettempdir(), _own_name())
    path.mkdir(mode=0o700)
    try:
        subprocess.run(["mount", "-t", "bpf", "bpf", path], check=True)
        try:
            yield path
        finally:
            # Lazily: a program that still has a file open in it must not keep the lab from ending.
            subprocess.run(["umount", "--lazy", path], check=True)
    finally:
        path.rmdir()


@contextmanager
def cgroup() -> Iterator[Path]:
    """A cgroup v2 directory of its own; at the end every process in it, and in cgroups below it, is killed."""
    root = cgroup2_mount()
    sweep(root)
    path = root / _own_name()
    path.mkdir()
    try:
        # Isolated, so that neither our directory nor our environment matters; a session of its own outlives a Ctrl-C.
        guard = subprocess.Popen([sys.executable, "-I", __file__, path], stdin=subprocess.PIPE, start_new_session=True)
    except BaseException:
        with suppress(OSError):  # a guard that has started all the same was faster
            path.rmdir()
        raise
    try:
        yield path
    finally:
        guard.communicate(timeout=2 * END_TIMEOUT)
        if guard.returncode:
            raise RuntimeError(f"{path} could not be removed")


def cgroup2_mount() -> Path:
    """Where cgroup v2 is mounted. Raises RuntimeError where it is not."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        if source.startswith("cgroup2 "):
            return Path(mount.split()[4])
    raise RuntimeError("cgroup v2 is not mounted")


def sweep(parent: Path) -> None:
    """Remove the empty directories of labs whose process is dead."""
    for path in parent.glob(f"{PREFIX}*"):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            with suppress(OSError):  # not empty, or another lab was faster
                path.rmdir()


def _own_name() -> str:
    return f"{PREFIX}{os.getpid()}-{next(_serial)}"


def _guard(group: Path) -> None:
    """Wait until our parent is gone or has closed stdin, then remove the cgroup."""
    sys.stdin.read()
    _kill_all(group)
    for directory in sorted(group.glob("**/"), reverse=True):
        directory.rmdir()


def _kill_all(group: Path) -> None:
    """Kill everything in a cgroup and below, and wait until it is gone. Raises TimeoutError."""
    with (group / "cgroup.events").open() as events:
        changed = select.poll()
        changed.register(events, select.POLLPRI)
        while "populated 1" in events.read():
            for procs in group.glob("**/cgroup.procs"):
                for pid in map(int, procs.read_text().split()):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            if not changed.poll(END_TIMEOUT * 1000):
                raise TimeoutError(f"processes in {group} do not end")
            events.seek(0)


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), what)


if __name__ == "__main__":
    _guard(Path(sys.argv[1]))
