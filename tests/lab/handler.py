"""What the director does with a packet, whatever its protocol: choose a real server, announce, readdress. No I/O."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import Counter
from typing import ClassVar

from ipvsca.wire import announcement
from tests.lab import ip
from tests.lab.connections import Entry, Path, Table
from tests.lab.messages import Protocol, Settings
from tests.lab.states import TIMEOUTS, State


class Handler(ABC):
    """The services of one protocol and their connections; a subclass knows what the protocol's packets mean."""

    protocol: ClassVar[Protocol]

    def __init__(self, settings: Settings, counters: Counter[str]) -> None:
        self.table = Table(settings.max_connections)
        self._counters = counters
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take other services and timeouts. Connections keep the service they were made by."""
        self.table.limit = settings.max_connections
        self._timeouts = {**TIMEOUTS, **settings.timeouts}
        self._services = {service.vip: service for service in settings.services if service.protocol is self.protocol}
        self._turns = {vip: itertools.cycle(service.real_servers) for vip, service in self._services.items()}

    @abstractmethod
    def handle(self, header: ip.Header, payload: bytearray, now: float) -> list[bytes]:
        """The packets to send for a packet that came. Raises ip.Dropped where there are none."""

    def _open(self, path: Path, state: State, now: float) -> Entry:
        """A new connection for a client's packet. Raises ip.Dropped where there can be none."""
        _, vip = path.ends
        if vip not in self._services:
            raise ip.Dropped("no_service")
        service = self._services[vip]
        inside = self.table.free_path(service, next(self._turns[vip]), now)
        entry = Entry(path, inside, service, state, expires=now)  # _keep() gives it time
        self.table.add(entry, now)
        self._counters["connections"] += 1
        return entry

    def _keep(self, entry: Entry, state: State, now: float) -> None:
        """A packet of the connection came, and led to this state."""
        entry.state = state
        entry.expires = now + self._timeouts[state]

    def _sent_to_server(self, entry: Entry, header: ip.Header, payload: bytearray) -> list[bytes]:
        """The packet for the server, behind the announcement that is due."""
        packets = [_build(header, entry.inside, payload)]
        if _is_due(entry):
            packets[:0] = self._announcement(entry)
        entry.to_server += 1
        self._counters["to_server"] += 1
        return packets

    def _sent_to_client(self, entry: Entry, header: ip.Header, payload: bytearray) -> list[bytes]:
        self._counters["to_client"] += 1
        return [_build(header, entry.outward, payload)]

    def _announcement(self, entry: Entry) -> list[bytes]:
        settings = entry.service.announce
        assert settings is not None
        client, _ = entry.outside.ends
        local, real = entry.inside.ends
        if {client.address.version, local.address.version} != {4}:
            self._counters["announcement_impossible"] += 1
            return []
        self._counters["announcements"] += 1
        announced = announcement.Announcement(self.protocol, local, real, client, settings.kind)
        return [announcement.build(announced, little_endian=settings.little_endian)]


def _build(header: ip.Header, path: Path, payload: bytearray) -> bytes:
    return ip.build(header._replace(source=path.source, destination=path.destination), payload)


def _is_due(entry: Entry) -> bool:
    """Whether an announcement belongs ahead of the next packet to the server."""
    settings, sent = entry.service.announce, entry.to_server
    if settings is None:
        return False
    return sent % settings.every == 0 if settings.every else sent == 0
