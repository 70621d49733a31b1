"""Who has which address in the lab; every other module and every test takes them from here."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

# The clients' side: outside, untrusted. One namespace holds all of them, so a test can be several clients at once.
CLIENT_NETWORK_V4 = IPv4Network("198.51.100.0/24")
CLIENT_NETWORK_V6 = IPv6Network("2001:db8:c::/64")
CLIENTS_V4 = tuple(CLIENT_NETWORK_V4[host] for host in range(1, 17))
CLIENTS_V6 = tuple(CLIENT_NETWORK_V6[host] for host in range(1, 17))
CLIENT_GATEWAY_V4 = CLIENT_NETWORK_V4[254]
CLIENT_GATEWAY_V6 = CLIENT_NETWORK_V6[254]

# What the clients connect to.
VIP_NETWORK_V4 = IPv4Network("203.0.113.0/24")
VIP_NETWORK_V6 = IPv6Network("2001:db8:a::/64")
VIP_V4 = IPv4Address("203.0.113.10")
VIP_V6 = IPv6Address("2001:db8:a::10")

# What the real servers see as the source of a balanced packet.
LIP_NETWORK_V4 = IPv4Network("10.90.0.0/24")
LIP_NETWORK_V6 = IPv6Network("fd00:90::/64")
LIPS_V4 = (IPv4Address("10.90.0.2"), IPv4Address("10.90.0.3"))
LIPS_V6 = (IPv6Address("fd00:90::2"), IPv6Address("fd00:90::3"))

# The real servers' side. Two addresses a family, in one namespace: the director takes them for two servers.
SERVER_NETWORK_V4 = IPv4Network("10.80.0.0/24")
SERVER_NETWORK_V6 = IPv6Network("fd00:80::/64")
RIPS_V4 = (IPv4Address("10.80.0.10"), IPv4Address("10.80.0.11"))
RIPS_V6 = (IPv6Address("fd00:80::10"), IPv6Address("fd00:80::11"))
SERVER_GATEWAY_V4 = SERVER_NETWORK_V4[254]
SERVER_GATEWAY_V6 = SERVER_NETWORK_V6[254]
