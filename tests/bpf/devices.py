"""Network devices whose other end is a file of ours: what is written there is received."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from ipvsca.kernel import bpf
from ipvsca.kernel.interfaces import Interfaces
from ipvsca.kernel.programs import INGRESS_ETHERNET, INGRESS_IP, Program
from tests.lab import tuntap
from tests.lab.namespace import Namespace

TUN = Path("/dev/net/tun")
ADDRESS = "02:00:00:00:00:02"
_VXLAN_OURS, _VXLAN_PEER, _VXLAN_PORT, _VXLAN_ID = "192.0.2.1", "192.0.2.2", 4789, 5


class Device:
    """A device in the network namespace we are in."""

    def __init__(self, name: str, flags: int) -> None:
        self._fd = tuntap.open_device(name, flags)

    def close(self) -> None:
        os.close(self._fd)

    def receive(self, packet: bytes) -> None:
        """Let the device receive a packet. The programs have run on it when this returns."""
        os.write(self._fd, packet)


class Tap(Device):
    """An Ethernet device with the address ADDRESS."""

    def __init__(self, name: str) -> None:
        super().__init__(name, tuntap.TAP | tuntap.VNET_HDR)

    def receive_in_parts(self, frame: bytes, linear: int) -> None:
        """Let it receive a frame of more than a page, of which so many bytes are linear."""
        self.receive(struct.pack("=BBHHHH", 0, 0, linear, 0, 0, 0) + frame)


class Tun(Device):
    """A device without a link layer."""

    def __init__(self, name: str) -> None:
        super().__init__(name, tuntap.TUN)


class Vxlan:
    """An Ethernet device with the address ADDRESS that has the sum of all bytes of a packet (CHECKSUM_COMPLETE).

    Network cards deliver packets so. Here the kernel itself has summed up the datagram that the frame arrives in.
    """

    def __init__(self, outer: Tun) -> None:
        self._outer = outer

    def receive(self, frame: bytes) -> None:
        """Let the device receive a frame."""
        datagram = UDP(sport=50000, dport=_VXLAN_PORT) / VXLAN(vni=_VXLAN_ID, flags="Instance") / Raw(frame)
        self._outer.receive(bytes(IP(src=_VXLAN_PEER, dst=_VXLAN_OURS) / datagram))


@contextmanager
def vxlan(namespace: Namespace, programs: Mapping[Program, int], pins: Path) -> Iterator[Vxlan]:
    """`vxlan0`, with the program for Ethernet at its ingress."""
    with tun(namespace, programs, pins) as outer:
        namespace.run(["ip", "address", "add", f"{_VXLAN_OURS}/24", "dev", "tun0"])
        ends = ["local", _VXLAN_OURS, "remote", _VXLAN_PEER, "dstport", str(_VXLAN_PORT)]
        try:
            namespace.run(["ip", "link", "add", "vxlan0", "type", "vxlan", "id", str(_VXLAN_ID), *ends])
        except subprocess.CalledProcessError:
            pytest.skip("needs: vxlan devices (CONFIG_VXLAN)")
        namespace.run(["ip", "link", "set", "vxlan0", "address", ADDRESS])
        _attach(namespace, "vxlan0", programs[INGRESS_ETHERNET], pins)
        yield Vxlan(outer)


@contextmanager
def tap(namespace: Namespace, programs: Mapping[Program, int], pins: Path) -> Iterator[Tap]:
    """With the program for Ethernet at its ingress."""
    _require()
    with namespace.entered():
        tap = Tap("tap0")
    with closing(tap):
        namespace.run(["ip", "link", "set", "tap0", "address", ADDRESS])
        _attach(namespace, "tap0", programs[INGRESS_ETHERNET], pins)
        yield tap


@contextmanager
def tun(namespace: Namespace, programs: Mapping[Program, int], pins: Path) -> Iterator[Tun]:
    """With the program for devices without a link layer at its ingress."""
    _require()
    with namespace.entered():
        tun = Tun("tun0")
    with closing(tun):
        _attach(namespace, "tun0", programs[INGRESS_IP], pins)
        yield tun


def _require() -> None:
    if not TUN.exists():
        pytest.skip(f"needs: tun and tap devices ({TUN})")


def _attach(namespace: Namespace, device: str, program: int, pins: Path) -> None:
    namespace.run(["ip", "link", "set", device, "up"])
    with namespace.entered(), Interfaces() as interfaces:
        (interface,) = interfaces.select((device,))
        interfaces.attach(interface, program, bpf.program_id(program), pins)
