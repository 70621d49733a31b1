"""The applications: what each is made of, needs, can listen on and reports. Starts nothing but the compiler."""

from __future__ import annotations

import ctypes
import enum
import errno
import functools
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ipvsca.address import Endpoint

from . import nginx
from .seen import Seen, answer, answer_http

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
class App:
    """A server application.

    `command` makes its command line, without the listener, from two directories: one for what is compiled, shared by
    all applications, and one that belongs to this run.
    """

    name: str
    command: Callable[[Path, Path], list[str]]
    needs: tuple[Need, ...]
    accept: bool = True
    getpeername: bool = True
    ask: Callable[[socket.socket], Seen] = answer
    stacks: frozenset[Stack] = frozenset(Stack)

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

    def sees(self, client: Endpoint) -> Seen:
        """What it reports when all its calls return `client`."""
        return Seen(client if self.accept else None, client if self.getpeername else None)


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
NGINX = Need("nginx", "apt install nginx-light", lambda: nginx.program() is not None)


def build(directory: Path) -> Path:
    """The C program in `directory`, compiled unless it is there and newer than its sources."""
    program = directory / "accept_server"
    sources = [HERE / "accept_server.c", *HERE.glob("*.h")]
    if not program.exists() or any(source.stat().st_mtime >= program.stat().st_mtime for source in sources):
        beside = directory / f"accept_server.{os.getpid()}"
        flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["gcc", *flags, "-o", str(beside), str(sources[0]), "-luring"], check=True)
        beside.replace(program)
    return program


def _accept_server(mode: str, *needs: Need, accept: bool = True) -> App:
    return App(
        name=f"c-{mode}",
        command=lambda shared, own: [str(build(shared)), mode],
        needs=(GCC, LIBURING, *needs),
        accept=accept,
    )


APPS = (
    _accept_server("accept"),
    _accept_server("accept4"),
    _accept_server("null", accept=False),
    _accept_server("uring", IO_URING),
    _accept_server("fork"),
    _accept_server("fork-connection"),
    _accept_server("reuseport"),
    _accept_server("defer"),
    App("asyncio", lambda shared, own: [sys.executable, str(HERE / "asyncio_server.py")], needs=()),
    App("node", lambda shared, own: ["node", str(HERE / "node_server.js")], needs=(NODE,), accept=False),
    App(
        "nginx",
        lambda shared, own: [sys.executable, str(HERE / "nginx.py"), "--directory", str(own)],
        needs=(NGINX,),
        getpeername=False,
        ask=answer_http,
    ),
)


def app(name: str) -> App:
    """The application of this name. Raises KeyError where there is none."""
    return {each.name: each for each in APPS}[name]
