"""What the formats share: numbers of IP, and the internet checksum (RFC 1071)."""

from __future__ import annotations

import struct

PROTOCOL_ICMP = 1
PROTOCOL_TCP = 6
PROTOCOL_UDP = 17

FRAGMENT_OFFSET = 0x1FFF
MORE_FRAGMENTS = 0x2000


def checksum(data: bytes) -> int:
    """Of these bytes: 0 over data that contains its own right checksum."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def with_checksum(data: bytes, at: int) -> bytes:
    """The data with its checksum at this place, which is 0."""
    return data[:at] + checksum(data).to_bytes(2) + data[at + 2 :]
