"""What a director does to a UDP packet to tell the client in it (UOA, see ipvsca/wire/uoa.py); pure.

DPVS computes no UDP checksum over IPv4 behind opp's header, nor for a carrier.
"""

from __future__ import annotations

import struct

from ipvsca.address import Endpoint
from ipvsca.wire import toa
from ipvsca.wire.uoa import KIND, PROTOCOL_OPP, VERSIONS
from tests.lab import ip, udp
from tests.lab.connections import Path
from tests.lab.messages import Protocol, UoaMode

HEADER = struct.Struct("!BBH")  # version in the high nibble, next protocol, length

Packet = tuple[ip.Header, bytearray]
"""An IP header and what it carries."""


def told(mode: UoaMode, client: Endpoint, header: ip.Header, datagram: bytearray) -> Packet:
    """A datagram to a real server with the client in it. ipo needs an IPv4 header."""
    option = toa.build(client, KIND)
    if mode is UoaMode.IPO:
        return header._replace(options=option), datagram
    behind = datagram[:]
    if len(header.destination) == 4:
        udp.clear_checksum(behind)
    version = VERSIONS[client.address.version] << 4  # DPVS goes by the client's family
    opp = bytearray(HEADER.pack(version, Protocol.UDP, HEADER.size + len(option)) + option)
    return header._replace(protocol=PROTOCOL_OPP), opp + behind


def carrier(path: Path) -> Packet:
    """The empty datagram on this path that is to tell the client of the next one."""
    empty = bytearray(path.ports + struct.pack("!HH", udp.HEADER.size, 0))
    if len(path.source) == 16:
        udp.fill_checksum(empty, path.source + path.destination)
    return ip.Header(path.source, path.destination, Protocol.UDP), empty
