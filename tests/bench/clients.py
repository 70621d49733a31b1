"""Whom the bench puts behind LIP:lport: the twin of clients.h."""

from __future__ import annotations

from ipaddress import IPv4Address

from ipvsca.address import Endpoint

CLIENTS = 0x64400000
LIP_BITS = 0x3F


def client_behind(local: Endpoint) -> Endpoint:
    """The client of a flow or connection from LIP:lport."""
    address = CLIENTS | (int(local.address) & LIP_BITS) << 16 | local.port
    return Endpoint(IPv4Address(address), local.port >> 8 | (local.port & 0xFF) << 8)
