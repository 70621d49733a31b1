"""The lab's UDP proven end to end: datagrams, announcements, and what a test may do to the director."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address
from typing import NamedTuple

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from ipvsca.address import Address, Endpoint
from ipvsca.wire import announcement
from ipvsca.wire.announcement import Announcement
from tests.lab import addresses as a
from tests.lab.capture import Capture
from tests.lab.control import Director
from tests.lab.messages import Announce, Protocol, Service, Toa, Where
from tests.lab.namespace import Namespace
from tests.lab.states import State
from tests.lab.topology import Lab

SERVICE_PORT = 53
SERVER_PORT = 5300
TIMEOUT = 10.0
SO_NO_CHECK = 11
ANY = IPv6Address("::")


class Ends(NamedTuple):
    """A virtual address, and the address of the real server behind it."""

    vip: Address
    rip: Address


PLAIN_V4 = Ends(a.VIP_V4, a.RIPS_V4[0])
PLAIN_V6 = Ends(a.VIP_V6, a.RIPS_V6[0])
NAT64 = Ends(a.VIP_V6, a.RIPS_V4[0])
NAT46 = Ends(a.VIP_V4, a.RIPS_V6[0])
every_family = pytest.mark.parametrize("ends", [PLAIN_V4, PLAIN_V6, NAT64, NAT46], ids=["v4", "v6", "nat64", "nat46"])


def service(ends: Ends, announce: Announce | None = None, protocol: Protocol = Protocol.UDP) -> Service:
    return Service(
        Endpoint(ends.vip, SERVICE_PORT),
        (Endpoint(ends.rip, SERVER_PORT),),
        Toa(Where.NONE),
        protocol=protocol,
        announce=announce,
    )


@pytest.fixture
def server(lab: Lab) -> Iterator[socket.socket]:
    """A socket on every address of the real servers; IPv4 peers are v4-mapped."""
    with bound(lab.server, ANY, SERVER_PORT) as made:
        yield made


@contextmanager
def bound(namespace: Namespace, address: Address, port: int = 0) -> Iterator[socket.socket]:
    """A UDP socket."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with namespace.entered():
        made = socket.socket(family, socket.SOCK_DGRAM)
    with made:
        made.settimeout(TIMEOUT)
        made.bind((str(address), port))
        yield made


@contextmanager
def client_of(lab: Lab, vip: Address, number: int = 0) -> Iterator[socket.socket]:
    """A socket of one of the clients, connected to a virtual address."""
    source = (a.CLIENTS_V4 if vip.version == 4 else a.CLIENTS_V6)[number]
    with bound(lab.client, source) as made:
        made.connect((str(vip), SERVICE_PORT))
        yield made


def own(client: socket.socket) -> Endpoint:
    return Endpoint.of(*client.getsockname()[:2])


def received(server: socket.socket) -> tuple[bytes, Endpoint]:
    """A datagram, and who the server takes for its sender."""
    data, (host, port, *_) = server.recvfrom(1 << 16)
    return data, Endpoint.of(host.removeprefix("::ffff:"), port)


def there_and_back(client: socket.socket, server: socket.socket, content: bytes) -> Endpoint:
    """One datagram and its echo; returns whom the server saw."""
    client.send(content)
    data, peer = server.recvfrom(1 << 16)
    assert data == content
    server.sendto(data, peer)
    assert client.recv(1 << 16) == content
    return Endpoint.of(peer[0].removeprefix("::ffff:"), peer[1])


def dissect(packet: bytes) -> Packet:
    return (IP if packet[0] >> 4 == 4 else IPv6)(packet)


def datagrams(capture: Capture) -> list[bytes]:
    """The UDP packets that came in, whole."""
    return [packet for packet in capture.incoming() if UDP in dissect(packet)]


def announced(capture: Capture) -> list[Announcement | bytes]:
    """What came in: announcements, and the payloads of datagrams, in their order."""
    seen: list[Announcement | bytes] = []
    for packet in capture.incoming():
        if found := announcement.parse(packet).announcement:
            seen.append(found)
        elif UDP in dissect(packet):
            seen.append(bytes(dissect(packet)[UDP].payload))
    return seen


@every_family
@pytest.mark.parametrize("length", [0, 1, 1400])
def test_a_datagram_goes_there_and_back(
    lab: Lab, director: Director, server: socket.socket, ends: Ends, length: int
) -> None:
    director.serve(service(ends))
    content = random.Random(length).randbytes(length)
    with client_of(lab, ends.vip) as client:
        seen = there_and_back(client, server, content)
        connection = director.connection(own(client))
    assert seen == connection.local
    assert connection.local.address in (a.LIPS_V4 if ends.rip.version == 4 else a.LIPS_V6)
    assert (connection.real.address, connection.state) == (ends.rip, State.UDP)


def test_an_announcement_goes_ahead_of_each_new_flow(lab: Lab, director: Director, server: socket.socket) -> None:
    director.serve(service(PLAIN_V4, Announce()))
    with (
        Capture(lab.server) as capture,
        client_of(lab, a.VIP_V4) as first,
        client_of(lab, a.VIP_V4, 1) as second,
    ):
        for client in (first, first, second, first):
            there_and_back(client, server, b"question")
        expected = [
            Announcement(Protocol.UDP, connection.local, connection.real, own(client))
            for client in (first, second)
            for connection in [director.connection(own(client))]
        ]
    assert announced(capture) == [expected[0], *[b"question"] * 2, expected[1], *[b"question"] * 2]
