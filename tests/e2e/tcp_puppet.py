"""A puppet that serves TCP: its listening socket is `l`, the connection it accepted last is `c`."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ipvsca.address import Endpoint
from tests.e2e.puppet import Puppet
from tests.e2e.traffic import SERVER_PORT, SERVICE_PORT, Traffic, Way, own_address
from tests.lab.messages import Toa, Where


def listen(server: Puppet, way: Way, prepare: str = "") -> None:
    """`prepare` is a call of the socket's before it listens."""
    family = "AF_INET6" if ":" in way.listen else "AF_INET"
    server(f"l = socket({family}, SOCK_STREAM); l.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)")
    if prepare:
        server(f"l.{prepare}")
    server(f"l.bind(('{way.listen}', {SERVER_PORT})); l.listen(4096)")


def accepted(server: Puppet) -> Endpoint:
    """Whom accept shows."""
    server("c, a = l.accept()")
    return Endpoint.of(*server("a[:2]"))


def peer(server: Puppet) -> Endpoint:
    """Whom getpeername shows."""
    return Endpoint.of(*server("c.getpeername()[:2]"))


@contextmanager
def connection(traffic: Traffic, server: Puppet, way: Way) -> Iterator[socket.socket]:
    """A client's connection through the director; accept has shown it as itself."""
    listen(server, way)
    traffic.direct(way, Toa(Where.ACK))
    with traffic.connect(Endpoint(way.vip, SERVICE_PORT), way.sources[0]) as client:
        assert accepted(server) == way.shown(own_address(client))
        yield client
