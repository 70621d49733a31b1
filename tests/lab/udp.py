"""What a director changes in a UDP datagram: ports and checksum; pure.

A checksum is adjusted by what was replaced, so a datagram that was damaged before stays damaged. IPv4 alone knows
datagrams without a checksum, whose field is 0: they stay so within IPv4 and get one on the way to IPv6 (RFC 7915).
"""

from __future__ import annotations

import socket
import struct

from tests.lab.checksum import adjusted, checksum

HEADER = struct.Struct("!HHHH")  # source port, destination port, length, checksum
CHECKSUM = struct.Struct("!H")
CHECKSUM_AT = 6
EVERY_BIT = 0xFFFF  # what a checksum that is 0 is sent as; in one's complement they are the same


def is_whole(datagram: bytearray) -> bool:
    """Whether there is a header, and as much behind it as it says."""
    return len(datagram) >= HEADER.size and HEADER.size <= length(datagram) <= len(datagram)


def length(datagram: bytearray) -> int:
    """The length in bytes that the header tells, header included."""
    return int.from_bytes(datagram[4:6])


def has_checksum(datagram: bytearray) -> bool:
    """Whether the sender computed one."""
    return datagram[CHECKSUM_AT : CHECKSUM_AT + 2] != b"\0\0"


def readdress(datagram: bytearray, ports: bytes, added: int) -> None:
    """Put `ports` (source and destination, 4 bytes) in, in place.

    `added` is the sum of the new addresses and ports less the sum of the old ones, see Path.sum.
    """
    if has_checksum(datagram):
        (old,) = CHECKSUM.unpack_from(datagram, CHECKSUM_AT)
        CHECKSUM.pack_into(datagram, CHECKSUM_AT, adjusted(old, 0, added) or EVERY_BIT)
    datagram[:4] = ports


def clear_checksum(datagram: bytearray) -> None:
    """Make it, in place, a datagram without a checksum."""
    CHECKSUM.pack_into(datagram, CHECKSUM_AT, 0)


def fill_checksum(datagram: bytearray, addresses: bytes) -> None:
    """Give a datagram without a checksum, in place, the one between these addresses (source and destination)."""
    size = length(datagram)
    pseudo_header = addresses + struct.pack("!HH", socket.IPPROTO_UDP, size)
    CHECKSUM.pack_into(datagram, CHECKSUM_AT, checksum(pseudo_header + datagram[:size]) or EVERY_BIT)
