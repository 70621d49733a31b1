"""Test data as tables of sentences, read by the tests of the pure code and by those of the BPF programs alike."""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ipvsca.address import Endpoint
from ipvsca.wire.toa import TCP_HEADER, Parsed, Verdict

LONGEST_HEADER = 15  # words of 4 bytes

_FOLDER = Path(__file__).parent
_CLAIM = re.compile(r"@(\d+)\s+(.*)")
_WORD = re.compile(r"((?:[0-9a-f]{2})+)(?:\*(\d+)(?:\.\.(\d+))?)?")


@dataclass(frozen=True)
class Vector:
    """A case: what it is, a segment that begins with its TCP header, and what is to be read from it."""

    sentence: str
    segment: bytes
    expected: Parsed

    @property
    def header_length(self) -> int:
        """In bytes, as the header claims it."""
        return (self.segment[12] >> 4) * 4


def toa_vectors() -> list[Vector]:
    """The cases of toa.txt."""
    return [vector for columns in _rows("toa.txt") for vector in _vectors(*columns)]


def tcp_header(words: int) -> bytes:
    """The fixed part of a SYN's header that claims to be so many words of 4 bytes long."""
    return struct.pack("!HHIIBBHHH", 40000, 80, 0x01020304, 0, words << 4, 0x02, 0xFFFF, 0, 0)


def _rows(name: str) -> Iterator[list[str]]:
    for line in (_FOLDER / name).read_text().splitlines():
        if line and not line.startswith("#"):
            yield [column.strip() for column in line.split("|")]


def _vectors(sentence: str, text: str, expected: str) -> Iterator[Vector]:
    parsed = _parsed(expected)
    claim = _CLAIM.fullmatch(text)
    header, _, payload = (claim[2] if claim else text).partition("/")
    for options, behind in itertools.product(_expand(header), _expand(payload)):
        padded = options + bytes(-len(options) % 4)
        words = int(claim[1]) if claim else min((TCP_HEADER + len(padded)) // 4, LONGEST_HEADER)
        yield Vector(sentence, tcp_header(words) + padded + behind, parsed)


def _parsed(expected: str) -> Parsed:
    if expected in Verdict.__members__:
        return Parsed(Verdict[expected])
    return Parsed(Verdict.FOUND, Endpoint.parse(expected))


def _expand(text: str) -> Iterator[bytes]:
    """The bytes that a text means; several, where it has a word like 01*0..32."""
    yield from map(b"".join, itertools.product(*(list(_repeated(word)) for word in text.split())))


def _repeated(word: str) -> Iterator[bytes]:
    match = _WORD.fullmatch(word)
    assert match, f"{word} is neither hexadecimal nor xx*n nor xx*n..m"
    digits, least, most = match.groups()
    for times in range(int(least or 1), int(most or least or 1) + 1):
        yield bytes.fromhex(digits) * times
