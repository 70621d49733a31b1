"""SYNs and UOA are read on devices without an Ethernet header too: packets by hand over a tun device."""

from __future__ import annotations

import fcntl
import os
import select
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from ipvsca.address import Address, Endpoint
from ipvsca.wire.toa import build
from tests.apps.catalogue import app
from tests.apps.datagrams import read_datagram
from tests.apps.seen import read_answer
from tests.apps.udp_catalogue import udp_app
from tests.e2e.datagrams import SERVER_PORT as UDP_SERVER_PORT
from tests.e2e.datagrams import Datagrams
from tests.e2e.traffic import LPORTS, SERVER_PORT, TIMEOUT_S, Traffic, Way
from tests.lab import ip as lab_ip
from tests.lab import uoa
from tests.lab.messages import UoaMode
from tests.lab.topology import Lab
from tests.rig import Ipvsca

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x0001 | 0x1000

ACCEPT = app("c-accept")
RECVFROM = udp_app("c-recvfrom")
CLIENT = Endpoint.of("198.51.100.77", 7777)
CLIENT_V6 = Endpoint.of("2001:db8:c::77", 7777)
PLANTED = Endpoint.of("8.8.8.8", 4369)


class Device:
    """A tun device in the server's namespace; what we write arrives there, what the server sends we read."""

    def __init__(self, lab: Lab, name: str) -> None:
        with lab.server.entered():
            self._fd = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(self._fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN_NO_PI))

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
def tun(lab: Lab, lip: Address, rip: Address) -> Iterator[Device]:
    device = Device(lab, "tun0")
    try:
        prefix = lip.max_prefixlen
        for line in (
            "link set tun0 addrgenmode none",
            "link set tun0 up",
            f"address add {rip}/{prefix} dev tun0" + (" nodad" if rip.version == 6 else ""),
            f"route add {lip}/{prefix} dev tun0",
        ):
            lab.server.run(["ip", *line.split()])
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


@pytest.mark.parametrize("family", WAYS)
@pytest.mark.parametrize("interfaces", ["auto", ["tun0"]], ids=["auto", "by name"])
def test_the_option_of_a_syn_is_read_on_a_tun_device(
    lab: Lab, traffic: Traffic, ipvsca: Ipvsca, family: str, interfaces: object
) -> None:
    way, lip = WAYS[family], LIPS[family]
    with tun(lab, lip, way.rip) as device, traffic.serving(ACCEPT, way), ipvsca.loaded(interfaces=interfaces):
        lport = shake_hands(device, lip, way.rip, CLIENT, None)
        assert read_answer(device.receive_line(lport)) == ACCEPT.sees(way.shown(CLIENT))


@pytest.mark.parametrize("family", WAYS)
def test_nobody_is_believed_where_syn_and_ack_disagree(lab: Lab, traffic: Traffic, ipvsca: Ipvsca, family: str) -> None:
    """A director that writes the option into one of them may pass on what a client has put into the other."""
    way, lip = WAYS[family], LIPS[family]
    with tun(lab, lip, way.rip) as device, traffic.serving(ACCEPT, way), ipvsca.loaded():
        with ipvsca.counted(tcp_restored_syn=1):
            lport = shake_hands(device, lip, way.rip, CLIENT, CLIENT)
            assert read_answer(device.receive_line(lport)) == ACCEPT.sees(way.shown(CLIENT))
        with ipvsca.counted(refused_ack_conflict=1, tcp_no_client=1):
            lport = shake_hands(device, lip, way.rip, PLANTED, CLIENT)
            assert read_answer(device.receive_line(lport)) == ACCEPT.sees(way.shown(Endpoint(lip, lport)))


@pytest.mark.parametrize("damaged_first", [False, True], ids=["behind", "ahead"])
def test_a_damaged_syn_names_nobody(lab: Lab, traffic: Traffic, ipvsca: Ipvsca, damaged_first: bool) -> None:
    """It is read before TCP drops it for its checksum. Of two SYNs of one handshake nothing tells which is right."""
    way, lip = WAYS["ipv4"], LIPS["ipv4"]
    with tun(lab, lip, way.rip) as device, traffic.serving(ACCEPT, way), ipvsca.loaded():
        lport = next(LPORTS)
        ip, ports = IP(src=str(lip), dst=str(way.rip)), {"sport": lport, "dport": SERVER_PORT}
        right = ip / TCP(**ports, flags="S", seq=1000, options=as_options(CLIENT))
        damaged = ip / TCP(**ports, flags="S", seq=1000, options=as_options(PLANTED), chksum=0x1234)
        with ipvsca.counted(refused_syn_conflict=1, tcp_no_client=1):
            for syn in (damaged, right) if damaged_first else (right, damaged):
                device.send(syn)
            isn = device.receive(lport)[TCP].seq
            device.send(ip / TCP(**ports, flags="A", seq=1001, ack=isn + 1))
            device.send(ip / TCP(**ports, flags="PA", seq=1001, ack=isn + 1) / b"hello\n")
            assert read_answer(device.receive_line(lport)) == ACCEPT.sees(Endpoint(lip, lport))


@pytest.mark.parametrize(
    ("family", "mode"), [("ipv4", UoaMode.IPO), ("ipv4", UoaMode.OPP), ("ipv6", UoaMode.OPP)], ids=str
)
def test_uoa_is_read_on_a_tun_device(
    lab: Lab, datagrams: Datagrams, ipvsca: Ipvsca, family: str, mode: UoaMode
) -> None:
    way, lip = WAYS[family], LIPS[family]
    client = CLIENT if family == "ipv4" else CLIENT_V6
    lport = next(LPORTS)
    question = UDP(sport=lport, dport=UDP_SERVER_PORT) / b"hello"
    with tun(lab, lip, way.rip) as device, datagrams.serving(RECVFROM, way), ipvsca.loaded():
        with ipvsca.counted(**{f"{mode}_learnt": 1}, recvmsg_restored=1, sendmsg_redirected=1):
            device.send(with_client(mode, client, network(lip, way.rip) / question))
            answer = bytes(device.receive(lport, UDP)[UDP].payload)
        assert read_datagram(answer) == RECVFROM.sees(way.shown(client), way.rip, b"hello")


def network(source: Address, destination: Address) -> Packet:
    return (IP if source.version == 4 else IPv6)(src=str(source), dst=str(destination))


def with_client(mode: UoaMode, client: Endpoint, datagram: Packet) -> bytes:
    return lab_ip.build(*uoa.told(mode, client, *lab_ip.parse(bytes(datagram))))
