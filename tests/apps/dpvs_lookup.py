"""The server written for DPVS's lookup calls, and what it answers. Starts nothing."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any, ClassVar

from ipvsca.address import Endpoint

from .program import GCC, LIBURING, Program, build
from .seen import endpoint

DATAGRAM_MAX = 65535


@dataclass(frozen=True)
class Lookup:
    """What one lookup call came to."""

    real: Endpoint | None
    """The client; None where the call failed."""
    error: int
    """errno, 0 for none."""
    length: int
    """What the call left as the option's length."""
    kept: bool = True
    """Whether the question still stood in the buffer."""


@dataclass(frozen=True)
class SeenByLookup:
    """What the server saw of a client, and heard about it."""

    sender: Endpoint
    """What recvfrom or accept gave."""
    lookups: dict[str, Lookup | None]
    """By the names that dpvs_lookup.c gives them."""


class _UdpServer(Program):
    TRANSPORT: ClassVar[socket.SocketKind] = socket.SOCK_DGRAM


class _TcpServer(Program):
    TRANSPORT: ClassVar[socket.SocketKind] = socket.SOCK_STREAM


UDP_LOOKUP = _UdpServer(
    "dpvs-lookup-udp", lambda shared, own: [str(build(shared, "dpvs_lookup")), "udp"], needs=(GCC, LIBURING)
)
TCP_LOOKUP = _TcpServer(
    "dpvs-lookup-tcp", lambda shared, own: [str(build(shared, "dpvs_lookup")), "tcp"], needs=(GCC, LIBURING)
)


def ask_uoa(sock: socket.socket, about: Endpoint | None = None) -> SeenByLookup:
    """Asks over a connected UDP socket, within its own timeout; the server looks `about` up as well."""
    sock.send(f"{about.address} {about.port}".encode() if about else b"hello")
    return read_lookups(sock.recv(DATAGRAM_MAX))


def ask_nat64(sock: socket.socket) -> SeenByLookup:
    """Asks over a fresh TCP connection, within its own timeout."""
    sock.sendall(b"hello\n")
    with sock.makefile("rb") as stream:
        return read_lookups(stream.read())


def read_lookups(answer: bytes) -> SeenByLookup:
    """The server's answer, read. Raises ValueError where it is none."""
    fields = json.loads(answer)
    sender = endpoint(fields.pop("from"))
    return SeenByLookup(sender, {name: value and _lookup(value) for name, value in fields.items()})


def _lookup(value: dict[str, Any]) -> Lookup:
    real = value["real"]
    return Lookup(real and endpoint(real), value["errno"], value["length"], value["kept"])
