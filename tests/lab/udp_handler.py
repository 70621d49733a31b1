"""FULLNAT of UDP: a client's first datagram makes a connection, which lasts as long as datagrams come. No I/O."""

from __future__ import annotations

from tests.lab import ip, udp
from tests.lab.connections import Path
from tests.lab.handler import Handler
from tests.lab.messages import Protocol
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
        return self._sent_to_server(entry, header, payload)


def _readdress(datagram: bytearray, path: Path, added: int) -> None:
    udp.readdress(datagram, path.ports, added)
    if len(path.source) == 16 and not udp.has_checksum(datagram):
        udp.fill_checksum(datagram, path.source + path.destination)
