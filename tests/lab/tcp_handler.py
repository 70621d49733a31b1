"""FULLNAT of TCP: a client's SYN makes a connection, and the client's address goes along as an option. No I/O."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping

from ipvsca.wire import toa
from tests.lab import ip, tcp
from tests.lab.connections import Entry, Path, Table
from tests.lab.messages import Position, Settings, Where
from tests.lab.tcp_states import BY_CLIENT, BY_SERVER, REUSABLE, TIMEOUTS, State, Transitions, after

ON_SYN = frozenset({Where.SYN, Where.BOTH})
ON_ACK = frozenset({Where.ACK, Where.BOTH})


class TcpHandler:
    """The TCP services and their connections."""

    def __init__(self, settings: Settings, counters: Counter[str]) -> None:
        self.table = Table(settings.max_connections)
        self._counters = counters
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take other services and timeouts. Connections keep the service they were made by."""
        self.table.limit = settings.max_connections
        self._timeouts = {**TIMEOUTS, **settings.timeouts}
        self._services = {service.vip: service for service in settings.services}
        self._turns = {service.vip: itertools.cycle(service.real_servers) for service in settings.services}

    def handle(self, header: ip.Header, payload: bytearray, now: float) -> list[bytes]:
        """The segment with other addresses, and with the option where it belongs. Raises ip.Dropped."""
        if not tcp.is_whole(payload):
            raise ip.Dropped("malformed")
        path = Path(header.source, header.destination, bytes(payload[:4]))
        if entry := self.table.from_server(path, now):
            self._advance(entry, payload, BY_SERVER, now)
            return self._to_client(entry, header, payload)
        entry = self.table.from_client(path, now)
        if payload[tcp.FLAGS] & (tcp.SYN | tcp.ACK | tcp.RST) == tcp.SYN:
            entry = self._opened(entry, path, now)
        if not entry:
            raise ip.Dropped("no_connection")
        self._advance(entry, payload, BY_CLIENT, now)
        return self._to_server(entry, header, payload)

    def _opened(self, entry: Entry | None, path: Path, now: float) -> Entry:
        """The connection of a client's SYN: a new one, or the one whose SYN is sent again."""
        if entry and entry.state not in REUSABLE:
            return entry
        if entry:
            self.table.remove(entry)
        _, vip = path.ends
        if vip not in self._services:
            raise ip.Dropped("no_service")
        service = self._services[vip]
        inside = self.table.free_path(service, next(self._turns[vip]), now)
        entry = Entry(path, inside, service, State.SYN_RECV, expires=now + self._timeouts[State.SYN_RECV])
        self.table.add(entry, now)
        self._counters["connections"] += 1
        return entry

    def _advance(self, entry: Entry, segment: bytearray, rows: Mapping[int, Transitions], now: float) -> None:
        entry.state = after(entry.state, rows, segment[tcp.FLAGS])
        entry.expires = now + self._timeouts[entry.state]

    def _to_server(self, entry: Entry, header: ip.Header, segment: bytearray) -> list[bytes]:
        if entry.service.lose_final_ack and not entry.final_ack_lost and _is_final_ack(entry, segment):
            entry.final_ack_lost = True
            self._counters["final_ack_lost"] += 1
            return []
        tcp.readdress(segment, entry.inside.ports, entry.added)
        if _wants_option(entry, segment):
            segment = self._with_option(entry, segment)
        self._counters["to_server"] += 1
        return [_sent_on(header, entry.inside, segment)]

    def _to_client(self, entry: Entry, header: ip.Header, segment: bytearray) -> list[bytes]:
        tcp.readdress(segment, entry.outward.ports, -entry.added)
        if segment[tcp.FLAGS] & tcp.SYN:
            entry.server_isn, _ = tcp.numbers(segment)
            if entry.service.toa.where in ON_ACK:
                # The client's full segments must leave room for the option within the path's MTU.
                segment = tcp.with_lower_mss(segment, len(_option(entry)))
        self._counters["to_client"] += 1
        return [_sent_on(header, entry.outward, segment)]

    def _with_option(self, entry: Entry, segment: bytearray) -> bytearray:
        try:
            with_option = tcp.with_option(segment, _option(entry), first=entry.service.toa.position is Position.FIRST)
        except tcp.NoRoom:
            self._counters["option_no_room"] += 1
            return segment
        self._counters["option_added"] += 1
        return with_option


def _sent_on(header: ip.Header, path: Path, segment: bytearray) -> bytes:
    return ip.build(header._replace(source=path.source, destination=path.destination), segment)


def _wants_option(entry: Entry, segment: bytearray) -> bool:
    where = entry.service.toa.where
    if segment[tcp.FLAGS] & tcp.SYN:
        return where in ON_SYN
    return where in ON_ACK and _before_server_data(entry, segment)


def _is_final_ack(entry: Entry, segment: bytearray) -> bool:
    return tcp.is_bare_ack(segment) and _before_server_data(entry, segment)


def _before_server_data(entry: Entry, segment: bytearray) -> bool:
    """Whether the client acknowledges the server's SYN and nothing more."""
    if segment[tcp.FLAGS] & (tcp.SYN | tcp.RST | tcp.ACK) != tcp.ACK or entry.server_isn is None:
        return False
    _, acknowledged = tcp.numbers(segment)
    return acknowledged == (entry.server_isn + 1) % 2**32


def _option(entry: Entry) -> bytes:
    """The bytes for the header, a multiple of 4."""
    settings = entry.service.toa
    if settings.raw is None:
        client, _ = entry.outside.ends
        return toa.build(client, settings.kind)
    return settings.raw + bytes([settings.padding]) * (-len(settings.raw) % 4)
