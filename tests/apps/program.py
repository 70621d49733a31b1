"""What every test application is: a command, what it needs, where it can listen. Starts nothing but the compiler."""

from __future__ import annotations

import ctypes
import enum
import errno
import functools
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

HERE = Path(__file__).resolve().parent
IO_URING_SETUP = 425  # the same number on every architecture


class Stack(enum.Enum):
    """What a listener serves: an IPv4 address, an IPv6 address, or both at `::`."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"
    DUAL = "dual-stack"


@dataclass(frozen=True)
class Need:
    """Something an application cannot do without, and where it comes from."""

    what: str
    source: str
    present: Callable[[], bool]

    def __str__(self) -> str:
        return f"{self.what} ({self.source})"


@dataclass(frozen=True)
class Program:
    """A server application, of either transport.

    `command` makes its command line, without the listener, from two directories: one for what is compiled, shared by
    all applications, and one that belongs to this run.
    """

    TRANSPORT: ClassVar[socket.SocketKind]

    name: str
    command: Callable[[Path, Path], list[str]]
    needs: tuple[Need, ...]

    def __str__(self) -> str:
        return self.name

    def missing(self) -> str | None:
        """Why it cannot run here, as a test's reason to skip; None where it can."""
        absent = [str(need) for need in self.needs if not need.present()]
        return f"needs: {', '.join(absent)}" if absent else None

    def argv(self, shared: Path, own: Path, address: str, port: int, v6only: bool = False) -> list[str]:
        """The whole command line; compiles first where that is needed."""
        argv = [*self.command(shared, own), "--address", address, "--port", str(port)]
        return [*argv, "--v6only"] if v6only else argv


@functools.cache
def _liburing_is_installed() -> bool:
    if shutil.which("gcc") is None:
        return False
    probe = subprocess.run(
        ["gcc", "-E", "-x", "c", "-"], input=b"#include <liburing.h>", capture_output=True, check=False
    )
    return probe.returncode == 0


@functools.cache
def _kernel_has_io_uring() -> bool:
    """A kernel that offers io_uring to us looks for the parameters first, and finds none."""
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.syscall(IO_URING_SETUP, 1, None) == -1 and ctypes.get_errno() == errno.EFAULT


GCC = Need("gcc", "apt install gcc", lambda: shutil.which("gcc") is not None)
LIBURING = Need("liburing", "apt install liburing-dev", _liburing_is_installed)
IO_URING = Need("io_uring", "a kernel with it, and kernel.io_uring_disabled=0", _kernel_has_io_uring)
NODE = Need("node", "apt install nodejs", lambda: shutil.which("node") is not None)


def build(directory: Path, name: str) -> Path:
    """The C program of this name in `directory`, compiled unless it is there and newer than its sources."""
    program = directory / name
    sources = [HERE / f"{name}.c", *HERE.glob("*.h")]
    if not program.exists() or any(source.stat().st_mtime >= program.stat().st_mtime for source in sources):
        beside = directory / f"{name}.{os.getpid()}"
        flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["gcc", *flags, "-o", str(beside), str(sources[0]), "-luring"], check=True)
        beside.replace(program)
    return program
