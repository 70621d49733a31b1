"""Announcements by the hundred thousand: right ones, and ones wrong in every way that a reader may stumble on.

A wrong field is met in a packet whose checksums are right nearly always: behind a wrong checksum nothing would be read.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from ipvsca.address import Endpoint
from ipvsca.wire import announcement
from ipvsca.wire.announcement import Announcement
from ipvsca.wire.internet import PROTOCOL_TCP, PROTOCOL_UDP
from tests.lab.checksum import checksum

_IP_HEADER, _MOST_OPTIONS = 20, 40
_MESSAGE = announcement.LENGTH - _IP_HEADER
_WORDS, _LENGTH, _FRAGMENT, _IP_CHECKSUM = slice(0, 1), slice(2, 4), slice(6, 8), slice(10, 12)
_MORE_FRAGMENTS = 0x2000

# Of the ICMP message:
_TYPE, _ICMP_CHECKSUM, _IDENTIFIER, _PAYLOAD = 0, slice(2, 4), slice(4, 6), 8
_MAGIC, _PROTOCOL, _KIND, _EIGHT, _CLIENT_PORT, _CLIENT = 8, 9, 14, 15, slice(16, 18), slice(18, 22)

_IP_FIELDS = [slice(0, 1), slice(1, 2), _LENGTH, slice(4, 6), _FRAGMENT, slice(8, 9), slice(9, 10), slice(12, 16)]
_IP_FIELDS += [slice(16, 20)]
_ICMP_FIELDS = [slice(0, 1), slice(1, 2), _IDENTIFIER, slice(6, 8)]
_ICMP_FIELDS += [slice(8, 9), slice(9, 10), slice(10, 12), slice(12, 14), slice(14, 15), slice(15, 16)]
_ICMP_FIELDS += [_CLIENT_PORT, _CLIENT]

_EDGES = [
    IPv4Address(text).packed
    for text in (
        "0.0.0.0",
        "0.255.255.255",
        "1.0.0.0",
        "126.255.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "128.0.0.0",
        "223.255.255.255",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.254",
        "255.255.255.255",
    )
]


@dataclass(frozen=True)
class Ends:
    """Where the announced flows begin and end. Few of each make flows that meet."""

    directors: Sequence[Endpoint]
    servers: Sequence[Endpoint]
    clients: Sequence[Endpoint]


def some_ends(seed: int, directors: int, servers: int, clients: int) -> Ends:
    """So many of each, drawn from all there are (those of clients are such as clients can have)."""
    source = random.Random(seed)

    def drawn(number: int) -> list[Endpoint]:
        ends = (Endpoint(IPv4Address(source.getrandbits(32)), source.randrange(1, 0x10000)) for _ in range(number * 4))
        return [end for end in ends if end.can_be_client][:number]

    return Ends(drawn(directors), drawn(servers), drawn(clients))


class Draft:
    """A packet in its parts. The checksums are put in at the end."""

    def __init__(self, packet: bytes) -> None:
        self.header = bytearray(packet[:_IP_HEADER])
        self.message = bytearray(packet[_IP_HEADER:])
        self.behind = b""
        self.cut: int | None = None
        self.right_sums = (True, True)

    def packet(self) -> bytes:
        return self.whole()[: self.cut]

    def whole(self) -> bytes:
        """As long as nothing is cut off."""
        for part, at, right in zip(
            (self.header, self.message), (_IP_CHECKSUM, _ICMP_CHECKSUM), self.right_sums, strict=True
        ):
            if right and len(part) >= at.stop:
                part[at] = bytes(2)
                part[at] = checksum(part).to_bytes(2)
        return bytes(self.header + self.message + self.behind)

    def claim_length(self) -> None:
        """Let the total length be what it is."""
        self.header[_LENGTH] = (len(self.header) + len(self.message)).to_bytes(2)


class Announcements:
    """An endless, repeatable source of IP packets."""

    def __init__(self, seed: int, kinds: Collection[int], ends: Ends) -> None:
        self._random = random.Random(seed)
        self._kinds = sorted(kinds)
        self._ends = ends

    def __iter__(self) -> Iterator[bytes]:
        draw, choose = self._random.random, self._random.choice
        while True:
            draft = Draft(self.right())
            if draw() < 0.85:
                choose(_MUTATIONS)(self, draft)
            if draw() < 0.15 and len(draft.message) >= _MESSAGE:
                choose(_MUTATIONS)(self, draft)
            yield draft.packet()

    def right(self) -> bytes:
        """One as a director sends it."""
        choose = self._random.choice
        announced = Announcement(
            choose((PROTOCOL_UDP, PROTOCOL_UDP, PROTOCOL_TCP)),
            choose(self._ends.directors),
            choose(self._ends.servers),
            choose(self._ends.clients),
            choose(self._kinds),
        )
        return announcement.build(announced, little_endian=self._random.random() < 0.6)

    def _any_field(self, draft: Draft) -> tuple[bytearray, slice]:
        ip = self._random.random() < 0.4
        return (draft.header if ip else draft.message), self._random.choice(_IP_FIELDS if ip else _ICMP_FIELDS)

    def _one_off(self, draft: Draft) -> None:
        part, field = self._any_field(draft)
        size = len(part[field])
        changed = int.from_bytes(part[field]) + self._random.choice((-1, 1))
        part[field] = (changed % (1 << 8 * size)).to_bytes(size)

    def _draw_field(self, draft: Draft) -> None:
        part, field = self._any_field(draft)
        part[field] = self._random.randbytes(len(part[field]))

    def _clear_field(self, draft: Draft) -> None:
        part, field = self._any_field(draft)
        part[field] = bytes(len(part[field]))

    def _change_bit(self, draft: Draft) -> None:
        """As it happens on the way: nobody mends the checksums."""
        packet = bytearray(draft.whole())
        packet[self._random.randrange(len(packet))] ^= 1 << self._random.randrange(8)
        self._take_over(draft, packet)

    def _draw_bytes(self, draft: Draft) -> None:
        packet = bytearray(draft.whole())
        for _ in range(self._random.randrange(1, 4)):
            packet[self._random.randrange(len(packet))] = self._random.randrange(256)
        self._take_over(draft, packet)

    @staticmethod
    def _take_over(draft: Draft, packet: bytearray) -> None:
        """Make a draft of a packet whose checksums are not put in again."""
        header = len(draft.header)
        end = header + len(draft.message)
        draft.header, draft.message, draft.behind = packet[:header], packet[header:end], bytes(packet[end:])
        draft.right_sums = (False, False)

    def _break_sums(self, draft: Draft) -> None:
        draft.whole()  # now they are right
        ip = self._random.random() < 0.5
        part, at = (draft.header, _IP_CHECKSUM) if ip else (draft.message, _ICMP_CHECKSUM)
        if len(part) < at.stop:
            return
        draft.right_sums = (not ip and draft.right_sums[0], ip and draft.right_sums[1])
        how = self._random.randrange(4)
        if how == 0:
            part[at] = bytes(2)
        elif how == 1:
            part[at] = bytes(reversed(part[at]))
        else:
            changed = int.from_bytes(part[at]) + self._random.choice((-1, 1, 0x100, self._random.getrandbits(16)))
            part[at] = (changed & 0xFFFF).to_bytes(2)

    def _other_length(self, draft: Draft) -> None:
        """A byte more or less, and a total length that says so, or does not, or says so without a reason."""
        if self._random.random() < 0.5:
            del draft.message[-1:]
        else:
            draft.message += self._random.randbytes(1)
        if self._random.random() < 0.5:
            draft.claim_length()

    def _claim_other_length(self, draft: Draft) -> None:
        length = self._random.choice((0, 20, 28, 36, 41, 43, 46, 84, 0x2A00, self._random.getrandbits(16)))
        draft.header[_LENGTH] = length.to_bytes(2)

    def _ip_options(self, draft: Draft) -> None:
        words = self._random.randrange(1, _MOST_OPTIONS // 4 + 1)
        draft.header[_IP_HEADER:] = self._random.choice((bytes([1]), self._random.randbytes(1))) * (words * 4)
        draft.header[_WORDS] = bytes([0x45 + words])
        if self._random.random() < 0.5:
            draft.claim_length()

    def _claim_ip_options(self, draft: Draft) -> None:
        draft.header[_WORDS] = bytes([self._random.choice((0x40, 0x50)) | self._random.randrange(16)])

    def _fragment(self, draft: Draft) -> None:
        more = self._random.choice((_MORE_FRAGMENTS, _MORE_FRAGMENTS, 0))
        offset = self._random.choice((0, 0, 0, 0, 1, 0x1FFF, self._random.randrange(0x2000)))
        draft.header[_FRAGMENT] = (more | offset).to_bytes(2)

    def _other_identifier(self, draft: Draft) -> None:
        draft.message[_IDENTIFIER] = self._random.choice((b"\x12\x12", b"\x34\x34", b"\0\0", self._random.randbytes(2)))

    def _other_kind(self, draft: Draft) -> None:
        """One that a wrong bitmap would take for a configured one, or any."""
        near = draft.message[_KIND] ^ self._random.choice((1, 2, 8, 32, 64, 128))
        draft.message[_KIND] = self._random.choice((near, near, self._random.randrange(256)))

    def _other_protocol(self, draft: Draft) -> None:
        draft.message[_PROTOCOL] = self._random.choice((0, 1, 5, 7, 16, 18, 132, 255))

    def _edge_client(self, draft: Draft) -> None:
        draft.message[_CLIENT] = self._random.choice(_EDGES)

    def _port_0(self, draft: Draft) -> None:
        at = self._random.choice((10, 12, 16))
        draft.message[at : at + 2] = bytes(2)

    def _ping(self, draft: Draft) -> None:
        """An ordinary one, or one that has an announcement's header or its payload's marks by chance."""
        payload = bytearray(self._random.randbytes(self._random.choice((0, 8, 14, 14, 32, 56))))
        if len(payload) >= 8 and self._random.random() < 0.2:
            payload[0], payload[7] = announcement.MAGIC, self._random.choice((8, 8, 9))
        identifier = self._random.choice((*announcement.IDENTIFIERS, *self._random.choices(range(0x10000), k=8)))
        sequence = self._random.choice((0, 0, 1, 256))
        draft.message[:] = b"\x08\0\0\0" + identifier.to_bytes(2) + sequence.to_bytes(2) + payload
        draft.claim_length()

    def _other_type(self, draft: Draft) -> None:
        draft.message[_TYPE] = self._random.choice((0, 3, 5, 9, 11, 13, 136, self._random.randrange(256)))
        if self._random.random() < 0.5:
            draft.message[_MAGIC] ^= 1

    def _cut(self, draft: Draft) -> None:
        draft.cut = self._random.randrange(len(draft.whole()) + 1)

    def _padding(self, draft: Draft) -> None:
        draft.behind = self._random.choice((bytes(4), bytes(18), self._random.randbytes(self._random.randrange(100))))

    def _cut_and_padded(self, draft: Draft) -> None:
        """What is missing seems to be there."""
        del draft.message[self._random.randrange(_PAYLOAD, len(draft.message) + 1) :]
        draft.behind = self._random.choice((bytes(46), self._random.randbytes(46)))


_MUTATIONS = [
    Announcements._one_off,
    Announcements._one_off,
    Announcements._one_off,
    Announcements._draw_field,
    Announcements._draw_field,
    Announcements._clear_field,
    Announcements._change_bit,
    Announcements._draw_bytes,
    Announcements._break_sums,
    Announcements._other_length,
    Announcements._claim_other_length,
    Announcements._ip_options,
    Announcements._claim_ip_options,
    Announcements._fragment,
    Announcements._fragment,
    Announcements._fragment,
    Announcements._other_identifier,
    Announcements._other_kind,
    Announcements._other_kind,
    Announcements._other_protocol,
    Announcements._edge_client,
    Announcements._edge_client,
    Announcements._port_0,
    Announcements._ping,
    Announcements._ping,
    Announcements._other_type,
    Announcements._cut,
    Announcements._padding,
    Announcements._cut_and_padded,
]
