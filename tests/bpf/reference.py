"""What a tc program is to make of a packet, said once more in Python, and straight from the headers' definitions.

What the IP stack drops anyway is not judged here: versions, checksums, an IPv4 header under 20 bytes, addresses that
nobody may send from. A SYN that never opens a connection leaves an entry that nobody asks for.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address

from ipvsca.address import Address, Endpoint, from_mapped
from ipvsca.settings import Network, Settings
from ipvsca.wire import toa
from ipvsca.wire.toa import Verdict
from tests.bpf.ingress import Handshake, Outcome

_ETHERNET = 14
_IPV4, _IPV6, _TAGS, _MOST_TAGS = 0x0800, 0x86DD, {0x8100, 0x88A8}, 2
_TCP, _FRAGMENT, _MOST_EXTENSIONS = 6, 44, 4
_SKIPPED = {0, 43, 60}  # hop-by-hop options, routing, destination options
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16

_REFUSALS = {
    Verdict.MALFORMED: "refused_syn_malformed",
    Verdict.LENGTH: "refused_syn_length",
    Verdict.CLIENT: "refused_syn_client",
}


class _Fragment(Exception):
    """TCP, or a part of it, in an IP fragment."""


@dataclass(frozen=True)
class _Carried:
    """A TCP segment, and what IP says of it. `room` is how many bytes IP's own length leaves for it."""

    source: Address
    destination: Address
    segment: bytes
    room: int


def expected(packet: bytes, settings: Settings, *, ethernet: bool = True) -> Outcome:
    """For a packet with an Ethernet header, or one that begins with IP's."""
    try:
        carried = _carried(packet, ethernet)
    except _Fragment:
        return Outcome({}, {"refused_syn_fragment": 1})
    if carried is None or not _is_syn_with_options(carried.segment):
        return Outcome()
    if not ethernet and _is_ipv4_of_length_0(packet):
        return Outcome()
    return _judged(carried, settings)


def _judged(carried: _Carried, settings: Settings) -> Outcome:
    segment = carried.segment
    parsed = toa.parse_header(segment, settings.tcpopt_addr)
    if (segment[toa.DATA_OFFSET] >> 4) * 4 > carried.room:
        parsed = toa.Parsed(Verdict.MALFORMED)
    if parsed.verdict is Verdict.ABSENT:
        return Outcome()
    if parsed.client is None:
        return Outcome({}, {_REFUSALS[parsed.verdict]: 1})
    if not _is_in(carried.source, settings.trusted):
        return Outcome({}, {"refused_syn_untrusted": 1})
    lport, rport, isn = struct.unpack_from("!HHI", segment)
    handshake = Handshake(Endpoint(carried.source, lport), Endpoint(carried.destination, rport), isn)
    return Outcome({handshake: parsed.client}, {"syn_learnt": 1})


def _is_ipv4_of_length_0(packet: bytes) -> bool:
    """Not believed; without a link layer not counted either: the program takes an end at offset 0 for "unreadable"."""
    return int.from_bytes(packet[12:14]) == _IPV4 and packet[2:4] == bytes(2)


def _is_in(address: Address, networks: Collection[Network]) -> bool:
    return any(address in network for network in networks)


def _is_syn_with_options(segment: bytes) -> bool:
    if len(segment) < toa.TCP_HEADER or segment[toa.DATA_OFFSET] >> 4 == toa.TCP_HEADER // 4:
        return False
    return segment[toa.DATA_OFFSET + 1] & (_SYN | _ACK | _RST | _FIN) == _SYN


def _carried(packet: bytes, ethernet: bool) -> _Carried | None:
    # Where there is no Ethernet header, test runs still take the type from the place where it would be.
    kind, rest = int.from_bytes(packet[12:14]), packet
    if ethernet:
        rest = packet[_ETHERNET:]
        for _ in range(_MOST_TAGS):
            if kind in _TAGS:
                kind, rest = int.from_bytes(rest[2:4]), rest[4:]
    if kind == _IPV4 and len(rest) >= 20:
        return _in_ipv4(rest)
    if kind == _IPV6 and len(rest) >= 40:
        return _in_ipv6(rest)
    return None


def _in_ipv4(packet: bytes) -> _Carried | None:
    words, length, fragment, protocol = struct.unpack_from("!BxHxxHxB", packet)
    if protocol != _TCP:
        return None
    more, offset = fragment & 0x2000, fragment & 0x1FFF
    if more or offset:
        raise _Fragment
    header = (words & 0xF) * 4
    return _Carried(IPv4Address(packet[12:16]), IPv4Address(packet[16:20]), packet[header:], length - header)


def _in_ipv6(packet: bytes) -> _Carried | None:
    length, kind = struct.unpack_from("!HB", packet, 4)
    at = 40
    for _ in range(_MOST_EXTENSIONS):
        if kind not in _SKIPPED | {_FRAGMENT} or len(packet) < at + 8:
            break
        following, units, fragment = struct.unpack_from("!BBH", packet, at)
        if kind == _FRAGMENT:
            more, offset = fragment & 1, fragment >> 3
            if more or offset:
                if following == _TCP:
                    raise _Fragment
                return None
            units = 0  # the byte is reserved
        kind, at = following, at + 8 + units * 8
    if kind != _TCP:
        return None
    return _Carried(from_mapped(packet[8:24]), from_mapped(packet[24:40]), packet[at:], 40 + length - at)
