"""Test data as tables of sentences, read by the tests of the pure code and by those of the BPF programs alike."""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ipvsca.address import Endpoint
from ipvsca.wire import announcement, uoa
from ipvsca.wire.announcement import Announcement
from ipvsca.wire.internet import PROTOCOL_TCP, PROTOCOL_UDP
from ipvsca.wire.toa import TCP_HEADER, Parsed, Verdict
from tests.lab.checksum import checksum

LONGEST_HEADER = 15  # words of 4 bytes

_PROTOCOLS = {"TCP": PROTOCOL_TCP, "UDP": PROTOCOL_UDP}
_RIGHT_CHECKSUM, _NO_CHECKSUM = "----", "0000"
_IP_CHECKSUM, _ICMP_CHECKSUM = 10, 2  # where they stand
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


@dataclass(frozen=True)
class AnnouncementVector:
    """A case: what it is, an IP packet, and what is to be read from it."""

    sentence: str
    packet: bytes
    expected: announcement.Parsed


@dataclass(frozen=True)
class UoaVector:
    """A case: what it is, an IP packet, what is to be read from it, and what opp becomes where that is written out."""

    sentence: str
    packet: bytes
    expected: uoa.Parsed
    becomes: bytes | None = None


def ipo_vectors() -> list[UoaVector]:
    """The cases of ipo.txt."""
    return [_uoa_vector(*columns) for columns in _rows("ipo.txt")]


def opp_vectors() -> list[UoaVector]:
    """The cases of opp.txt."""
    return [_uoa_vector(*columns) for columns in _rows("opp.txt")]


def announcement_vectors() -> list[AnnouncementVector]:
    """The cases of announcement.txt."""
    return [
        AnnouncementVector(sentence, _ip_packet(text), _parsed_announcement(expected))
        for sentence, text, expected in _rows("announcement.txt")
    ]


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


def _ip_packet(text: str) -> bytes:
    header_text, icmp_text, payload_text = text.split("/")
    header = _with_checksum(header_text, "", _IP_CHECKSUM)
    claimed = int.from_bytes(header[2:4]) - len(header)
    payload = _bytes(payload_text)
    ours = payload[: max(claimed - len(_bytes(icmp_text)), 0)]
    return header + _with_checksum(icmp_text, ours.hex(), _ICMP_CHECKSUM) + payload


def _with_checksum(text: str, behind: str, at: int) -> bytes:
    """The bytes of `text`, with the checksum over it and what is behind it in its place, if that is left open."""
    data = _bytes(text)
    if _RIGHT_CHECKSUM not in text:
        return data
    return data[:at] + checksum(data + bytes.fromhex(behind)).to_bytes(2) + data[at + 2 :]


def _bytes(text: str) -> bytes:
    (data,) = _expand(text.replace(_RIGHT_CHECKSUM, _NO_CHECKSUM))
    return data


def _parsed_announcement(expected: str) -> announcement.Parsed:
    if expected in announcement.Verdict.__members__:
        return announcement.Parsed(announcement.Verdict[expected])
    protocol, director, server, client, kind = expected.split()
    announced = Announcement(
        _PROTOCOLS[protocol], Endpoint.parse(director), Endpoint.parse(server), Endpoint.parse(client), int(kind)
    )
    return announcement.Parsed(announcement.Verdict.FOUND, announced)


def _uoa_vector(sentence: str, text: str, expected: str, becomes: str | None = None) -> UoaVector:
    packet = _uoa_packet(text)
    return UoaVector(sentence, packet, _parsed_uoa(expected), _uoa_packet(becomes) if becomes else None)


def _uoa_packet(text: str) -> bytes:
    header, *behind = text.split("/")
    return _with_checksum(header, "", _IP_CHECKSUM) + b"".join(map(_bytes, behind))


def _parsed_uoa(expected: str) -> uoa.Parsed:
    if expected in uoa.Verdict.__members__:
        return uoa.Parsed(uoa.Verdict[expected])
    director, server, client = map(Endpoint.parse, expected.split())
    return uoa.Parsed(uoa.Verdict.FOUND, uoa.Told(director, server, client))


def _expand(text: str) -> Iterator[bytes]:
    """The bytes that a text means; several, where it has a word like 01*0..32."""
    yield from map(b"".join, itertools.product(*(list(_repeated(word)) for word in text.split())))


def _repeated(word: str) -> Iterator[bytes]:
    match = _WORD.fullmatch(word)
    assert match, f"{word} is neither hexadecimal nor xx*n nor xx*n..m"
    digits, least, most = match.groups()
    for times in range(int(least or 1), int(most or least or 1) + 1):
        yield bytes.fromhex(digits) * times
