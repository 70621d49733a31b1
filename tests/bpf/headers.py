"""TCP headers by the hundred thousand: option lists as they occur, broken in every way that a parser may stumble on.

What to look for decides what is made, because bytes drawn blindly nearly never reach the code behind the first check.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from ipaddress import IPv6Address

from ipvsca.wire import toa

_FIXED, _ROOM = toa.TCP_HEADER, 40
_POOL = 4096

_ORDINARY = [
    bytes.fromhex(option)
    for option in (
        "020405b4",  # maximum segment size
        "0402",  # selective acknowledgements permitted
        "050a0000000100000002",  # one block of them
        "080a0000000100000002",  # timestamps
        "030307",  # window scale
        "22020a",  # fast open, shorter than its length
        "1312" + "5a" * 16,  # MD5 signature
    )
]
_IPV6_EDGES = [
    IPv6Address(text).packed for text in ("::", "::1", "::2", "ff02::1", "feff::", "fe80::1", "1::", "0:0:1::1")
]
_MAPPED = [
    bytes(10) + b"\xff\xff",
    bytes(10) + b"\xff\xfe",
    bytes(8) + b"\0\1\xff\xff",
    b"\0\1" + bytes(8) + b"\xff\xff",
]
_IPV4_FIRST = bytes([0, 1, 126, 127, 128, 198, 198, 203, 223, 224, 239, 240, 254, 255])


class Headers:
    """An endless, repeatable source of segments that begin with a TCP header."""

    def __init__(self, seed: int, kinds: Collection[int]) -> None:
        self._random = random.Random(seed)
        self._kinds = sorted(kinds)
        self._options = [self._option() for _ in range(_POOL)]
        self._named = [self._address_option() for _ in range(_POOL)]
        self._fixed = [self._random.randbytes(_FIXED) for _ in range(64)]

    def __iter__(self) -> Iterator[bytes]:
        draw, choices = self._random.random, self._random.choices
        lists = range(7)
        while True:
            options = b"".join(choices(self._options, k=choices(lists)[0]))[:_ROOM]
            options += (b"\0" if draw() < 0.5 else b"\1") * (-len(options) % 4)
            segment = bytearray(choices(self._fixed)[0] + options)
            segment[12] = (_FIXED + len(options)) << 2 | segment[12] & 0xF  # the low nibble belongs to no one
            if draw() < 0.3:
                segment += choices(self._named)[0]
            if draw() < 0.6:
                choices(_MUTATIONS)[0](self, segment)
            yield bytes(segment)

    def _option(self) -> bytes:
        """One option, or what stands between options."""
        kind = self._random.random()
        if kind < 0.25:
            return self._random.choice(_ORDINARY)
        if kind < 0.40:
            return bytes([toa.NO_OPERATION]) * self._random.choice([1, 1, 2, 2, 3, 12, 30, 38])
        if kind < 0.43:
            return bytes([toa.END_OF_LIST])
        if kind < 0.75:
            return self._address_option()
        if kind < 0.90:
            return self._framed(self._kind(), self._random.choice([2, 3, 4, 6, 7, 9, 12, 19, 21, 40]))
        return self._framed(self._random.randrange(256), self._random.choice([2, 4, 5, 8, 20]))

    def _address_option(self) -> bytes:
        port = self._random.choice([0, 1, 256, 0xFFFF, *self._random.choices(range(1, 0x10000), k=16)])
        address = self._ipv6() if self._random.random() < 0.4 else self._ipv4()
        return bytes([self._kind(), 4 + len(address)]) + port.to_bytes(2) + address

    def _kind(self) -> int:
        """One of the kinds looked for, or one that a wrong bitmap would take for it."""
        kind = self._random.choice(self._kinds)
        return kind if self._random.random() < 0.85 else (kind ^ self._random.choice([1, 2, 8, 32, 64, 128])) or 2

    def _framed(self, kind: int, length: int) -> bytes:
        return bytes([kind, length]) + self._random.randbytes(length - 2)

    def _ipv4(self) -> bytes:
        first = self._random.choice(_IPV4_FIRST)
        return bytes([first]) + self._random.choice([bytes(3), b"\0\0\1", b"\xff\xff\xff", self._random.randbytes(3)])

    def _ipv6(self) -> bytes:
        kind = self._random.random()
        if kind < 0.25:
            return self._random.choice(_MAPPED) + self._ipv4()
        if kind < 0.5:
            return self._random.choice(_IPV6_EDGES)
        return self._random.randbytes(16)

    def _change_byte(self, segment: bytearray) -> None:
        at = self._random.randrange(12, len(segment))
        segment[at] = self._random.choice(
            [0, 1, 2, 3, 7, 8, 9, 20, 41, 254, 255, *self._kinds, self._random.randrange(256)]
        )

    def _change_bit(self, segment: bytearray) -> None:
        segment[self._random.randrange(12, len(segment))] ^= 1 << self._random.randrange(8)

    def _claim_other_length(self, segment: bytearray) -> None:
        segment[12] = self._random.randrange(16) << 4 | segment[12] & 0xF

    def _claim_a_little_less(self, segment: bytearray) -> None:
        """What is left of the options becomes payload; often one is cut in two."""
        segment[12] = max(segment[12] - (self._random.randrange(1, 4) << 4), 0x50)

    def _cut(self, segment: bytearray) -> None:
        del segment[self._random.randrange(len(segment)) :]

    def _plant_at_the_end(self, segment: bytearray) -> None:
        """An address option across the header's end, or right behind it."""
        option = self._random.choice(self._named)
        end = (segment[12] >> 4) * 4
        at = max(end - self._random.randrange(len(option)), _FIXED)
        segment[at : at + len(option)] = option

    def _insert(self, segment: bytearray) -> None:
        at = self._random.randrange(_FIXED, len(segment) + 1)
        segment[at:at] = self._random.randbytes(self._random.randrange(1, 5))

    def _draw_all(self, segment: bytearray) -> None:
        """Bytes without any plan."""
        segment[12:] = self._random.randbytes(self._random.randrange(50))


_MUTATIONS = [
    Headers._change_byte,
    Headers._change_byte,
    Headers._change_bit,
    Headers._claim_other_length,
    Headers._claim_a_little_less,
    Headers._claim_a_little_less,
    Headers._cut,
    Headers._plant_at_the_end,
    Headers._plant_at_the_end,
    Headers._insert,
    Headers._draw_all,
]
