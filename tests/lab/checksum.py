"""Internet checksums (RFC 1071) and their incremental update (RFC 1624); pure arithmetic.

One's complement addition of 16-bit words is addition modulo 65535, because 2**16 leaves the remainder 1. So the sum
of a whole buffer is one division of one big integer, and a sum that is taken away is simply subtracted.
"""

from __future__ import annotations

MODULUS = 0xFFFF


def ones_sum(data: bytes | bytearray) -> int:
    """The one's complement sum of the 16-bit words (network byte order) in `data`, padded with a zero byte."""
    number = int.from_bytes(data, "big")
    return (number << 8 if len(data) % 2 else number) % MODULUS


def checksum(data: bytes | bytearray) -> int:
    """The checksum over `data`, in which the checksum field is 0. `data` must not be all zeros (no packet is)."""
    return -ones_sum(data) % MODULUS


def adjusted(old: int, removed: int, added: int) -> int:
    """The checksum after words of the sum `removed` were replaced by words of the sum `added`."""
    return (old + removed - added) % MODULUS
