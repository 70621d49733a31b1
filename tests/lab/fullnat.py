"""A director but for its I/O: a packet goes in, the packets to send come out. The clock is injected.

What to do with a packet is its protocol's handler's business, which keeps that protocol's connections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ipvsca.address import Endpoint
from tests.lab import ip
from tests.lab.connections import Entry, Table
from tests.lab.handler import Handler
from tests.lab.messages import Connection, Settings
from tests.lab.tcp_handler import TcpHandler
from tests.lab.udp_handler import UdpHandler

IPPROTO_ICMP = 1
ECHO_REPLY = 0


class Fullnat:
    """Services and connections of all protocols. `counters` counts what was done, and why packets were dropped."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self.counters: Counter[str] = Counter()
        self._clock = clock
        handlers = (TcpHandler(settings, self.counters), UdpHandler(settings, self.counters))
        self._handlers: dict[int, Handler] = {handler.protocol: handler for handler in handlers}

    def configure(self, settings: Settings) -> None:
        """Take other settings for whatever comes from now on."""
        for handler in self._handlers.values():
            handler.configure(settings)

    def handle(self, packet: bytes) -> list[bytes]:
        """The packets to send for a packet that came, none where it is dropped; either is counted."""
        try:
            header, payload = ip.parse(packet)
            if handler := self._handlers.get(header.protocol):
                return handler.handle(header, payload, self._clock())
            return self._swallow(header, payload)
        except ip.Dropped as reason:
            self.counters[f"dropped_{reason}"] += 1
            return []

    def connections(self, client: Endpoint | None = None) -> list[Connection]:
        """The live connections: this client's, or all."""
        return [entry.describe() for _, entry in self._entries(client)]

    def forget(self, client: Endpoint | None = None) -> int:
        """Forget live connections, this client's or all, and say how many they were. Their local ports are free."""
        entries = self._entries(client)
        for table, entry in entries:
            table.remove(entry)
        return len(entries)

    def sweep(self) -> None:
        """Forget connections that are past their time."""
        for handler in self._handlers.values():
            handler.table.sweep(self._clock())

    def _entries(self, client: Endpoint | None) -> list[tuple[Table, Entry]]:
        self.sweep()
        tables = [handler.table for handler in self._handlers.values()]
        return [(table, entry) for table in tables for entry in (table if client is None else table.of(client))]

    def _swallow(self, header: ip.Header, payload: bytearray) -> list[bytes]:
        """Count what is addressed to the director itself: a real server answers an announcement with an echo reply."""
        if header.protocol != IPPROTO_ICMP or payload[:1] != bytes([ECHO_REPLY]):
            raise ip.Dropped("other_protocol")
        self.counters["echo_replies"] += 1
        return []
