"""The TCP applications: what each is made of, needs, can listen on and reports."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from ipvsca.address import Endpoint

from . import nginx
from .program import GCC, HERE, IO_URING, LIBURING, NODE, Need, Program, Stack, build
from .seen import Seen, answer, answer_http

NGINX = Need("nginx", "apt install nginx-light", lambda: nginx.program() is not None)


@dataclass(frozen=True)
class App(Program):
    """A TCP server application."""

    TRANSPORT: ClassVar[socket.SocketKind] = socket.SOCK_STREAM

    accept: bool = True
    getpeername: bool = True
    ask: Callable[[socket.socket], Seen] = answer
    stacks: frozenset[Stack] = frozenset(Stack)

    def sees(self, client: Endpoint) -> Seen:
        """What it reports when all its calls return `client`."""
        return Seen(client if self.accept else None, client if self.getpeername else None)


def _accept_server(mode: str, *needs: Need, accept: bool = True) -> App:
    return App(
        name=f"c-{mode}",
        command=lambda shared, own: [str(build(shared, "accept_server")), mode],
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
