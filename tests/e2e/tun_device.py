"""A tun device, of the real server or another, through which a test sends packets of its own and reads the answers."""

from __future__ import annotations

import itertools
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from ipvsca.address import Address, Endpoint
from ipvsca.wire.toa import build
from tests.e2e.traffic import SERVER_PORT, TIMEOUT_S, Way
from tests.lab import tuntap
from tests.lab.namespace import Namespace
from tests.lab.topology import Lab

LPORTS = itertools.count(4321)
"""One each in a whole run: the server still remembers the connections of the tests before."""


class Device:
    """A tun device in a namespace; what we write arrives there, what is routed to it we read."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        with namespace.entered():
            self._fd = tuntap.open_device(name, tuntap.TUN)

    def close(self) -> None:
        os.close(self._fd)

    def send(self, packet: Packet | bytes) -> None:
        os.write(self._fd, bytes(packet))

    def receive(self, lport: int, protocol: type[Packet] = TCP) -> Packet:
        """The next segment or datagram that the server sends to this port; it may still send to others."""
        while True:
            assert select.select([self._fd], [], [], TIMEOUT_S)[0], "the server does not answer"
            packet = os.read(self._fd, 65535)
            dissected = (IP if packet[0] >> 4 == 4 else IPv6)(packet)
            if protocol in dissected and dissected[protocol].dport == lport:
                return dissected

    def receive_line(self, lport: int) -> str:
        """What the server sends, up to and with a line's end; segments that carry nothing are passed over."""
        line = b""
        while not line.endswith(b"\n"):
            line += bytes(self.receive(lport)[TCP].payload)
        return line.decode()


@contextmanager
def tun(lab: Lab, lip: Address, rip: Address, namespace: Namespace | None = None) -> Iterator[Device]:
    """On the real server, or in another namespace."""
    namespace = namespace or lab.server
    device = Device(namespace, "tun0")
    try:
        prefix = lip.max_prefixlen
        for line in (
            "link set tun0 addrgenmode none",
            "link set tun0 up",
            f"address add {rip}/{prefix} dev tun0" + (" nodad" if rip.version == 6 else ""),
            f"route add {lip}/{prefix} dev tun0",
        ):
            namespace.run(["ip", *line.split()])
        yield device
    finally:
        device.close()


WAYS = {
    "ipv4": Way("ipv4", ip_address("192.0.2.1"), ip_address("10.70.0.10"), "10.70.0.10"),
    "ipv6": Way("ipv6", ip_address("2001:db8::1"), ip_address("fd00:70::10"), "fd00:70::10", shows_v4_as_mapped=True),
}
LIPS = {"ipv4": ip_address("10.70.0.2"), "ipv6": ip_address("fd00:70::2")}


def shake_hands(device: Device, lip: Address, rip: Address, in_syn: Endpoint | None, in_ack: Endpoint | None) -> int:
    """Connect from LIP and ask the line server, with these clients in the options of SYN and ACK; gives the lport."""
    ip = network(lip, rip)
    lport = next(LPORTS)
    ports = {"sport": lport, "dport": SERVER_PORT}
    device.send(ip / TCP(**ports, flags="S", seq=1000, options=as_options(in_syn)))
    isn = device.receive(lport)[TCP].seq
    device.send(ip / TCP(**ports, flags="A", seq=1001, ack=isn + 1, options=as_options(in_ack)))
    device.send(ip / TCP(**ports, flags="PA", seq=1001, ack=isn + 1) / b"hello\n")
    return lport


def as_options(client: Endpoint | None) -> list[tuple[int, bytes]]:
    option = build(client) if client else b""
    return [(option[0], option[2:])] if option else []


def network(source: Address, destination: Address) -> Packet:
    return (IP if source.version == 4 else IPv6)(src=str(source), dst=str(destination))
