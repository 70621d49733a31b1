"""A client of the lab that writes its TCP segments itself: any options in any of them, which no kernel would let it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scapy.layers.inet import IP, TCP

from ipvsca.address import Endpoint
from tests.apps.seen import Seen, read_answer
from tests.e2e.tun_device import Device
from tests.lab import addresses as a
from tests.lab.namespace import Namespace
from tests.lab.topology import Lab

ADDRESS = a.CLIENT_NETWORK_V4[77]
ISN = 1000

_ports = itertools.count(20001)
"""One each in a whole run, so that neither director nor server knows them."""

Options = list[tuple[int | str, bytes | None]]
"""As scapy takes them."""


@dataclass(frozen=True)
class Segments:
    """What a client writes into the headers of its segments."""

    syn: bytes = b""
    ack: bytes = b""
    data: bytes = b""
    sends_ack: bool = True
    """False: the first data ends the handshake."""


class Client:
    """One connection from ADDRESS to `to`, segment by segment."""

    def __init__(self, device: Device, to: Endpoint, segments: Segments) -> None:
        self.endpoint = Endpoint(ADDRESS, next(_ports))
        self._device = device
        self._ip = IP(src=str(ADDRESS), dst=str(to.address))
        self._ports = {"sport": self.endpoint.port, "dport": to.port}
        self._segments = segments
        self._theirs = 0

    def open(self) -> None:
        """SYN, and its answer."""
        self._send("S", ISN, self._segments.syn)
        self._theirs = self._device.receive(self.endpoint.port)[TCP].seq + 1

    def ask(self) -> Seen:
        """End the handshake, and ask a line server whom it sees."""
        if self._segments.sends_ack:
            self._send("A", ISN + 1, self._segments.ack)
        self._send("PA", ISN + 1, self._segments.data, b"hello\n")
        return read_answer(self._device.receive_line(self.endpoint.port))

    def _send(self, flags: str, sequence: int, options: bytes, payload: bytes = b"") -> None:
        tcp = TCP(**self._ports, flags=flags, seq=sequence, ack=self._theirs, options=_as_scapy(options))
        self._device.send(self._ip / tcp / payload)


@contextmanager
def by_hand(lab: Lab) -> Iterator[Device]:
    """A tun device behind the lab's clients, to which packets for ADDRESS come."""
    device = Device(lab.client, "byhand")
    forwarding = "ipv4/ip_forward"
    route = f"route replace {ADDRESS}/32 via {a.CLIENTS_V4[0]}".split()
    try:
        for line in ("link set byhand addrgenmode none", "link set byhand up", f"route add {ADDRESS}/32 dev byhand"):
            lab.client.run(["ip", *line.split()])
        _set(lab.client, forwarding, 1)
        lab.director.run(["ip", *route])
        yield device
    finally:
        lab.director.run(["ip", "route", "delete", f"{ADDRESS}/32"], check=False)
        _set(lab.client, forwarding, 0)
        device.close()


def _set(namespace: Namespace, name: str, value: int) -> None:
    with namespace.entered():
        Path("/proc/sys/net", name).write_text(str(value))


def _as_scapy(options: bytes) -> Options:
    """Options byte by byte as they are meant; 1 is a NOP."""
    found: Options = []
    while options:
        size = 1 if options[0] == 1 else options[1]
        found.append(("NOP", None) if options[0] == 1 else (options[0], options[2:size]))
        options = options[size:]
    return found
