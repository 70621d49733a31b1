"""The table of flows as tests see it, and as it has to be after announcements."""

from __future__ import annotations

import ctypes
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ipvsca.address import Address, Endpoint, to_mapped
from ipvsca.dataplane import DataPlane
from ipvsca.kernel import layout
from ipvsca.kernel.layout import LearntFrom, PackedAddress
from ipvsca.kernel.maps import ONLY
from ipvsca.wire.announcement import Announcement

NOWHERE = PackedAddress()
MIXER = 0x9E3779B1


@dataclass(frozen=True)
class Key:
    """Of an entry: `rip` is None in the one that is there for every socket, bound to an address or not."""

    protocol: int
    director: Endpoint
    rport: int
    rip: Address | None = None


@dataclass(frozen=True)
class Told:
    """What an entry says. `client` is None in one that only tells that there are several flows."""

    client: Endpoint | None
    rip: Address | None
    learnt_from: LearntFrom = LearntFrom.ANNOUNCEMENT


AMBIGUOUS = Told(None, None)


def key_for(announced: Announcement) -> Key:
    """Of the entry that the announced flow has as long as there is no other of this key."""
    return Key(announced.protocol, announced.director, announced.server.port)


def told_by(announced: Announcement, learnt_from: LearntFrom = LearntFrom.ANNOUNCEMENT) -> Told:
    return Told(announced.client, announced.server.address, learnt_from)


def packed(key: Key) -> layout.FlowKey:
    return layout.FlowKey(
        lip=PackedAddress.of(key.director.address),
        lport=socket.htons(key.director.port),
        rport=socket.htons(key.rport),
        protocol=key.protocol,
        rip_mark=rip_mark(key.rip),
    )


def rip_mark(rip: Address | None) -> tuple[int, ...]:
    """The bytes that stand for an address in a key."""
    if rip is None:
        return 0, 0, 0
    mark = 0
    for word in PackedAddress.of(rip).word:
        mark = (mark ^ word) * MIXER % 2**32
    return tuple((mark >> 8 | 1).to_bytes(3, "little"))


def identity(key: Key) -> int:
    """What an entry tells of its key."""
    lip = int.from_bytes(to_mapped(key.director.address)[-4:], sys.byteorder)
    return lip << 32 | socket.htons(key.director.port) << 16 | socket.htons(key.rport)


def learnt(key: Key, told: Told, used_ns: int) -> layout.Learnt:
    """An entry that was learnt, and used last, at this moment. For AMBIGUOUS, what it says besides does not matter."""
    client = layout.Client(learnt_from=told.learnt_from, learnt_ns=used_ns)
    if told.client:
        client.address = PackedAddress.of(told.client.address)
        client.port = socket.htons(told.client.port)
    rip = PackedAddress.of(told.rip) if told.rip else NOWHERE
    client.is_ambiguous = told is AMBIGUOUS
    return layout.Learnt(identity=identity(key), used_ns=used_ns, client=client, rip=rip)


def stored(plane: DataPlane) -> Iterator[tuple[Key, layout.Learnt]]:
    """Every entry of the table."""
    for flow, entry in plane.table("flows").items():
        rip = entry.rip.address if any(flow.rip_mark) else None
        assert tuple(flow.rip_mark) == rip_mark(rip)
        yield Key(flow.protocol, flow.director, socket.ntohs(flow.rport), rip), entry


def says(entry: layout.Learnt) -> Told:
    if entry.client.is_ambiguous:
        return AMBIGUOUS
    return Told(entry.client.endpoint, entry.rip.address, LearntFrom(entry.client.learnt_from))


def hint(plane: DataPlane, is_used: bool) -> None:
    """Have the programs look for everything, as entries put into the table by hand have set no hint; or for nothing."""
    hints = layout.Hints()
    ctypes.memset(ctypes.byref(hints), is_used, ctypes.sizeof(hints))
    plane.table("hints").put(ONLY, hints)


def forget(plane: DataPlane) -> None:
    """Take out every entry."""
    table = plane.table("flows")
    for key in list(table.keys()):
        table.remove(key)


class Book:
    """What one announcement after the other makes of the table, when all come well within the timeouts.

    A datagram that tells its flow's client is no different from an announcement of it. Of two addresses of ours with
    the same mark, the one that was learnt last has the place of both.
    """

    def __init__(self) -> None:
        self._told: dict[Key, dict[Address, Told]] = {}
        self._doubtful: set[Key] = set()
        self.counted: Counter[str] = Counter()

    def learn(self, announced: Announcement, learnt_from: LearntFrom = LearntFrom.ANNOUNCEMENT) -> None:
        key, rip, told = key_for(announced), announced.server.address, told_by(announced, learnt_from)
        by_rip = self._told.setdefault(key, {})
        in_its_place = next((known for known in by_rip if rip_mark(known) == rip_mark(rip)), None)
        self.counted[f"{learnt_from.name.lower()}_learnt"] += 1
        if by_rip and rip not in by_rip and key not in self._doubtful:
            self._doubtful.add(key)
            self.counted["flows_new"] += 1
        elif in_its_place is None:
            self.counted["flows_new"] += 1
        elif in_its_place != rip or by_rip[rip].client != told.client:
            self.counted["flows_replaced"] += 1
        else:
            return
        if in_its_place is not None:
            del by_rip[in_its_place]
        by_rip[rip] = told

    def entries(self) -> Mapping[Key, Told]:
        entries = {}
        for key, by_rip in self._told.items():
            if key in self._doubtful:
                entries[key] = AMBIGUOUS
                entries |= {replace(key, rip=rip): told for rip, told in by_rip.items()}
            else:
                (entries[key],) = by_rip.values()
        return entries
