"""What a test tells the director and hears from it, as frozen dataclasses and as JSON; the only place for both."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from ipaddress import ip_address
from typing import Any

from ipvsca.address import Address, Endpoint
from ipvsca.wire.toa import KIND_DPVS, KIND_LVS, NO_OPERATION
from tests.lab import addresses
from tests.lab.states import TIMEOUTS, State

Json = dict[str, Any]


class Protocol(IntEnum):
    """IP's number of what a service speaks."""

    TCP = socket.IPPROTO_TCP
    UDP = socket.IPPROTO_UDP


class Where(StrEnum):
    """Which of the client's segments carry the option."""

    NONE = "none"
    SYN = "syn"
    ACK = "ack"
    """Every segment but the SYN that acknowledges no more than the server's SYN: until the server has sent data."""
    BOTH = "both"


class Position(StrEnum):
    """Where among a segment's options the director writes its own."""

    FIRST = "first"
    """Right behind the 20 bytes of fixed header, as DPVS does."""
    LAST = "last"


@dataclass(frozen=True)
class Toa:
    """How a service tells the client's address in a TCP option."""

    where: Where = Where.ACK
    kind: int = KIND_DPVS
    position: Position = Position.FIRST
    raw: bytes | None = None
    """These bytes instead of the option, however wrong they are."""
    padding: int = NO_OPERATION
    """The byte that fills `raw` at its end up to a multiple of 4: NOP or EOL."""

    @classmethod
    def from_json(cls, data: Json) -> Toa:
        raw = data["raw"]
        return cls(
            Where(data["where"]),
            data["kind"],
            Position(data["position"]),
            None if raw is None else bytes.fromhex(raw),
            data["padding"],
        )


FIRST_ONLY = 0
ALWAYS = 1


@dataclass(frozen=True)
class Announce:
    """How a service announces a flow's client in ICMP, where client, LIP and RIP are IPv4: else it cannot.

    An announcement goes ahead of the flow's first packet to the server (a SYN, or the first datagram) and of every
    `every`th one behind it, FIRST_ONLY for none.
    """

    every: int = FIRST_ONLY
    kind: int = KIND_LVS
    little_endian: bool = True
    """The byte order of the director, which shows in the echo's identifier."""

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ValueError(f"nothing can be announced every {self.every}th time")

    @classmethod
    def from_json(cls, data: Json) -> Announce:
        return cls(data["every"], data["kind"], data["little_endian"])


class UoaMode(StrEnum):
    """Where in a datagram's packet the client is told."""

    IPO = "ipo"
    """In an option of the IPv4 header."""
    OPP = "opp"
    """In a header of its own between IP and UDP."""


@dataclass(frozen=True)
class Uoa:
    """How a service tells a client in UDP datagrams themselves, as DPVS does ("UOA"). ipo cannot on the way to IPv6.

    What has no room for it is sent as it is, behind a datagram with an empty payload that tells: the carrier.
    """

    mode: UoaMode
    datagrams: int = 3
    """So many of a connection's datagrams tell, the first ones."""
    mtu: int = 1500
    """Bytes of an IP packet: a datagram that would grow beyond has no room. Nothing else is done about it."""
    always_by_carrier: bool = False

    @classmethod
    def from_json(cls, data: Json) -> Uoa:
        return cls(UoaMode(data["mode"]), data["datagrams"], data["mtu"], data["always_by_carrier"])


@dataclass(frozen=True)
class Service:
    """A virtual address and port, and the real servers behind it, which take turns.

    The families of the VIP and of a real server may differ: the director translates (NAT64 and the reverse).
    """

    vip: Endpoint
    real_servers: tuple[Endpoint, ...]
    toa: Toa = Toa()
    """TCP's; UDP has no such option."""
    local_addresses: tuple[Address, ...] = addresses.LIPS_V4 + addresses.LIPS_V6
    """Sources towards real servers of the same family."""
    local_ports: tuple[int, int] = (1024, 65535)
    """The first and the last port that may be used on each local address."""
    lose_final_ack: bool = False
    """TCP: the bare ACK that ends each handshake gets lost once, on its way from the director to the server."""
    protocol: Protocol = Protocol.TCP
    announce: Announce | None = None
    """None: no announcements."""
    uoa: Uoa | None = None
    """UDP's. None: datagrams tell nothing."""

    def __post_init__(self) -> None:
        versions = {server.address.version for server in self.real_servers}
        if not versions or not versions <= {local.version for local in self.local_addresses}:
            raise ValueError("a service needs real servers, and local addresses of each one's family")
        if not 0 < self.local_ports[0] <= self.local_ports[1] <= 0xFFFF:
            raise ValueError(f"local ports {self.local_ports} are no range within 1..65535")

    @classmethod
    def from_json(cls, data: Json) -> Service:
        low, high = data["local_ports"]
        announce, uoa = data["announce"], data["uoa"]
        return cls(
            vip=Endpoint.parse(data["vip"]),
            real_servers=tuple(map(Endpoint.parse, data["real_servers"])),
            toa=Toa.from_json(data["toa"]),
            local_addresses=tuple(map(ip_address, data["local_addresses"])),
            local_ports=(low, high),
            lose_final_ack=data["lose_final_ack"],
            protocol=Protocol(data["protocol"]),
            announce=None if announce is None else Announce.from_json(announce),
            uoa=None if uoa is None else Uoa.from_json(uoa),
        )


@dataclass(frozen=True)
class Settings:
    """All that a director is told. Connections keep the service they were made by, whatever comes later."""

    services: tuple[Service, ...] = ()
    timeouts: Mapping[State, float] = field(default_factory=lambda: dict(TIMEOUTS))
    """Seconds, by state; states that are missing keep IPVS's."""
    max_connections: int = 65536
    """Of each protocol."""

    @classmethod
    def from_json(cls, data: Json) -> Settings:
        timeouts = {State(name): float(seconds) for name, seconds in data["timeouts"].items()}
        return cls(tuple(map(Service.from_json, data["services"])), timeouts, data["max_connections"])


@dataclass(frozen=True)
class Connection:
    """One line of the director's connection table."""

    protocol: Protocol
    client: Endpoint
    vip: Endpoint
    local: Endpoint
    """LIP:lport, whom the real server takes for the client."""
    real: Endpoint
    state: State

    @classmethod
    def from_json(cls, data: Json) -> Connection:
        client, vip, local, real = (Endpoint.parse(data[end]) for end in ("client", "vip", "local", "real"))
        return cls(Protocol(data["protocol"]), client, vip, local, real, State(data["state"]))


def encode(message: object) -> bytes:
    """One line of JSON: dataclasses as objects, endpoints as `address:port`, bytes in hex."""
    return json.dumps(message, default=_plain).encode() + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Endpoint | Address):
        return str(value)
    return vars(value)
