"""Changes to a UDP datagram, each compared with the datagram that scapy builds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from ipvsca.address import Endpoint
from tests.lab import addresses as a
from tests.lab import udp
from tests.lab.connections import Path

Ends = tuple[Endpoint, Endpoint]

CLIENT_V4, VIP_V4 = Endpoint(a.CLIENTS_V4[0], 40000), Endpoint(a.VIP_V4, 53)
CLIENT_V6, VIP_V6 = Endpoint(a.CLIENTS_V6[0], 40000), Endpoint(a.VIP_V6, 53)
LOCAL_V4, REAL_V4 = Endpoint(a.LIPS_V4[0], 1024), Endpoint(a.RIPS_V4[0], 5300)
LOCAL_V6, REAL_V6 = Endpoint(a.LIPS_V6[0], 1024), Endpoint(a.RIPS_V6[0], 5300)
OUTSIDE = pytest.mark.parametrize("outside", [(CLIENT_V4, VIP_V4), (CLIENT_V6, VIP_V6)], ids=["from v4", "from v6"])
INSIDE = pytest.mark.parametrize("inside", [(LOCAL_V4, REAL_V4), (LOCAL_V6, REAL_V6)], ids=["to v4", "to v6"])


def datagram(source: Endpoint, destination: Endpoint, payload: bytes = b"", **fields: int) -> bytearray:
    """The datagram with the checksum it has between these two, as scapy computes it."""
    network = IPv6 if source.address.version == 6 else IP
    header = UDP(sport=source.port, dport=destination.port, **fields)
    packet = network(src=str(source.address), dst=str(destination.address)) / header / Raw(payload)
    return bytearray(bytes(packet)[-len(header) - len(payload) :])


def readdressed(sent: bytearray, outside: Ends, inside: Ends) -> bytearray:
    changed = bytearray(sent)
    path = Path.between(*inside)
    udp.readdress(changed, path.ports, path.sum - Path.between(*outside).sum)
    return changed


@OUTSIDE
@INSIDE
@pytest.mark.parametrize("payload", [b"", b"odd", bytes(1000)], ids=["empty", "odd", "zeros"])
def test_readdressed_within_and_between_families(outside: Ends, inside: Ends, payload: bytes) -> None:
    assert readdressed(datagram(*outside, payload), outside, inside) == datagram(*inside, payload)


@given(ports=st.tuples(*[st.integers(1, 65535)] * 4), payload=st.binary(max_size=64))
def test_readdressed_whatever_the_numbers(ports: tuple[int, int, int, int], payload: bytes) -> None:
    outside = (Endpoint(a.CLIENTS_V4[0], ports[0]), Endpoint(a.VIP_V4, ports[1]))
    inside = (Endpoint(a.LIPS_V4[0], ports[2]), Endpoint(a.RIPS_V4[0], ports[3]))
    assert readdressed(datagram(*outside, payload), outside, inside) == datagram(*inside, payload)


def payload_of_sum_zero(source: Endpoint, destination: Endpoint) -> bytes:
    """Two bytes that make the checksum 0, which is sent as 0xffff."""
    (checksum,) = udp.CHECKSUM.unpack_from(datagram(source, destination, bytes(2)), udp.CHECKSUM_AT)
    return udp.CHECKSUM.pack(checksum)


@INSIDE
def test_a_checksum_of_0_is_sent_as_all_ones(inside: Ends) -> None:
    outside = (CLIENT_V6, VIP_V6)
    payload = payload_of_sum_zero(*inside)
    changed = readdressed(datagram(*outside, payload), outside, inside)
    assert changed[udp.CHECKSUM_AT : udp.CHECKSUM_AT + 2] == b"\xff\xff"
    assert changed == datagram(*inside, payload)


def test_no_checksum_stays_none() -> None:
    sent = datagram(CLIENT_V4, VIP_V4, b"payload", chksum=0)
    changed = readdressed(sent, (CLIENT_V4, VIP_V4), (LOCAL_V4, REAL_V4))
    assert changed == datagram(LOCAL_V4, REAL_V4, b"payload", chksum=0)
    assert not udp.has_checksum(changed)


@INSIDE
@pytest.mark.parametrize("payload", [b"", b"odd", None], ids=["empty", "odd", "sum zero"])
def test_a_missing_checksum_is_filled_in(inside: Ends, payload: bytes | None) -> None:
    content = payload_of_sum_zero(*inside) if payload is None else payload
    filled = datagram(*inside, content, chksum=0)
    source, destination = inside
    udp.fill_checksum(filled, source.address.packed + destination.address.packed)
    assert filled == datagram(*inside, content)


def test_bytes_behind_the_datagram_are_not_in_its_checksum() -> None:
    filled = datagram(LOCAL_V6, REAL_V6, b"payload", chksum=0) + b"behind"
    udp.fill_checksum(filled, LOCAL_V6.address.packed + REAL_V6.address.packed)
    assert filled == datagram(LOCAL_V6, REAL_V6, b"payload") + b"behind"


def test_a_damaged_datagram_stays_damaged() -> None:
    sent = datagram(CLIENT_V4, VIP_V4, b"payload")
    sent[-1] ^= 1
    changed = readdressed(sent, (CLIENT_V4, VIP_V4), (LOCAL_V4, REAL_V4))
    whole = datagram(LOCAL_V4, REAL_V4, b"payload")
    assert changed[:-1] == whole[:-1]
    assert changed != whole


def test_a_whole_datagram_is_needed() -> None:
    whole = datagram(CLIENT_V4, VIP_V4, b"payload")
    assert udp.is_whole(whole)
    assert udp.is_whole(whole + b"behind")
    assert not any(udp.is_whole(whole[:length]) for length in range(len(whole)))
    assert not udp.is_whole(datagram(CLIENT_V4, VIP_V4, b"payload", len=7))
