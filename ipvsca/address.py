"""An address and port: IPv4 and IPv6 as one type, text outside, 16 bytes (IPv4 as v4-mapped) inside."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

V4_MAPPED = IPv6Network("::ffff:0:0/96")

Address = IPv4Address | IPv6Address


def to_mapped(address: Address) -> bytes:
    """The 16 bytes (network byte order) under which the BPF maps know an address."""
    if isinstance(address, IPv6Address):
        return address.packed
    return V4_MAPPED.network_address.packed[:12] + address.packed


def from_mapped(packed: bytes) -> Address:
    """The address behind 16 bytes; a v4-mapped one is IPv4. Raises ValueError for another length."""
    if len(packed) != 16:
        raise ValueError(f"a mapped address has 16 bytes, not {len(packed)}")
    address = IPv6Address(packed)
    return address.ipv4_mapped or address


@dataclass(frozen=True, order=True)
class Endpoint:
    """An IP address and a port (host byte order, 0 to 65535)."""

    address: Address
    port: int

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 0xFFFF:
            raise ValueError(f"port {self.port} is not in 0..65535")

    def __str__(self) -> str:
        if isinstance(self.address, IPv6Address):
            return f"[{self.address}]:{self.port}"
        return f"{self.address}:{self.port}"

    @classmethod
    def of(cls, address: str | Address, port: int) -> Endpoint:
        """From text or an address object. Raises ValueError where either is not valid."""
        return cls(ip_address(address), port)

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """From `1.2.3.4:80` or `[2001:db8::1]:80`. Raises ValueError for anything else."""
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not port.isdecimal() or (":" in host) != bracketed:
            raise ValueError(f"{text!r} is not ADDRESS:PORT (IPv6 in brackets)")
        return cls.of(host[1:-1] if bracketed else host, int(port))

    @property
    def can_be_client(self) -> bool:
        """Whether a client behind a director can have this address and port.

        Port 0, "this network", loopback, multicast and broadcast cannot reach a director from outside. An application
        that trusts 127.0.0.1 must never be shown it because of bytes in a packet.
        """
        address = self.address
        if isinstance(address, IPv4Address):
            impossible = address.packed[0] == 0 or int(address) == 0xFFFFFFFF
        else:
            impossible = address.is_unspecified
        return self.port != 0 and not (impossible or address.is_loopback or address.is_multicast)
