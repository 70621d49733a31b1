"""UOA: how DPVS names the client in a UDP datagram itself, in two forms. Numbers are in network byte order.

ipo, an option in the datagram's IPv4 header (kind 31 with the bit that has it copied into every fragment):

    0x9f (1) | length 8 or 20 (1) | client port (2) | client address (4 or 16)

opp, IP protocol 248, a header between IP (IPv4 or IPv6) and UDP, that ends in the same option:

    version 1 or 2 (high nibble), 0 (low nibble) | 17 (1) | length of this header, 12 or 24 (2) | the option

The option's length tells the client's IP version; that of the packet's IP header and opp's own may differ from it
(NAT64). A kernel knows the datagram behind opp only once the header is taken away. This module is the reference that
bpf/uoa.h is tested against.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

from ipvsca.address import Address, Endpoint, from_mapped
from ipvsca.wire import toa
from ipvsca.wire.internet import FRAGMENT_OFFSET, MORE_FRAGMENTS, PROTOCOL_UDP, checksum, with_checksum

KIND = 0x9F
PROTOCOL_OPP = 248
VERSIONS = {4: 1, 6: 2}
"""What opp has for a version, by that of IP; either is accepted in any packet."""

_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_OPP = struct.Struct("!BBH")
_UDP = struct.Struct("!HHHH")
_IPV4_CHECKSUM, _UDP_CHECKSUM = 10, 6  # where they stand
_SIZES = (toa.LENGTH_IPV4, toa.LENGTH_IPV6)


class Verdict(IntEnum):
    """What an IP packet is; `enum uoa_verdict` in bpf/uoa.h has the same members. The first five are toa.Verdict's."""

    FOUND = 0
    ABSENT = 1
    """Any other packet. ipo: also a later fragment, which has no UDP header. opp: also one behind extension headers."""
    MALFORMED = 2
    """A field is not as it has to be, or the datagram is not all there: nothing in this packet is believed."""
    LENGTH = 3
    """ipo: not 8 or 20. opp: lengths that do not fit each other, or not an address."""
    CLIENT = 4
    """An address or port that no client can have, see Endpoint.can_be_client."""
    CHECKSUM = 5
    """The checksum of the IPv4 header is wrong."""
    FRAGMENT = 6
    """opp: in an IPv4 fragment. The datagram behind it would not fit its neighbours if the header was taken away."""


@dataclass(frozen=True)
class Told:
    """A client behind `director` (LIP:lport), in its UDP flow to `server` (RIP:rport)."""

    director: Endpoint
    server: Endpoint
    client: Endpoint


@dataclass(frozen=True)
class Parsed:
    """A verdict, and what was told where it is FOUND."""

    verdict: Verdict
    told: Told | None = None


@dataclass(frozen=True)
class _Ip:
    """An IP header: its length, where its packet ends by its own account (both in bytes), and who speaks to whom."""

    length: int
    end: int
    source: Address
    destination: Address
    protocol: int
    fragment: int = 0
    checksum: int = 0
    """What it sums up to: 0 where it is right, and for IPv6, which has none."""


def parse_ipo(packet: bytes) -> Parsed:
    """Read the client from a packet that begins with its IP header; bytes behind the packet's end are not read."""
    ip = _read_ip(packet)
    is_datagram = ip is not None and ip.source.version == 4 and ip.protocol == PROTOCOL_UDP
    if ip is None or not is_datagram or ip.length <= _IPV4.size or ip.fragment & FRAGMENT_OFFSET:
        return Parsed(Verdict.ABSENT)
    if len(packet) < ip.length:
        return Parsed(Verdict.MALFORMED)
    option = toa.parse(packet[_IPV4.size : ip.length], {KIND})
    if option.verdict is toa.Verdict.ABSENT:
        return Parsed(Verdict.ABSENT)
    return Parsed(Verdict.CHECKSUM) if ip.checksum else _judge(packet, ip, ip.length, option)


def parse_opp(packet: bytes) -> Parsed:
    """Read the client from a packet that begins with its IP header; bytes behind the packet's end are not read."""
    ip = _read_ip(packet)
    if ip is None or ip.protocol != PROTOCOL_OPP:
        return Parsed(Verdict.ABSENT)
    if ip.fragment & (FRAGMENT_OFFSET | MORE_FRAGMENTS):
        return Parsed(Verdict.FRAGMENT)
    if not _IPV4.size <= ip.length <= len(packet) or _is_mapped(ip.source):
        return Parsed(Verdict.MALFORMED)
    if ip.checksum:
        return Parsed(Verdict.CHECKSUM)
    header = packet[ip.length : ip.length + _OPP.size + toa.LENGTH_IPV6]
    return _judge(packet, ip, ip.length + _opp_length(header), _read_opp(header))


