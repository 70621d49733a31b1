"""The TCP address option ("TOA"): how a director names the client inside a TCP header.

    kind (1) | length (1) | client port (2) | client address (4 or 16)      network byte order

Kind 200 was sent by the first LVS FULLNAT release, kind 254 by alibaba/LVS, DPVS and most clouds. Length 8
carries an IPv4 client, length 20 an IPv6 client. This module is the reference that bpf/toa.h is tested against.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address

from ipvsca.address import Address, Endpoint, from_mapped

KIND_LVS = 200
KIND_DPVS = 254
DEFAULT_KINDS = frozenset({KIND_LVS, KIND_DPVS})

END_OF_LIST = 0
NO_OPERATION = 1
LENGTH_IPV4 = 8
LENGTH_IPV6 = 20

TCP_HEADER = 20  # bytes, without options
DATA_OFFSET = 12  # the byte whose high nibble is the header's length in words of 4 bytes


class Verdict(IntEnum):
    """What a TCP header says about the client; `enum toa_verdict` in bpf/toa.h has the same members."""

    FOUND = 0
    ABSENT = 1
    """No option of a configured kind before the end of the options."""
    MALFORMED = 2
    """An option with a length under 2 or beyond the header's end: nothing in this header is believed."""
    LENGTH = 3
    """A configured kind, but not of length 8 or 20: somebody else's option (kinds 253 and 254 are shared, RFC 6994)."""
    CLIENT = 4
    """An address or port that no client can have, see Endpoint.can_be_client."""


@dataclass(frozen=True)
class Parsed:
    """A verdict, and the client where it is FOUND."""

    verdict: Verdict
    client: Endpoint | None = None


def parse(options: bytes, kinds: Collection[int] = DEFAULT_KINDS) -> Parsed:
    """Read the client from a TCP header's options (the bytes between the fixed header and the data offset).

    The first option of a configured kind and of length 8 or 20 decides. What follows it is not read.
    """
    at, verdict = 0, Verdict.ABSENT
    while at < len(options) and options[at] != END_OF_LIST:
        if options[at] == NO_OPERATION:
            at += 1
            continue
        option = _option_at(options, at)
        if option is None:
            return Parsed(Verdict.MALFORMED)
        if option[0] in kinds:
            if len(option) in (LENGTH_IPV4, LENGTH_IPV6):
                return _judge(option)
            verdict = Verdict.LENGTH
        at += len(option)
    return Parsed(verdict)


def parse_header(header: bytes, kinds: Collection[int] = DEFAULT_KINDS) -> Parsed:
    """Read the client from a segment that begins with its TCP header; what follows the header is not read."""
    if len(header) < TCP_HEADER:
        return Parsed(Verdict.MALFORMED)
    length = (header[DATA_OFFSET] >> 4) * 4
    if not TCP_HEADER <= length <= len(header):
        return Parsed(Verdict.MALFORMED)
    return parse(header[TCP_HEADER:length], kinds)


def build(client: Endpoint, kind: int = KIND_DPVS) -> bytes:
    """The option for a client: 8 bytes for IPv4, 20 for IPv6."""
    packed = client.address.packed
    return struct.pack("!BBH", kind, 4 + len(packed), client.port) + packed


def _option_at(options: bytes, at: int) -> bytes | None:
    """The whole option that starts at `at`, or None where its length is under 2 or beyond the end."""
    length = options[at + 1] if at + 1 < len(options) else 0
    return options[at : at + length] if 2 <= length <= len(options) - at else None


def _judge(option: bytes) -> Parsed:
    (port,) = struct.unpack_from("!H", option, 2)
    client = Endpoint(_address(option[4:]), port)
    return Parsed(Verdict.FOUND, client) if client.can_be_client else Parsed(Verdict.CLIENT)


def _address(packed: bytes) -> Address:
    return IPv4Address(packed) if len(packed) == 4 else from_mapped(packed)
