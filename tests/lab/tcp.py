"""What a director changes in a TCP segment: ports, the MSS, an additional option; pure.

Every change adjusts the checksum by what was replaced. So a segment that was damaged before stays damaged, and the
payload is never read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ipvsca.wire.toa import DATA_OFFSET, END_OF_LIST, NO_OPERATION, TCP_HEADER
from tests.lab.checksum import adjusted, ones_sum

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
FLAGS = 13  # the byte's place in the header
SEQUENCE = struct.Struct("!II")  # sequence and acknowledgement number, at byte 4
CHECKSUM = struct.Struct("!H")
CHECKSUM_AT = 16
MAX_HEADER = 60
MSS = 2
MSS_LENGTH = 4


class NoRoom(ValueError):
    """The header's 40 bytes of options have no room for another one."""


def is_whole(segment: bytearray) -> bool:
    """Whether there is a header, and as much of it as it says."""
    return len(segment) >= TCP_HEADER and TCP_HEADER <= header_length(segment) <= len(segment)


def header_length(segment: bytes | bytearray) -> int:
    """The header's length in bytes, options included."""
    return (segment[DATA_OFFSET] >> 4) * 4


def numbers(segment: bytearray) -> tuple[int, int]:
    """The sequence and the acknowledgement number."""
    sequence, acknowledged = SEQUENCE.unpack_from(segment, 4)
    return sequence, acknowledged


def is_bare_ack(segment: bytearray) -> bool:
    """Whether the segment only acknowledges: no payload, no SYN, FIN or RST."""
    return segment[FLAGS] & (SYN | FIN | RST | ACK) == ACK and len(segment) == header_length(segment)


def readdress(segment: bytearray, ports: bytes, added: int) -> None:
    """Put `ports` (source and destination, 4 bytes) in, in place.

    `added` is the sum of the new addresses and ports less the sum of the old ones, see Path.sum.
    """
    (old,) = CHECKSUM.unpack_from(segment, CHECKSUM_AT)
    CHECKSUM.pack_into(segment, CHECKSUM_AT, adjusted(old, 0, added))
    segment[:4] = ports


def with_option(segment: bytearray, option: bytes, *, first: bool) -> bytearray:
    """The segment with an option (a multiple of 4 bytes) before or behind those it has. Raises NoRoom."""
    length = header_length(segment)
    if length + len(option) > MAX_HEADER:
        raise NoRoom
    at = TCP_HEADER if first else length
    return _with_header(segment, segment[:at] + option + segment[at:length])


def with_lower_mss(segment: bytearray, less: int) -> bytearray:
    """The segment (a SYN) with `less` bytes taken from the MSS it announces; unchanged where it announces none."""
    header = segment[: header_length(segment)]
    for at in _options(header, MSS, MSS_LENGTH):
        (mss,) = CHECKSUM.unpack_from(header, at + 2)
        CHECKSUM.pack_into(header, at + 2, max(0, mss - less))
    return _with_header(segment, header)


def _options(header: bytearray, kind: int, length: int) -> Iterator[int]:
    """Where options of this kind and length begin."""
    at = TCP_HEADER
    while at + 1 < len(header) and header[at] != END_OF_LIST:
        if header[at] == NO_OPERATION:
            at += 1
            continue
        size = header[at + 1]
        if size < 2 or at + size > len(header):
            return
        if (header[at], size) == (kind, length):
            yield at
        at += size


def _with_header(segment: bytearray, header: bytearray) -> bytearray:
    """The segment's payload behind another header, of a length that is a multiple of 4.

    The pseudo-header holds the segment's length, so a longer header counts twice: by its bytes and by their number.
    """
    before = segment[: header_length(segment)]
    header[DATA_OFFSET] = len(header) // 4 << 4 | header[DATA_OFFSET] & 15
    (old,) = CHECKSUM.unpack_from(segment, CHECKSUM_AT)
    new = adjusted(old, ones_sum(before) + len(before), ones_sum(header) + len(header))
    CHECKSUM.pack_into(header, CHECKSUM_AT, new)
    return header + segment[len(before) :]
