"""A director but for its I/O: a packet goes in, the packets to send come out. The clock is injected.

What to do with a packet is its protocol's handler's business, which keeps that protocol's connections.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from tests.lab import ip
from tests.lab.connections import Table
from tests.lab.messages import Connection, Settings
from tests.lab.tcp_handler import TcpHandler

IPPROTO_TCP = 6


class Handler(Protocol):
    """What the director does with one IP protocol."""

    table: Table

    def configure(self, settings: Settings) -> None:
        """Take other services and timeouts; connections stay."""

    def handle(self, header: ip.Header, payload: bytearray, now: float) -> list[bytes]:
        """The packets to send for a packet that came. Raises ip.Dropped where there are none."""


class Fullnat:
    """Services and connections of all protocols. `counters` counts what was done, and why packets were dropped."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._handlers: dict[int, Handler] = {IPPROTO_TCP: TcpHandler(settings, self.counters)}

    def configure(self, settings: Settings) -> None:
        """Take other settings for whatever comes from now on."""
        for handler in self._handlers.values():
            handler.configure(settings)

    def handle(self, packet: bytes) -> list[bytes]:
        """The packets to send for a packet that came, none where it is dropped; either is counted."""
        try:
            header, payload = ip.parse(packet)
            if header.protocol not in self._handlers:
                raise ip.Dropped("other_protocol")
            return self._handlers[header.protocol].handle(header, payload, self._clock())
        except ip.Dropped as reason:
            self.counters[f"dropped_{reason}"] += 1
            return []

    def connections(self) -> list[Connection]:
        """Every live connection."""
        self.sweep()
        tables = (handler.table for handler in self._handlers.values())
        return [entry.describe() for entry in itertools.chain.from_iterable(tables)]

    def sweep(self) -> None:
        """Forget connections that are past their time."""
        for handler in self._handlers.values():
            handler.table.sweep(self._clock())
