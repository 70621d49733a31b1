"""FULLNAT of TCP: a client's SYN makes a connection, and the client's address goes along as an option. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

from ipvsca.wire import toa
from tests.lab import ip, tcp
from tests.lab.connections import Entry, Path
from tests.lab.handler import Handler
from tests.lab.messages import Position, Protocol, Where
from tests.lab.states import State
from tests.lab.tcp_states import BY_CLIENT, BY_SERVER, REUSABLE, Transitions, after

ON_SYN = frozenset({Where.SYN, Where.BOTH})
ON_ACK = frozenset({Where.ACK, Where.BOTH})


class TcpHandler(Handler):
    """The TCP services and their connections."""

    protocol = Protocol.TCP

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
        return self._open(path, State.SYN_RECV, now)

    def _advance(self, entry: Entry, segment: bytearray, rows: Mapping[int, Transitions], now: float) -> None:
        self._keep(entry, after(entry.state, rows, segment[tcp.FLAGS]), now)

    def _to_server(self, entry: Entry, header: ip.Header, segment: bytearray) -> list[bytes]:
        if entry.service.lose_final_ack and not entry.final_ack_lost and _is_final_ack(entry, segment):
            entry.final_ack_lost = True
            self._counters["final_ack_lost"] += 1
            return []
        tcp.readdress(segment, entry.inside.ports, entry.added)
        if _wants_option(entry, segment):
            segment = self._with_option(entry, segment)
        return self._sent_to_server(entry, header, segment)

    def _to_client(self, entry: Entry, header: ip.Header, segment: bytearray) -> list[bytes]:
        tcp.readdress(segment, entry.outward.ports, -entry.added)
        if segment[tcp.FLAGS] & tcp.SYN:
            entry.server_isn, _ = tcp.numbers(segment)
            if entry.service.toa.where in ON_ACK:
                # The client's full segments must leave room for the option within the path's MTU.
                segment = tcp.with_lower_mss(segment, len(_option(entry)))
        return self._sent_to_client(entry, header, segment)

    def _with_option(self, entry: Entry, segment: bytearray) -> bytearray:
        try:
            with_option = tcp.with_option(segment, _option(entry), first=entry.service.toa.position is Position.FIRST)
        except tcp.NoRoom:
            self._counters["option_no_room"] += 1
            return segment
        self._counters["option_added"] += 1
        return with_option


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
