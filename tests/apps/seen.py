"""What an application saw of its client: the exchange with it, and how its answer is read. Starts nothing."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ipvsca.address import V4_MAPPED, Endpoint

LINE = re.compile(r"accept=(?P<accept>-|\S+ \d+) getpeername=(?P<getpeername>-|\S+ \d+)\n")
BODY = re.compile(r"(?P<accept>\S+ \d+)\n")
ACCESS = re.compile(r'(?P<client>\S+ \d+) (?P<server>\S+ \d+) "(?P<request>[^"]*)"')


@dataclass(frozen=True)
class Seen:
    """The client as each call returned it; None for a call that the application does not make."""

    accept: Endpoint | None
    getpeername: Endpoint | None


@dataclass(frozen=True)
class Access:
    """One line of nginx's access log."""

    client: Endpoint
    server: Endpoint
    request: str


def endpoint(text: str) -> Endpoint:
    """From `ADDRESS PORT`. A v4-mapped address stays an IPv6Address. Raises ValueError for anything else."""
    address, port = text.split(" ")
    return Endpoint.of(address, int(port))


def v4_mapped(client: Endpoint) -> Endpoint:
    """How a dual-stack socket shows this IPv4 client."""
    assert isinstance(client.address, IPv4Address)
    return Endpoint(IPv6Address(int(V4_MAPPED.network_address) | int(client.address)), client.port)


def _received(sock: socket.socket) -> str:
    with sock.makefile("rb") as stream:
        return stream.read().decode("ascii")


def answer(sock: socket.socket) -> Seen:
    """Asks a line server over a fresh connection, within the socket's own timeout; raises ValueError for no answer."""
    sock.sendall(b"hello\n")
    return read_answer(_received(sock))


def read_answer(received: str) -> Seen:
    """A line server's answer, read. Raises ValueError where it is none."""
    match = LINE.fullmatch(received)
    if match is None:
        raise ValueError(f"{received!r} is not an answer")
    return Seen(*(None if text == "-" else endpoint(text) for text in match.group("accept", "getpeername")))


def answer_http(sock: socket.socket) -> Seen:
    """The same for nginx, which keeps what accept returned and never calls getpeername."""
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    received = _received(sock)
    head, _, body = received.partition("\r\n\r\n")
    match = BODY.fullmatch(body)
    if head.split(" ")[1:2] != ["200"] or match is None:
        raise ValueError(f"{received!r} is not an answer")
    return Seen(accept=endpoint(match["accept"]), getpeername=None)


def accesses(log: str) -> list[Access]:
    """nginx's access log, read. A client that has seen the end of its connection is in the log."""
    matches = [ACCESS.fullmatch(line) for line in log.splitlines()]
    if not all(matches):
        raise ValueError(f"{log!r} is not an access log")
    return [Access(endpoint(m["client"]), endpoint(m["server"]), m["request"]) for m in matches if m]
