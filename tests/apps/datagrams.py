"""What a UDP application saw of a datagram: the exchange with it, and how its answer is read. Starts nothing."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from ipaddress import ip_address

from ipvsca.address import Address, Endpoint

from .seen import endpoint

ANSWER = re.compile(
    rb"from=(?P<sender>-|\S+ \d+)"
    rb"(?: peek=(?P<peeked>\S+ \d+))?(?: peer=(?P<peer>\S+ \d+))?(?: local=(?P<local>\S+))?"
    rb"(?: together=(?P<together>\d+))? payload=(?P<payload>.*)",
    re.DOTALL,
)
DATAGRAM_MAX = 65535


@dataclass(frozen=True)
class SeenDatagram:
    """A datagram as the application saw it; None for what it does not ask."""

    payload: bytes
    sender: Endpoint | None = None
    """What the receiving call returned."""
    peeked: Endpoint | None = None
    """What the call with MSG_PEEK returned before."""
    peer: Endpoint | None = None
    """What getpeername returned on a connected socket."""
    local: Address | None = None
    """To which address it came, by its IP_PKTINFO or IPV6_PKTINFO."""
    together: int | None = field(default=None, compare=False)
    """How many datagrams one call received; a matter of timing, and so not compared."""


def read_datagram(answer: bytes) -> SeenDatagram:
    """A UDP server's answer, read. Raises ValueError where it is none."""
    match = ANSWER.fullmatch(answer)
    if match is None:
        raise ValueError(f"{answer!r} is not an answer")
    text = {name: value.decode("ascii") for name, value in match.groupdict().items() if value and name != "payload"}
    sender, peeked, peer = (
        endpoint(text[name]) if text.get(name, "-") != "-" else None for name in ("sender", "peeked", "peer")
    )
    local = ip_address(text["local"]) if "local" in text else None
    together = int(text["together"]) if "together" in text else None
    return SeenDatagram(match["payload"], sender, peeked, peer, local, together)


def ask_udp(sock: socket.socket, payload: bytes = b"hello", datagrams: int = 1) -> SeenDatagram:
    """Asks over a connected UDP socket, within its own timeout; the answer comes as so many datagrams.

    Raises ValueError for what is no answer.
    """
    sock.send(payload)
    return read_datagram(b"".join(sock.recv(DATAGRAM_MAX) for _ in range(datagrams)))
