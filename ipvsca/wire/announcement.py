"""The announcement: an ICMP echo request from LIP to RIP that names a flow's client, sent ahead of the flow.

    IPv4 header     20 bytes, no options, total length 42; source LIP, destination RIP
    ICMP header     type 8, code 0, checksum, identifier 0x1234 (in the sender's host order), sequence 0
    payload         magic 123 (1) | IP protocol of the flow (1) | lport (2) | rport (2)
                    option kind (1) | 8 (1) | client port (2) | client IPv4 (4)               network byte order

Defined by ip_vs_ca and the FULLNAT director that goes with it; it serves UDP and TCP flows. This module is the
reference that bpf/announcement.h is tested against.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address

from ipvsca.address import Endpoint
from ipvsca.wire.internet import (
    FRAGMENT_OFFSET,
    MORE_FRAGMENTS,
    PROTOCOL_ICMP,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    checksum,
    with_checksum,
)
from ipvsca.wire.toa import DEFAULT_KINDS, KIND_LVS

MAGIC = 123
LENGTH = 42  # bytes of the whole IP packet
OPTION_LENGTH = 8
IDENTIFIERS = (0x1234, 0x3412)  # as read in network byte order, from a big-endian and from a little-endian director

_ECHO_REQUEST = 8
_IP = struct.Struct("!BBHHHBBH4s4s")
_ICMP = struct.Struct("!BBHHH")
_PAYLOAD = struct.Struct("!BBHHBBH4s")


class Verdict(IntEnum):
    """What an IP packet is; `enum announcement_verdict` in bpf/announcement.h has the same members."""

    FOUND = 0
    ABSENT = 1
    """Not an announcement, and nothing like one: any other packet, ordinary pings among them."""
    FRAGMENT = 2
    LENGTH = 3
    """Total length other than 42, IP options, or bytes missing."""
    CHECKSUM = 4
    """The checksum of the IP header or of the ICMP message is wrong."""
    MALFORMED = 5
    """A field is not as it has to be."""
    KIND = 6
    """An option kind that is not configured."""
    CLIENT = 7
    """An address or port that no client can have, see Endpoint.can_be_client."""


@dataclass(frozen=True)
class Announcement:
    """A client behind `director` (LIP:lport), in its flow to `server` (RIP:rport); `protocol` is IP's number of it."""

    protocol: int
    director: Endpoint
    server: Endpoint
    client: Endpoint
    kind: int = KIND_LVS


@dataclass(frozen=True)
class Parsed:
    """A verdict, and the announcement where it is FOUND."""

    verdict: Verdict
    announcement: Announcement | None = None


def parse(packet: bytes, kinds: Collection[int] = DEFAULT_KINDS) -> Parsed:
    """Read an announcement from a packet that begins with its IPv4 header; bytes behind the packet's end are not read.

    What has either the ICMP header or the payload's fixed fields of an announcement is taken for one that went wrong
    where the rest does not fit; everything else is ABSENT.
    """
    if len(packet) < _IP.size:
        return Parsed(Verdict.ABSENT)
    version_words, _, total, _, fragment, _, protocol, _, lip, rip = _IP.unpack_from(packet)
    header = (version_words & 0xF) * 4
    message = packet[header : header + LENGTH - _IP.size]
    if protocol != PROTOCOL_ICMP or fragment & FRAGMENT_OFFSET or not _resembles(message):
        return Parsed(Verdict.ABSENT)
    if fragment & MORE_FRAGMENTS:
        return Parsed(Verdict.FRAGMENT)
    if version_words != 0x45 or total != LENGTH or len(message) != LENGTH - _IP.size:
        return Parsed(Verdict.LENGTH)
    if checksum(packet[: _IP.size]) or checksum(message):
        return Parsed(Verdict.CHECKSUM)
    return _judge(message, lip, rip, kinds)


def build(announcement: Announcement, *, little_endian: bool = True) -> bytes:
    """The whole IP packet, as a director of this byte order sends it. Raises ValueError where not all is IPv4."""
    ends = (announcement.director, announcement.server, announcement.client)
    if any(end.address.version != 4 for end in ends):
        raise ValueError("an announcement names IPv4 addresses only")
    director, server, client = ends
    identifier = IDENTIFIERS[little_endian]
    payload = _PAYLOAD.pack(
        MAGIC,
        announcement.protocol,
        director.port,
        server.port,
        announcement.kind,
        OPTION_LENGTH,
        client.port,
        client.address.packed,
    )
    message = with_checksum(_ICMP.pack(_ECHO_REQUEST, 0, 0, identifier, 0) + payload, 2)
    ip = _IP.pack(0x45, 0, LENGTH, 0, 0, 64, PROTOCOL_ICMP, 0, director.address.packed, server.address.packed)
    return with_checksum(ip, 10) + message


def _judge(message: bytes, lip: bytes, rip: bytes, kinds: Collection[int]) -> Parsed:
    magic, protocol, lport, rport, kind, length, port, address = _PAYLOAD.unpack_from(message, _ICMP.size)
    fixed = _has_header(message) and magic == MAGIC and length == OPTION_LENGTH
    if not fixed or protocol not in (PROTOCOL_TCP, PROTOCOL_UDP) or not lport or not rport:
        return Parsed(Verdict.MALFORMED)
    if kind not in kinds:
        return Parsed(Verdict.KIND)
    client = Endpoint(IPv4Address(address), port)
    if not client.can_be_client:
        return Parsed(Verdict.CLIENT)
    director, server = Endpoint(IPv4Address(lip), lport), Endpoint(IPv4Address(rip), rport)
    return Parsed(Verdict.FOUND, Announcement(protocol, director, server, client, kind))


def _resembles(message: bytes) -> bool:
    if len(message) < 2 * _ICMP.size:
        return False
    payload = message[_ICMP.size :]
    return _has_header(message) or (payload[0] == MAGIC and payload[7] == OPTION_LENGTH)


def _has_header(message: bytes) -> bool:
    kind, code, _, identifier, sequence = _ICMP.unpack_from(message)
    return (kind, code, sequence) == (_ECHO_REQUEST, 0, 0) and identifier in IDENTIFIERS
