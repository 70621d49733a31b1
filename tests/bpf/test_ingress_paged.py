"""Packets of which a part, headers included, lies outside the skb's linear data, as some drivers deliver them.

Test runs know no such packets. A tap device makes them: of a packet longer than a page, the linear part is as long as
whoever writes the packet says in the header that virtual machines put in front (virtio_net_hdr).
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from scapy.layers.inet import TCP
from scapy.layers.l2 import Dot1AD, Dot1Q
from scapy.packet import Packet

from ipvsca.dataplane import DataPlane
from ipvsca.kernel import bpf
from ipvsca.kernel.interfaces import Interfaces
from ipvsca.kernel.programs import INGRESS_ETHERNET, Program
from ipvsca.wire import toa
from tests.bpf.cases import ATOMIC, DESTINATION, HOP_BY_HOP, LEARNT_V4, LEARNT_V6, at
from tests.bpf.ingress import Outcome, outcome_of
from tests.bpf.packets import FRAME, V4, V6, syn_v4, syn_v6
from tests.lab import sandbox
from tests.lab.namespace import Namespace

TUN = Path("/dev/net/tun")
DEVICE = "tap0"
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
ETHERNET = 14
MORE_THAN_A_PAGE = bytes(os.sysconf("SC_PAGE_SIZE"))


class Tap:
    """A tap device in the network namespace we are in."""

    def __init__(self) -> None:
        self._fd = os.open(TUN, os.O_RDWR)
        fcntl.ioctl(self._fd, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))

    def close(self) -> None:
        os.close(self._fd)

    def receive(self, frame: bytes, linear: int) -> None:
        """Let the device receive a frame of more than a page. The programs have run on it when this returns."""
        os.write(self._fd, struct.pack("=BBHHHH", 0, 0, linear, 0, 0, 0) + frame)


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    if not TUN.exists():
        pytest.skip(f"no tap devices: {TUN} is missing")
    with sandbox.cgroup() as group, Namespace(group) as namespace:
        yield namespace


@pytest.fixture(scope="module")
def tap(namespace: Namespace, programs: Mapping[Program, int], pins: Path) -> Iterator[Tap]:
    """Its ingress has the program for Ethernet."""
    with namespace.entered():
        tap = Tap()
    with closing(tap):
        namespace.run(["ip", "link", "set", DEVICE, "up"])
        program = programs[INGRESS_ETHERNET]
        with namespace.entered(), Interfaces() as interfaces:
            (interface,) = interfaces.select((DEVICE,))
            interfaces.attach(interface, program, bpf.program_id(program), pins)
        yield tap


@pytest.mark.parametrize(
    ("packet", "outcome"),
    [
        pytest.param(FRAME / V4 / syn_v4(payload=MORE_THAN_A_PAGE), LEARNT_V4, id="v4"),
        pytest.param(FRAME / V6 / syn_v6(payload=MORE_THAN_A_PAGE), LEARNT_V6, id="v6"),
        pytest.param(
            FRAME / at(V4, options=[b"\1" * 40]) / syn_v4(payload=MORE_THAN_A_PAGE), LEARNT_V4, id="v4 with options"
        ),
        pytest.param(
            FRAME / V6 / HOP_BY_HOP / DESTINATION / ATOMIC / syn_v6(payload=MORE_THAN_A_PAGE),
            LEARNT_V6,
            id="v6 with extension headers",
        ),
        pytest.param(
            FRAME / Dot1AD(vlan=7) / Dot1Q(vlan=8) / V4 / syn_v4(payload=MORE_THAN_A_PAGE), LEARNT_V4, id="VLAN tags"
        ),
    ],
)
def test_wherever_the_linear_part_ends(tap: Tap, plane: DataPlane, packet: Packet, outcome: Outcome) -> None:
    frame = bytes(packet)
    end = frame.index(bytes(packet[TCP])[: toa.TCP_HEADER]) + packet[TCP].dataofs * 4
    for linear in range(ETHERNET, end + 2):
        assert outcome_of(partial(tap.receive, frame, linear), plane) == outcome, f"{linear} bytes are linear"
