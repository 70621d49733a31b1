"""IP headers, translated and not, against packets that scapy builds."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.packet import Packet, Raw

from ipvsca.address import Address
from tests.lab import addresses as a
from tests.lab import ip

V4 = IP(src=str(a.CLIENTS_V4[0]), dst=str(a.VIP_V4), tos=0x28, ttl=57, id=4711, flags="DF")
V6 = IPv6(src=str(a.CLIENTS_V6[0]), dst=str(a.VIP_V6), tc=0x28, hlim=57, fl=0xABCDE)
SEGMENT = TCP(sport=40000, dport=80, flags="PA", chksum=0) / Raw(b"some payload")


def sent_on(packet: Packet, source: Address, destination: Address) -> bytes:
    """What `ip` makes of the packet between other addresses."""
    header, payload = ip.parse(bytes(packet))
    return ip.build(header._replace(source=source.packed, destination=destination.packed), payload)


@pytest.mark.parametrize("network", [V4, V6], ids=["v4", "v6"])
def test_a_header_is_built_as_it_was_read(network: Packet) -> None:
    packet = network.copy()
    if IPv6 in packet:
        packet.fl = 0  # dropped, as a director's own flow may set another
    header, payload = ip.parse(bytes(packet / SEGMENT))
    assert ip.build(header, payload) == bytes(packet / SEGMENT)


def test_ipv6_becomes_ipv4_that_must_not_be_fragmented() -> None:
    translated = sent_on(V6 / SEGMENT, a.LIPS_V4[0], a.RIPS_V4[0])
    expected = IP(src=str(a.LIPS_V4[0]), dst=str(a.RIPS_V4[0]), tos=0x28, ttl=57, id=0, flags="DF") / SEGMENT
    assert translated == bytes(expected)


def test_ipv4_becomes_ipv6_without_a_flow_label() -> None:
    translated = sent_on(V4 / SEGMENT, a.LIPS_V6[0], a.RIPS_V6[0])
    expected = IPv6(src=str(a.LIPS_V6[0]), dst=str(a.RIPS_V6[0]), tc=0x28, hlim=57, fl=0) / SEGMENT
    assert translated == bytes(expected)


def test_bytes_behind_the_packet_are_not_payload() -> None:
    """A short packet may come with Ethernet's padding."""
    for network in (V4, V6):
        assert ip.parse(bytes(network / SEGMENT) + bytes(18)) == ip.parse(bytes(network / SEGMENT))


def test_ipv4_options_are_not_carried() -> None:
    with_options = V4.copy()
    with_options.options = [b"\x94\x04\x00\x00"]
    header, payload = ip.parse(bytes(with_options / SEGMENT))
    assert ip.build(header, payload) == bytes(V4 / SEGMENT)


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        pytest.param(b"", "malformed", id="nothing"),
        pytest.param(b"\x50" + bytes(60), "malformed", id="version 5"),
        pytest.param(bytes(V4 / SEGMENT)[:-1], "malformed", id="IPv4, shorter than it says"),
        pytest.param(bytes(V6 / SEGMENT)[:-1], "malformed", id="IPv6, shorter than it says"),
        pytest.param(bytes(V4)[:19], "malformed", id="IPv4, header cut"),
        pytest.param(bytes(V6)[:39], "malformed", id="IPv6, header cut"),
        pytest.param(b"\x44" + bytes(V4 / SEGMENT)[1:], "malformed", id="IPv4, header length 16"),
        pytest.param(bytes(IP(flags="MF") / SEGMENT), "fragment", id="first fragment"),
        pytest.param(bytes(IP(frag=3) / SEGMENT), "fragment", id="later fragment"),
        pytest.param(bytes(V6 / IPv6ExtHdrFragment(m=1) / SEGMENT), "fragment", id="IPv6, fragment header"),
    ],
)
def test_what_is_no_whole_packet_is_dropped(packet: bytes, reason: str) -> None:
    with pytest.raises(ip.Dropped, match=reason):
        ip.parse(packet)
