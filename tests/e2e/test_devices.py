"""SYNs and UOA are read on devices without an Ethernet header too: packets by hand over a tun device."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Packet

from ipvsca.address import Endpoint
from tests.apps.catalogue import app
from tests.apps.datagrams import read_datagram
from tests.apps.seen import read_answer
from tests.apps.udp_catalogue import udp_app
from tests.e2e.datagrams import SERVER_PORT as UDP_SERVER_PORT
from tests.e2e.datagrams import Datagrams
from tests.e2e.traffic import SERVER_PORT, Traffic
from tests.e2e.tun_device import LIPS, LPORTS, WAYS, as_options, network, shake_hands, tun
from tests.lab import ip as lab_ip
from tests.lab import uoa
from tests.lab.messages import UoaMode
from tests.lab.topology import Lab
from tests.rig import Ipvsca

ACCEPT = app("c-accept")
RECVFROM = udp_app("c-recvfrom")
CLIENT = Endpoint.of("198.51.100.77", 7777)
CLIENT_V6 = Endpoint.of("2001:db8:c::77", 7777)
PLANTED = Endpoint.of("8.8.8.8", 4369)


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


def with_client(mode: UoaMode, client: Endpoint, datagram: Packet) -> bytes:
    return lab_ip.build(*uoa.told(mode, client, *lab_ip.parse(bytes(datagram))))
