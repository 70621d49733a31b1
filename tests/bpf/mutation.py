"""Packets from packets: some bytes of a good one changed, or what stands behind IP exchanged for something random."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from ipvsca.wire import toa
from tests.bpf.announcements import Announcements, Ends
from tests.bpf.datagrams import Datagrams
from tests.bpf.headers import Headers
from tests.bpf.testrun import shortest

_SYN = 0x02
_FLAGS = toa.DATA_OFFSET + 1
_HEADERS = 120  # bytes: what follows is payload nearly always
_TELLING = (0, 1, 4, 5, 6, 8, 17, 20, 43, 44, 59, 60, 0x45, 0x46, 0x60, 0x81, 0x86, 0xA8, 0xDD, 200, 254, 255)


def other_segments(seed: int, fronts: Sequence[bytes]) -> Iterator[bytes]:
    """Random TCP headers, SYNs nearly always, behind what stands before those of whole packets."""
    source = random.Random(seed)
    for header in Headers(seed, toa.DEFAULT_KINDS):
        segment = bytearray(header)
        if len(segment) > _FLAGS and source.random() < 0.9:
            segment[_FLAGS] = _SYN
        yield source.choice(fronts) + bytes(segment)


def other_announcements(seed: int, fronts: Sequence[bytes], ends: Ends) -> Iterator[bytes]:
    """Announcements, right and wrong, behind what stands before IP. Few ends make flows that meet."""
    source = random.Random(seed)
    for packet in Announcements(seed, toa.DEFAULT_KINDS, ends):
        yield source.choice(fronts) + packet


def other_datagrams(
    seed: int, fronts: Sequence[tuple[bytes, bytes]], ends: Sequence[Ends], ipo: float = 0.5
) -> Iterator[bytes]:
    """Datagrams with UOA, right and wrong, behind what stands before IP: before IPv4, and before IPv6."""
    source = random.Random(seed)
    for packet in Datagrams(seed, ends, ipo):
        yield source.choice(fronts)[packet[:1] >= b"\x60"] + packet


class Mutants:
    """An endless, repeatable source of packets.

    `whole` are packets, some bytes of which are changed; `others` stand between them as they are.
    """

    def __init__(self, seed: int, whole: Sequence[bytes], others: Iterator[bytes]) -> None:
        self._random = random.Random(seed)
        self._whole = whole
        self._others = others

    def __iter__(self) -> Iterator[bytes]:
        while True:
            packet = next(self._others) if self._random.random() < 0.4 else self._changed()
            frame = bytes(packet).ljust(14, b"\0")
            yield frame.ljust(shortest(frame[12:14]), b"\0")

    def _changed(self) -> bytearray:
        packet = bytearray(self._random.choice(self._whole))
        for _ in range(self._random.choice((0, 1, 1, 1, 2, 3))):
            if packet:
                self._random.choice(_MUTATIONS)(self, packet)
        return packet

    def _place(self, packet: bytearray) -> int:
        return self._random.randrange(min(len(packet), _HEADERS))

    def _set(self, packet: bytearray) -> None:
        packet[self._place(packet)] = self._random.choice(_TELLING)

    def _draw(self, packet: bytearray) -> None:
        packet[self._place(packet)] = self._random.randrange(256)

    def _flip(self, packet: bytearray) -> None:
        packet[self._place(packet)] ^= 1 << self._random.randrange(8)

    def _cut(self, packet: bytearray) -> None:
        del packet[self._random.randrange(len(packet)) :]

    def _insert(self, packet: bytearray) -> None:
        at = self._place(packet)
        packet[at:at] = self._random.randbytes(self._random.choice((1, 2, 4, 8)))

    def _take_out(self, packet: bytearray) -> None:
        at = self._place(packet)
        del packet[at : at + self._random.choice((1, 2, 4, 8))]


_MUTATIONS = (
    Mutants._set,
    Mutants._set,
    Mutants._draw,
    Mutants._flip,
    Mutants._flip,
    Mutants._cut,
    Mutants._insert,
    Mutants._take_out,
)
