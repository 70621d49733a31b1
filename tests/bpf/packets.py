"""Packets by the part they play, as scapy objects: what a real server receives from a director."""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from ipvsca.address import Endpoint
from ipvsca.wire import toa
from tests.lab import addresses as a

ISN = 0xFEDCBA98

DIRECTOR_V4, DIRECTOR_V6 = Endpoint(a.LIPS_V4[0], 40001), Endpoint(a.LIPS_V6[0], 40002)
SERVER_V4, SERVER_V6 = Endpoint(a.RIPS_V4[0], 8001), Endpoint(a.RIPS_V6[0], 8002)
CLIENT_V4, CLIENT_V6 = Endpoint(a.CLIENTS_V4[0], 0x1234), Endpoint(a.CLIENTS_V6[0], 0x5678)

FRAME = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
V4 = IP(src=str(DIRECTOR_V4.address), dst=str(SERVER_V4.address))
V6 = IPv6(src=str(DIRECTOR_V6.address), dst=str(SERVER_V6.address))

OPTION_V4, OPTION_V6 = toa.build(CLIENT_V4), toa.build(CLIENT_V6)
SYN_OPTIONS = bytes.fromhex("020405b4 0402 080a0000000100000000 01 030307")


def syn_v4(options: bytes = OPTION_V4, payload: bytes = b"", **fields: object) -> Packet:
    """A SYN between the IPv4 addresses, without anything below TCP."""
    return _syn(DIRECTOR_V4, SERVER_V4, options, payload, fields)


def syn_v6(options: bytes = OPTION_V6, payload: bytes = b"", **fields: object) -> Packet:
    """A SYN between the IPv6 addresses, without anything below TCP."""
    return _syn(DIRECTOR_V6, SERVER_V6, options, payload, fields)


def _syn(director: Endpoint, server: Endpoint, options: bytes, payload: bytes, fields: dict[str, object]) -> Packet:
    """`options` stand in the header byte for byte; `fields` are scapy's, and may make another segment of it."""
    assert len(options) % 4 == 0
    words = (toa.TCP_HEADER + len(options)) // 4
    usual: dict[str, Any] = {"sport": director.port, "dport": server.port, "seq": ISN, "flags": "S", "dataofs": words}
    return TCP(**(usual | fields)) / Raw(options + payload)
