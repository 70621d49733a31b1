"""FULLNAT of UDP: a client's first datagram makes a connection, which lasts as long as datagrams come. No I/O."""

from __future__ import annotations

from tests.lab import ip, udp, uoa
from tests.lab.connections import Entry, Path
from tests.lab.handler import Handler
from tests.lab.messages import Protocol, UoaMode
from tests.lab.states import State


class UdpHandler(Handler):
    """The UDP services and their connections."""

    protocol = Protocol.UDP

    def handle(self, header: ip.Header, payload: bytearray, now: float) -> list[bytes]:
        """The datagram with other addresses. Raises ip.Dropped."""
        if not udp.is_whole(payload) or (len(header.source) == 16 and not udp.has_checksum(payload)):
            raise ip.Dropped("malformed")
        path = Path(header.source, header.destination, bytes(payload[:4]))
        if entry := self.table.from_server(path, now):
            self._keep(entry, State.UDP, now)
            _readdress(payload, entry.outward, -entry.added)
            return self._sent_to_client(entry, header, payload)
        entry = self.table.from_client(path, now) or self._open(path, State.UDP, now)
        self._keep(entry, State.UDP, now)
        _readdress(payload, entry.inside, entry.added)
        header = header._replace(source=entry.inside.source, destination=entry.inside.destination)
        ahead, (header, payload) = self._told(entry, header, payload)
        return ahead + self._sent_to_server(entry, header, payload)

    def _told(self, entry: Entry, header: ip.Header, datagram: bytearray) -> tuple[list[bytes], uoa.Packet]:
        """The carrier that is due ahead of a datagram, and the datagram, with the client in it where there is room."""
        settings = entry.service.uoa
        if settings is None or entry.to_server >= settings.datagrams:
            return [], (header, datagram)
        if settings.mode is UoaMode.IPO and len(header.destination) == 16:
            self._counters["uoa_impossible"] += 1
            return [], (header, datagram)
        client, _ = entry.outside.ends
        grown = uoa.told(settings.mode, client, header, datagram)
        if not settings.always_by_carrier and len(ip.build(*grown)) <= settings.mtu:
            self._counters["uoa_told"] += 1
            return [], grown
        self._counters["uoa_carriers"] += 1
        return [ip.build(*uoa.told(settings.mode, client, *uoa.carrier(entry.inside)))], (header, datagram)


def _readdress(datagram: bytearray, path: Path, added: int) -> None:
    udp.readdress(datagram, path.ports, added)
    if len(path.source) == 16 and not udp.has_checksum(datagram):
        udp.fill_checksum(datagram, path.source + path.destination)
