"""Datagrams with UOA by the hundred thousand: right ones, and ones wrong in every way that a reader may stumble on.

A wrong field is met in a packet whose IPv4 checksum is right nearly always: behind a wrong one nothing would be read.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address

from ipvsca.wire import uoa
from ipvsca.wire.uoa import Told
from tests.bpf.announcements import Ends
from tests.lab.checksum import checksum

_TOTAL, _FRAGMENT, _IP_CHECKSUM = slice(2, 4), slice(6, 8), slice(10, 12)
_IPV6_LENGTH = slice(4, 6)
_MOST_OPTIONS = 40

_EDGES = [
    *(IPv4Address(text).packed for text in ("0.1.2.3", "1.0.0.0", "126.9.9.9", "127.0.0.1", "128.0.0.0", "224.0.0.1")),
    *(IPv4Address(text).packed for text in ("239.255.255.255", "240.0.0.0", "255.255.255.254", "255.255.255.255")),
    *(IPv6Address(text).packed for text in ("::", "::1", "::2", "ff02::1", "fe80::1", "::ffff:127.0.0.1")),
    *(IPv6Address(text).packed for text in ("::ffff:198.51.100.7", "::ffff:0.0.0.0", "64:ff9b::c633:6407")),
]
_OTHER_OPTIONS = [bytes.fromhex(text) for text in ("01", "0101", "94040000", "4408050000000000", "9f040000", "00")]
_TELLING_BYTES = (0, 1, 4, 6, 8, 12, 16, 17, 20, 24, 0x45, 0x46, 0x4F, 0x9F, 0x9E, 0x10, 0x20, 0x30, 0xF8, 255)
_LOOKED_AT = 60  # bytes of a part: what follows is data


class Draft:
    """An IP packet in its parts: the header, what tells the client (within the header for ipo), the datagram."""

    def __init__(self, front: bytes, telling: bytes, datagram: bytes, is_ipo: bool) -> None:
        self.front = bytearray(front)
        self.telling = bytearray(telling)
        self.datagram = bytearray(datagram)
        self.is_ipo = is_ipo
        self.is_ipv4 = front[0] >> 4 == 4
        self.behind = b""
        self.cut: int | None = None
        self.has_right_sum = True

    def packet(self) -> bytes:
        if self.is_ipv4 and self.has_right_sum:
            self.mend_sum()
        return bytes(self.front + self.telling + self.datagram + self.behind)[: self.cut]

    def mend_sum(self) -> None:
        self.front[_IP_CHECKSUM] = bytes(2)
        header = self.front + self.telling if self.is_ipo else self.front
        self.front[_IP_CHECKSUM] = checksum(header[: (header[0] & 0xF) * 4] or b"\1").to_bytes(2)

    def claim_lengths(self) -> None:
        """Let the header and total length be what they are."""
        length = len(self.front) + len(self.telling) + len(self.datagram)
        if self.is_ipv4:
            self.front[_TOTAL] = length.to_bytes(2)
            header = len(self.front) + (len(self.telling) if self.is_ipo else 0)
            self.front[0] = 0x40 | min(header // 4, 0xF)
        else:
            self.front[_IPV6_LENGTH] = (length - len(self.front)).to_bytes(2)


class Datagrams:
    """An endless, repeatable source of IP packets. Directors and servers of each of `ends` have one IP version.

    `ipo` is the share of ipo among those with IPv4, all others have opp.
    """

    def __init__(self, seed: int, ends: Sequence[Ends], ipo: float = 0.5) -> None:
        self._random = random.Random(seed)
        self._ends = ends
        self._ipo = ipo

    def __iter__(self) -> Iterator[bytes]:
        draw, choose = self._random.random, self._random.choice
        while True:
            draft = self.right()
            for chance in (0.8, 0.2):
                if draw() < chance:
                    choose(_MUTATIONS)(self, draft)
            yield draft.packet()

    def right(self) -> Draft:
        """One as a director sends it, with a few bytes of data; ipo often among other options."""
        choose = self._random.choice
        ends = choose(self._ends)
        told = Told(choose(ends.directors), choose(ends.servers), choose(ends.clients))
        payload = self._random.randbytes(self._random.choice((0, 0, 1, 7, 40, 200)))
        is_ipo = told.director.address.version == 4 and self._random.random() < self._ipo
        packet = uoa.build_ipo(told, payload) if is_ipo else uoa.build_opp(told, payload)
        datagram = len(packet) - 8 - len(payload)
        front = 20 if packet[0] >> 4 == 4 else 40
        draft = Draft(packet[:front], packet[front:datagram], packet[datagram:], is_ipo)
        if is_ipo and self._random.random() < 0.5:
            self._among_others(draft)
        return draft

    def _among_others(self, draft: Draft) -> None:
        before = b"".join(self._random.choices(_OTHER_OPTIONS, (9, 9, 9, 9, 5, 1), k=self._random.randrange(4)))
        after = b"".join(self._random.choices(_OTHER_OPTIONS, k=self._random.randrange(2)))
        options = before + draft.telling + after
        padded = options + bytes([self._random.choice((0, 1))]) * (-len(options) % 4)
        if len(padded) <= _MOST_OPTIONS:
            draft.telling[:] = padded
            draft.claim_lengths()

    def _set_byte(self, draft: Draft) -> None:
        part = self._random.choice((draft.front, draft.telling, draft.telling, draft.datagram))
        if part:
            value = self._random.choice((*_TELLING_BYTES, self._random.randrange(256)))
            part[self._random.randrange(min(len(part), _LOOKED_AT))] = value

    def _one_off(self, draft: Draft) -> None:
        part = self._random.choice((draft.front, draft.telling, draft.telling, draft.datagram))
        if part:
            at = self._random.randrange(min(len(part), _LOOKED_AT))
            part[at] = (part[at] + self._random.choice((-1, 1))) % 256

    def _clear(self, draft: Draft) -> None:
        part = self._random.choice((draft.front, draft.telling, draft.datagram))
        at = self._random.randrange(max(len(part) - 1, 1))
        part[at : at + 2] = bytes(len(part[at : at + 2]))

    def _break_sum(self, draft: Draft) -> None:
        if draft.is_ipv4:
            draft.mend_sum()
            draft.has_right_sum = False
            changed = int.from_bytes(draft.front[_IP_CHECKSUM]) + self._random.choice((-1, 1, 0x100, 0xFFFF, 0x1234))
            draft.front[_IP_CHECKSUM] = (changed & 0xFFFF).to_bytes(2)

    def _fragment(self, draft: Draft) -> None:
        if draft.is_ipv4:
            more, offset = self._random.choice((0, 0x2000)), self._random.choice((0, 0, 1, 0x1FFF))
            draft.front[_FRAGMENT] = (more | offset).to_bytes(2)

    def _claim_other_length(self, draft: Draft) -> None:
        place = _TOTAL if draft.is_ipv4 else _IPV6_LENGTH
        near = int.from_bytes(draft.front[place]) + self._random.choice((-8, -1, 1, 8))
        draft.front[place] = (self._random.choice((near, near, 0, 20, 28, 0xFFFF)) & 0xFFFF).to_bytes(2)

    def _claim_other_udp_length(self, draft: Draft) -> None:
        near = int.from_bytes(draft.datagram[4:6]) + self._random.choice((-1, 1))
        draft.datagram[4:6] = (self._random.choice((near, near, 0, 7, 8, 0xFFFF)) & 0xFFFF).to_bytes(2)

    def _claim_other_option_length(self, draft: Draft) -> None:
        at = draft.telling.find(uoa.KIND) + 1
        draft.telling[at : at + 1] = bytes([self._random.choice((0, 1, 2, 4, 7, 8, 9, 12, 16, 20, 21, 40))])

    def _port_0(self, draft: Draft) -> None:
        at = self._random.choice((0, 2))
        draft.datagram[at : at + 2] = bytes(2)

    def _edge_client(self, draft: Draft) -> None:
        edge = self._random.choice(_EDGES)
        draft.telling[-len(edge) :] = edge

    def _resize(self, draft: Draft) -> None:
        """What tells the client, by some bytes, with lengths that know of it."""
        at = self._random.randrange(len(draft.telling) + 1)
        if self._random.random() < 0.5:
            draft.telling[at:at] = self._random.randbytes(4)
        else:
            del draft.telling[at : at + 4]
        draft.claim_lengths()

    def _cut(self, draft: Draft) -> None:
        draft.cut = self._random.randrange(len(draft.packet()) + 1)

    def _padding(self, draft: Draft) -> None:
        draft.behind = self._random.choice((bytes(4), self._random.randbytes(self._random.randrange(1, 60))))

    def _cut_and_padded(self, draft: Draft) -> None:
        """What is missing seems to be there."""
        del draft.datagram[self._random.randrange(len(draft.datagram) + 1) :]
        draft.behind = self._random.randbytes(46)

    def _flip(self, draft: Draft) -> None:
        """As it happens on the way: nobody mends the checksum."""
        if draft.is_ipv4:
            draft.mend_sum()
            draft.has_right_sum = False
        part = self._random.choice((draft.front, draft.telling, draft.datagram))
        if part:
            part[self._random.randrange(len(part))] ^= 1 << self._random.randrange(8)


_MUTATIONS = [
    Datagrams._set_byte,
    Datagrams._set_byte,
    Datagrams._one_off,
    Datagrams._one_off,
    Datagrams._one_off,
    Datagrams._clear,
    Datagrams._break_sum,
    Datagrams._fragment,
    Datagrams._claim_other_length,
    Datagrams._claim_other_udp_length,
    Datagrams._claim_other_option_length,
    Datagrams._claim_other_option_length,
    Datagrams._port_0,
    Datagrams._edge_client,
    Datagrams._edge_client,
    Datagrams._resize,
    Datagrams._cut,
    Datagrams._padding,
    Datagrams._cut_and_padded,
    Datagrams._flip,
]
