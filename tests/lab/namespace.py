"""One unnamed network namespace, and processes and sockets in it. It knows nothing of addresses or links.

The namespace lives as long as its holder, a `cat` that reads a pipe of ours: however we end, by kill -9 too, the
pipe closes, `cat` ends, and the kernel takes the namespace away with its links, routes and tc filters.
"""

from __future__ import annotations

import ctypes
import os
import select
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

CLONE_NEWNET = 0x40000000
START_TIMEOUT = 10.0  # seconds
END_TIMEOUT = 5.0  # seconds
RUN_TIMEOUT = 120.0  # seconds

JOIN_CGROUP = 'echo $$ >"$0/cgroup.procs" && exec "$@"'

_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace of its own; a context manager that also ends the processes started in it.

    `cgroup` is where its processes go that are not told otherwise.
    """

    def __init__(self, cgroup: Path) -> None:
        self._cgroup = cgroup
        # A session of its own, so that a Ctrl-C in our terminal does not take the namespace away before we clean up.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._started: list[subprocess.Popen[Any]] = []
        self._await_holder()

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The holder's process id: `ip link add ... netns PID` takes it as the namespace's name."""
        return self._holder.pid

    @property
    def path(self) -> Path:
        """The namespace as a file, for nsenter and setns."""
        return Path(f"/proc/{self.pid}/ns/net")

    def popen(self, argv: Sequence[str | Path], *, cgroup: Path | None = None, **options: Any) -> subprocess.Popen[Any]:
        """Start a process in the namespace, and in a cgroup from its first instruction on.

        It is killed when the namespace is closed, and when we are. `options` are those of subprocess.Popen.
        """
        process = subprocess.Popen(self._command(argv, cgroup), **options)
        self._started.append(process)
        return process

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cgroup: Path | None = None,
        check: bool = True,
        timeout: float = RUN_TIMEOUT,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and return its output as text; `options` are those of subprocess.run.

        Raises TimeoutExpired, and CalledProcessError with what the command said where it fails.
        """
        options = {"capture_output": True, "text": True} | options
        try:
            return subprocess.run(self._command(argv, cgroup), check=check, timeout=timeout, **options)
        except subprocess.CalledProcessError as error:
            error.add_note(f"it said: {error.stderr}")
            raise

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in the namespace inside the block; sockets it makes there stay there for good."""
        with open("/proc/thread-self/ns/net") as home, self.path.open() as there:
            _set_namespace(there.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())

    def close(self) -> None:
        """Kill what was started here and is still running, then let go of the namespace."""
        for process in self._started:
            process.kill()
            process.wait(END_TIMEOUT)
        for pipe in (self._holder.stdin, self._holder.stdout):
            if pipe:
                pipe.close()
        try:
            self._holder.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._holder.kill()
            self._holder.wait(END_TIMEOUT)

    def _await_holder(self) -> None:
        """`cat` answers only after unshare has made the namespace and become `cat`."""
        stdin, stdout = self._holder.stdin, self._holder.stdout
        assert stdin is not None
        assert stdout is not None
        os.write(stdin.fileno(), b"\n")
        answered, _, _ = select.select([stdout], [], [], START_TIMEOUT)
        if not answered or not os.read(stdout.fileno(), 1):
            self.close()
            raise RuntimeError("no network namespace could be made: is this root?")

    def _command(self, argv: Sequence[str | Path], cgroup: Path | None) -> list[str]:
        """`argv` behind programs that each set one thing and become the next."""
        join = ["sh", "-c", JOIN_CGROUP, str(cgroup or self._cgroup)]
        return [*join, "nsenter", f"--net={self.path}", "--", *map(str, argv)]


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