def strip(packet: bytes) -> bytes:
    """What the kernel is to see of a packet in which parse_opp found a client: the plain datagram.

    The UDP checksum is that of the plain datagram (or 0, for none), so it stays.
    """
    ip = _read_ip(packet)
    assert ip
    taken = _opp_length(packet[ip.length :])
    header = bytearray(packet[: ip.length])
    if ip.source.version == 4:
        header[2:4] = (ip.end - taken).to_bytes(2)
        header[9] = PROTOCOL_UDP
        header[_IPV4_CHECKSUM : _IPV4_CHECKSUM + 2] = bytes(2)
        header[:] = with_checksum(bytes(header), _IPV4_CHECKSUM)
    else:
        header[4:6] = (ip.end - _IPV6.size - taken).to_bytes(2)
        header[6] = PROTOCOL_UDP
    return bytes(header) + packet[ip.length + taken :]


def build_ipo(told: Told, payload: bytes = b"") -> bytes:
    """The whole IPv4 packet. Raises ValueError where director and server do not have IPv4."""
    if told.director.address.version != 4:
        raise ValueError("IPv6 has no such options")
    return _packet(told, toa.build(told.client, KIND), PROTOCOL_UDP, _datagram(told, payload))


def build_opp(told: Told, payload: bytes = b"") -> bytes:
    """The whole packet, as DPVS sends it: over IPv4 there is no UDP checksum.

    Raises ValueError where director and server do not have the same IP version.
    """
    option = toa.build(told.client, KIND)
    version = VERSIONS[told.client.address.version] << 4
    header = _OPP.pack(version, PROTOCOL_UDP, _OPP.size + len(option)) + option
    datagram = _datagram(told, payload)
    if told.director.address.version == 4:
        datagram = datagram[:_UDP_CHECKSUM] + bytes(2) + datagram[_UDP.size :]
    return _packet(told, b"", PROTOCOL_OPP, header + datagram)


def _read_ip(packet: bytes) -> _Ip | None:
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= _IPV4.size:
        words, _, total, _, fragment, _, protocol, _, source, destination = _IPV4.unpack_from(packet)
        length = (words & 0xF) * 4
        addresses = IPv4Address(source), IPv4Address(destination)
        return _Ip(length, total, *addresses, protocol, fragment, checksum(packet[:length]))
    if version == 6 and len(packet) >= _IPV6.size:
        _, length, protocol, _, source, destination = _IPV6.unpack_from(packet)
        return _Ip(_IPV6.size, _IPV6.size + length, IPv6Address(source), from_mapped(destination), protocol)
    return None


def _is_mapped(address: Address) -> bool:
    """A packet from such an address must not pass for one of IPv4."""
    return isinstance(address, IPv6Address) and address.ipv4_mapped is not None


def _opp_length(header: bytes) -> int:
    """In bytes, as its option has it."""
    return _OPP.size + header[_OPP.size + 1] if len(header) > _OPP.size + 1 else 0


def _read_opp(header: bytes) -> toa.Parsed:
    if len(header) < _OPP.size + 2:
        return toa.Parsed(toa.Verdict.MALFORMED)
    version, protocol, length = _OPP.unpack_from(header)
    kind, size = header[_OPP.size : _OPP.size + 2]
    if version not in {number << 4 for number in VERSIONS.values()} or protocol != PROTOCOL_UDP or kind != KIND:
        return toa.Parsed(toa.Verdict.MALFORMED)
    if size not in _SIZES or length != _OPP.size + size:
        return toa.Parsed(toa.Verdict.LENGTH)
    return toa.parse(header[_OPP.size : length], {KIND})


def _judge(packet: bytes, ip: _Ip, at: int, option: toa.Parsed) -> Parsed:
    """What an option says of the datagram that begins at `at`."""
    if option.client is None:
        return Parsed(Verdict(int(option.verdict)))
    if ip.end > len(packet) or at + _UDP.size > ip.end:
        return Parsed(Verdict.MALFORMED)
    lport, rport, length, _ = _UDP.unpack_from(packet, at)
    is_whole = length <= ip.end - at or ip.fragment & MORE_FRAGMENTS
    if length < _UDP.size or not is_whole or not lport or not rport:
        return Parsed(Verdict.MALFORMED)
    told = Told(Endpoint(ip.source, lport), Endpoint(ip.destination, rport), option.client)
    return Parsed(Verdict.FOUND, told)


def _datagram(told: Told, payload: bytes) -> bytes:
    length = _UDP.size + len(payload)
    header = _UDP.pack(told.director.port, told.server.port, length, 0)
    pseudo_header = told.director.address.packed + told.server.address.packed + struct.pack("!HH", PROTOCOL_UDP, length)
    right = checksum(pseudo_header + header + payload) or 0xFFFF
    return header[:_UDP_CHECKSUM] + right.to_bytes(2) + payload


def _packet(told: Told, options: bytes, protocol: int, carried: bytes) -> bytes:
    source, destination = told.director.address, told.server.address
    if source.version != destination.version:
        raise ValueError(f"no packet goes from {source} to {destination}")
    if source.version == 6:
        return _IPV6.pack(6 << 28, len(carried), protocol, 64, source.packed, destination.packed) + carried
    words = (_IPV4.size + len(options)) // 4
    total = words * 4 + len(carried)
    header = _IPV4.pack(0x40 | words, 0, total, 0, 0, 64, protocol, 0, source.packed, destination.packed)
    return with_checksum(header + options, _IPV4_CHECKSUM) + carried
