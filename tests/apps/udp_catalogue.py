"""The UDP applications: what each is made of, needs, can listen on and reports."""

from __future__ import annotations

import functools
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ipvsca.address import Address, Endpoint, from_mapped, to_mapped

from . import dns
from .datagrams import SeenDatagram, ask_udp
from .dns_log import queries
from .dns_server import ADDRESS, DNSMASQ, DOMAIN, UNBOUND, DnsServer, log_of
from .program import GCC, HERE, IO_URING, LIBURING, NODE, Need, Program, build

SEGMENTS = 3  # of c-segment's answers


@dataclass(frozen=True)
class UdpApp(Program):
    """A UDP server application.

    `tells` names the fields of SeenDatagram that it reports (beside the payload). `ask` is called with a connected
    socket, a payload of letters, digits and hyphens, and the run's directory.
    """

    TRANSPORT: ClassVar[socket.SocketKind] = socket.SOCK_DGRAM

    tells: frozenset[str] = frozenset({"sender"})
    ask: Callable[[socket.socket, bytes, Path], SeenDatagram] = lambda sock, payload, own: ask_udp(sock, payload)
    one_client: bool = False
    """It serves whoever comes first, and nobody else."""
    in_turn: bool = False
    """A client that comes while it makes another one's socket may get no answer: a known limit, see the documents."""
    one_socket: bool = True
    """At `::` it has one socket, which shows IPv4 as v4-mapped; otherwise one for each family."""
    shows_port: bool = True

    def sees(self, client: Endpoint, server: Address, payload: bytes) -> SeenDatagram:
        """What it reports when all its calls return `client`, for a datagram to `server`.

        Both are as one socket of the listener's family would show them.
        """
        address = client.address if self.one_socket else _unmapped(client.address)
        shown = Endpoint(address, client.port if self.shows_port else 0)
        return SeenDatagram(
            payload,
            sender=shown if "sender" in self.tells else None,
            peeked=shown if "peeked" in self.tells else None,
            peer=shown if "peer" in self.tells else None,
            local=server if "local" in self.tells else None,
        )


def _unmapped(address: Address) -> Address:
    return from_mapped(to_mapped(address))


def _udp_server(
    mode: str, *needs: Need, tells: tuple[str, ...] = ("sender",), datagrams: int = 1, **how: bool
) -> UdpApp:
    return UdpApp(
        name=f"c-{mode}",
        command=lambda shared, own: [str(build(shared, "udp_server")), mode],
        needs=(GCC, LIBURING, *needs),
        tells=frozenset(tells),
        ask=lambda sock, payload, own: ask_udp(sock, payload, datagrams),
        **how,
    )


def _ask_dns(server: DnsServer, sock: socket.socket, payload: bytes, own: Path) -> SeenDatagram:
    """The payload is a name below the server's own one, new to this run. Raises ValueError for a wrong answer."""
    question = dns.Question(f"{payload.decode('ascii')}.{DOMAIN}")
    sock.send(bytes(question))
    address = dns.read_answer(question, sock.recv(512))
    if address != ADDRESS:
        raise ValueError(f"{question.name} is {address}, not {ADDRESS}")
    clients = [query.client for query in queries(log_of(own).read_text()) if query.name == question.name]
    if len(clients) != 1:
        raise ValueError(f"{server.name} was asked {len(clients)} times for {question.name}, not once")
    return SeenDatagram(payload, sender=clients[0])


def _dns_server(server: DnsServer, package: str, *, shows_port: bool) -> UdpApp:
    script = str(HERE / "dns_server.py")
    return UdpApp(
        name=server.name,
        command=lambda shared, own: [sys.executable, script, server.name, "--directory", str(own)],
        needs=(Need(server.name, f"apt install {package}", lambda: server.program() is not None),),
        ask=functools.partial(_ask_dns, server),
        one_socket=False,
        shows_port=shows_port,
    )


UDP_APPS = (
    _udp_server("recvfrom"),
    _udp_server("recvmsg"),
    _udp_server("recvmmsg"),
    _udp_server("peek", tells=("sender", "peeked")),
    _udp_server("uring", IO_URING),
    _udp_server("gro"),
    _udp_server("segment", datagrams=SEGMENTS),
    _udp_server("pktinfo", tells=("sender", "local")),
    _udp_server("connect", tells=("sender", "peer"), in_turn=True),
    _udp_server("read", tells=("peer",), one_client=True),
    UdpApp("socket", lambda shared, own: [sys.executable, str(HERE / "udp_socket.py")], needs=()),
    UdpApp("asyncio", lambda shared, own: [sys.executable, str(HERE / "udp_asyncio.py")], needs=()),
    UdpApp("node", lambda shared, own: ["node", str(HERE / "udp_node.js")], needs=(NODE,)),
    _dns_server(DNSMASQ, "dnsmasq-base", shows_port=True),
    _dns_server(UNBOUND, "unbound", shows_port=False),
)


def udp_app(name: str) -> UdpApp:
    """The application of this name. Raises KeyError where there is none."""
    return {each.name: each for each in UDP_APPS}[name]
