"""IPv4 and IPv6 headers as one type, so that forwarding and translating between the two is the same act; pure.

A header built from addresses of 4 bytes is IPv4, one of 16 bytes IPv6. What only one family has is dropped on the
way to the other, as RFC 7915 says: the flow label becomes 0, and a packet from IPv6 must not be fragmented.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tests.lab.checksum import checksum

V4 = struct.Struct("!BBHHHBBH4s4s")
V6 = struct.Struct("!IHBB16s16s")
DONT_FRAGMENT = 0x4000
MORE_OR_OFFSET = 0x3FFF  # a set bit means: one fragment of several
FRAGMENT_HEADER = 44  # IPv6's next header


class Dropped(Exception):
    """A packet that the director does not carry; the text names the counter."""


class Header(NamedTuple):
    """What a director keeps of an IP header. Addresses are 4 or 16 bytes in network byte order."""

    source: bytes
    destination: bytes
    protocol: int
    traffic_class: int = 0
    hop_limit: int = 64
    identification: int = 0
    fragment: int = DONT_FRAGMENT
    options: bytes = b""
    """IPv4's, a multiple of 4 bytes."""


def parse(packet: bytes) -> tuple[Header, bytearray]:
    """The header and a copy of what it carries. IPv4 options are not kept.

    Raises Dropped for fragments and for what is no whole IP packet.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= V4.size:
        return _parse_v4(packet)
    if version == 6 and len(packet) >= V6.size:
        return _parse_v6(packet)
    raise Dropped("malformed")


def build(header: Header, payload: bytes | bytearray) -> bytes:
    """The packet, of the family that the addresses have."""
    if len(header.source) == 4:
        return _build_v4(header, payload)
    word = 6 << 28 | header.traffic_class << 20
    protocol, hop_limit = header.protocol, header.hop_limit
    return V6.pack(word, len(payload), protocol, hop_limit, header.source, header.destination) + payload


def _parse_v4(packet: bytes) -> tuple[Header, bytearray]:
    first, tos, total, ident, fragment, ttl, protocol, _, source, destination = V4.unpack_from(packet)
    length = (first & 15) * 4
    if not V4.size <= length <= total <= len(packet):
        raise Dropped("malformed")
    if fragment & MORE_OR_OFFSET:
        raise Dropped("fragment")
    return Header(source, destination, protocol, tos, ttl, ident, fragment), bytearray(packet[length:total])


def _parse_v6(packet: bytes) -> tuple[Header, bytearray]:
    word, length, protocol, hop_limit, source, destination = V6.unpack_from(packet)
    if len(packet) < V6.size + length:
        raise Dropped("malformed")
    if protocol == FRAGMENT_HEADER:
        raise Dropped("fragment")
    payload = bytearray(packet[V6.size : V6.size + length])
    return Header(source, destination, protocol, word >> 20 & 0xFF, hop_limit), payload


def _build_v4(header: Header, payload: bytes | bytearray) -> bytes:
    source, destination, protocol, tos, ttl, ident, fragment, options = header
    length = V4.size + len(options)
    first, total = 4 << 4 | length // 4, length + len(payload)
    blank = V4.pack(first, tos, total, ident, fragment, ttl, protocol, 0, source, destination)
    right = checksum(blank + options)
    fixed = V4.pack(first, tos, total, ident, fragment, ttl, protocol, right, source, destination)
    return fixed + options + payload
