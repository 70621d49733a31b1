"""Packets without an Ethernet header for test runs, which take the first 14 bytes of any packet for one.

The type of the packet is then what stands where Ethernet has its type: in the middle of the IP header's source address.
So packets come from sources whose address says 0x0800 or 0x86dd there: 8.0.x.y, and x:x:86dd:...
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from ipvsca.settings import DEFAULTS
from tests.bpf.cases import ALL, Case

_ETHERNET = 14
_TYPE = slice(12, 14)

SETTINGS = replace(DEFAULTS, trusted=(*DEFAULTS.trusted, IPv4Network("8.0.0.0/24")))
"""Trusts what the director's IPv4 address has become, and not what the stranger's has."""


def packets() -> list[tuple[Case, bytes]]:
    """Each case that has nothing between Ethernet and IP, and its packet without Ethernet."""
    return [(case, _without_ethernet(case)) for case in ALL if isinstance(case.packet.payload, IP | IPv6)]


def _without_ethernet(case: Case) -> bytes:
    frame = bytes(case.packet)
    packet = bytearray(frame[_ETHERNET:])
    packet[_TYPE] = frame[_TYPE]
    return bytes(packet)
