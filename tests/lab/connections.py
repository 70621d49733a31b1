"""The director's connection table: who talks to whom through which local address, found from either side.

It knows no protocol: what a state means, and how long it lasts, is told by whoever handles the packets. Time comes
from outside, in seconds. Nothing here does I/O.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple

from ipvsca.address import Endpoint
from tests.lab.checksum import ones_sum
from tests.lab.ip import Dropped
from tests.lab.messages import Connection, Service
from tests.lab.states import State

PORTS = struct.Struct("!HH")


class Path(NamedTuple):
    """One direction of a flow. Addresses (4 or 16 bytes) and ports (source, destination) in network byte order."""

    source: bytes
    destination: bytes
    ports: bytes

    @classmethod
    def between(cls, source: Endpoint, destination: Endpoint) -> Path:
        return cls(source.address.packed, destination.address.packed, PORTS.pack(source.port, destination.port))

    @property
    def ends(self) -> tuple[Endpoint, Endpoint]:
        """Source and destination."""
        source, destination = PORTS.unpack(self.ports)
        return Endpoint(ip_address(self.source), source), Endpoint(ip_address(self.destination), destination)

    @property
    def back(self) -> Path:
        """The same flow's other direction."""
        return Path(self.destination, self.source, self.ports[2:] + self.ports[:2])

    @property
    def sum(self) -> int:
        """What addresses and ports add to a checksum."""
        return ones_sum(self.source + self.destination + self.ports)


@dataclass(slots=True)
class Entry:
    """One connection. `outside` leads from the client to the VIP, `inside` from LIP:lport to the real server."""

    outside: Path
    inside: Path
    service: Service
    state: State
    expires: float
    server_isn: int | None = None
    """TCP: the number of the server's SYN, once it was seen."""
    final_ack_lost: bool = False
    """TCP: whether Service.lose_final_ack was served."""
    to_server: int = 0
    """Packets sent on to the real server."""
    outward: Path = field(init=False)
    """From the VIP to the client."""
    added: int = field(init=False)
    """What readdressing towards the server adds to a checksum; towards the client it is taken away."""

    def __post_init__(self) -> None:
        self.outward = self.outside.back
        self.added = self.inside.sum - self.outside.sum

    def describe(self) -> Connection:
        """The entry as the control channel tells it."""
        return Connection(self.service.protocol, *self.outside.ends, *self.inside.ends, self.state)


class Table:
    """Entries of one protocol, at most `limit`. One past its time is dead at once, swept or not."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._from_client: dict[Path, Entry] = {}
        self._from_server: dict[Path, Entry] = {}
        self._next_port: Counter[Endpoint] = Counter()

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._from_client.values())

    def from_client(self, path: Path, now: float) -> Entry | None:
        """The live entry to which a packet from a client on this path belongs."""
        return self._live(self._from_client.get(path), now)

    def from_server(self, path: Path, now: float) -> Entry | None:
        """The live entry to which a packet from a real server on this path belongs."""
        return self._live(self._from_server.get(path), now)

    def of(self, client: Endpoint) -> list[Entry]:
        """The entries of this client, dead ones among them."""
        address, port = client.address.packed, client.port.to_bytes(2)
        return [entry for entry in self if (entry.outside.source, entry.outside.ports[:2]) == (address, port)]

    def free_path(self, service: Service, server: Endpoint, now: float) -> Path:
        """The path from the next free local address and port to this server: each real server has a pool of its own.

        So the same LIP:lport is in use towards several servers at once. A port is free when nothing in the table uses
        it; local addresses take turns, as IPVS has it. Raises Dropped when none is free.
        """
        locals_ = [local for local in service.local_addresses if local.version == server.address.version]
        low, high = service.local_ports
        pool = (high - low + 1) * len(locals_)
        for _ in range(pool):
            turn = self._next_port[server] % pool
            self._next_port[server] += 1
            local = Endpoint(locals_[turn % len(locals_)], low + turn // len(locals_))
            path = Path.between(local, server)
            if self.from_server(path.back, now) is None:
                return path
        raise Dropped("no_local_port")

    def add(self, entry: Entry, now: float) -> None:
        """Take a new entry, between paths that no other entry uses. Raises Dropped when the table is full."""
        if len(self._from_client) >= self.limit:
            self.sweep(now)
        if len(self._from_client) >= self.limit:
            raise Dropped("table_full")
        self._from_client[entry.outside] = self._from_server[entry.inside.back] = entry

    def remove(self, entry: Entry) -> None:
        """Forget an entry; its local port is free again."""
        del self._from_client[entry.outside], self._from_server[entry.inside.back]

    def sweep(self, now: float) -> None:
        """Forget every entry that is past its time."""
        for entry in [entry for entry in self if entry.expires <= now]:
            self.remove(entry)

    def _live(self, entry: Entry | None, now: float) -> Entry | None:
        if entry and entry.expires <= now:
            self.remove(entry)
            return None
        return entry
