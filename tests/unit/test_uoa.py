"""UOA, case by case and as properties that hold for any bytes."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from ipvsca.address import Endpoint
from ipvsca.wire import uoa
from ipvsca.wire.uoa import Parsed, Told, Verdict
from tests.lab.checksum import checksum
from tests.vectors import UoaVector, ipo_vectors, opp_vectors

IPO = [pytest.param(vector, id=vector.sentence) for vector in ipo_vectors()]
OPP = [pytest.param(vector, id=vector.sentence) for vector in opp_vectors()]
IPO_FOUND = [vector for vector in ipo_vectors() if vector.expected.told]
OPP_FOUND = [vector for vector in opp_vectors() if vector.expected.told]

ports = st.integers(1, 0xFFFF)
ends_v4 = st.builds(Endpoint, st.ip_addresses(v=4), ports)
ends_v6 = st.builds(Endpoint, st.ip_addresses(v=6).filter(lambda address: not address.ipv4_mapped), ports)
clients = (ends_v4 | ends_v6).filter(lambda client: client.can_be_client)
told_v4 = st.builds(Told, ends_v4, ends_v4, clients)
told_v6 = st.builds(Told, ends_v6, ends_v6, clients)
payloads = st.binary(max_size=60)


def found(told: Told) -> Parsed:
    return Parsed(Verdict.FOUND, told)


def taken(told: Told) -> int:
    return 12 if told.client.address.version == 4 else 24


@pytest.mark.parametrize("vector", IPO)
def test_ipo_vector(vector: UoaVector) -> None:
    assert uoa.parse_ipo(vector.packet) == vector.expected
    assert uoa.parse_opp(vector.packet).verdict is Verdict.ABSENT


@pytest.mark.parametrize("vector", OPP)
def test_opp_vector(vector: UoaVector) -> None:
    assert uoa.parse_opp(vector.packet) == vector.expected
    assert uoa.parse_ipo(vector.packet).verdict is Verdict.ABSENT


@pytest.mark.parametrize("vector", OPP_FOUND, ids=lambda vector: vector.sentence)
def test_what_opp_becomes(vector: UoaVector) -> None:
    plain = uoa.strip(vector.packet)
    assert vector.becomes in (None, plain)
    assert uoa.parse_opp(plain).verdict is Verdict.ABSENT


@pytest.mark.parametrize("vector", IPO_FOUND, ids=lambda vector: vector.sentence)
def test_ipo_that_is_cut_is_never_found(vector: UoaVector) -> None:
    end = int.from_bytes(vector.packet[2:4])
    for length in range(end):
        assert uoa.parse_ipo(vector.packet[:length]).told is None, f"cut at {length}"


@pytest.mark.parametrize("vector", OPP_FOUND, ids=lambda vector: vector.sentence)
def test_opp_that_is_cut_is_never_found(vector: UoaVector) -> None:
    packet = vector.packet
    end = int.from_bytes(packet[2:4]) if packet[0] >> 4 == 4 else 40 + int.from_bytes(packet[4:6])
    for length in range(end):
        assert uoa.parse_opp(packet[:length]).told is None, f"cut at {length}"


@given(told_v4, payloads, payloads)
def test_ipo_that_is_built_is_read(told: Told, payload: bytes, behind: bytes) -> None:
    packet = uoa.build_ipo(told, payload)
    assert uoa.parse_ipo(packet + behind) == found(told)
    assert packet.endswith(payload)


@given(told_v4 | told_v6, payloads, payloads)
def test_opp_that_is_built_is_read(told: Told, payload: bytes, behind: bytes) -> None:
    packet = uoa.build_opp(told, payload)
    assert uoa.parse_opp(packet + behind) == found(told)
    assert uoa.strip(packet + behind) == uoa.strip(packet) + behind


@given(told_v4 | told_v6, payloads)
def test_what_opp_becomes_is_a_datagram_to_others_too(told: Told, payload: bytes) -> None:
    """Its checksums are those that scapy computes."""
    plain = uoa.strip(uoa.build_opp(told, payload))
    ip = (IP if told.director.address.version == 4 else IPv6)(plain)
    assert (ip[UDP].sport, ip[UDP].dport, bytes(ip[UDP].payload)) == (told.director.port, told.server.port, payload)
    has_sum = ip[UDP].chksum != 0
    assert has_sum == (ip.version == 6)
    again = ip.copy()
    if ip.version == 4:
        del again.chksum
    else:
        del again[UDP].chksum
    assert bytes(again) == plain


@given(told_v4, payloads)
def test_ipos_datagram_is_one_to_others_too(told: Told, payload: bytes) -> None:
    packet = uoa.build_ipo(told, payload)
    ip = IP(packet)
    del ip.chksum
    del ip[UDP].chksum
    assert bytes(ip) == packet


@given(told_v4, st.data())
def test_one_wrong_bit_of_ipos_header_is_never_believed(told: Told, data: st.DataObject) -> None:
    packet = bytearray(uoa.build_ipo(told))
    bit = data.draw(st.integers(0, (packet[0] & 0xF) * 32 - 1))
    packet[bit // 8] ^= 1 << bit % 8
    assert uoa.parse_ipo(bytes(packet)).told is None


@given(told_v4, st.integers(0, 20 * 8 - 1))
def test_one_wrong_bit_of_the_ip_header_in_front_of_opp_is_never_believed(told: Told, bit: int) -> None:
    packet = bytearray(uoa.build_opp(told))
    packet[bit // 8] ^= 1 << bit % 8
    assert uoa.parse_opp(bytes(packet)).told is None


@given(told_v4 | told_v6, st.data())
def test_one_other_bit_of_opp_changes_the_client_alone(told: Told, data: st.DataObject) -> None:
    packet = bytearray(uoa.build_opp(told))
    start = 20 if told.director.address.version == 4 else 40
    bit = data.draw(st.integers(0, taken(told) * 8 - 1))
    packet[start + bit // 8] ^= 1 << bit % 8
    other = uoa.parse_opp(bytes(packet)).told
    is_in_the_client = bit // 8 >= 6
    if other is None:
        return
    assert replace(other, client=told.client) == told
    assert (other.client != told.client) == is_in_the_client
    assert is_in_the_client or bit // 8 == 0, "1 and 2 do not differ in one bit"


@given(st.binary(max_size=120))
def test_any_bytes_are_judged(packet: bytes) -> None:
    for parse in (uoa.parse_ipo, uoa.parse_opp):
        parsed = parse(packet)
        assert (parsed.told is not None) == (parsed.verdict is Verdict.FOUND)


@given(st.binary(max_size=40), st.integers(0, 0xFFFF), st.binary(max_size=40), st.sampled_from([17, 248]))
def test_any_bytes_behind_a_right_header_are_judged(options: bytes, flags: int, datagram: bytes, protocol: int) -> None:
    options = options[: len(options) // 4 * 4]
    words, total = 5 + len(options) // 4, 20 + len(options) + len(datagram)
    header = struct.pack("!BBHHHBBHII", 0x40 | words, 0, total, 0, flags, 64, protocol, 0, 1 << 24, 2 << 24) + options
    header = header[:10] + checksum(header).to_bytes(2) + header[12:]
    for parse in (uoa.parse_ipo, uoa.parse_opp):
        parsed = parse(header + datagram)
        assert parsed.told is None or parsed.told.client.can_be_client


@given(told_v6)
def test_ipv6_has_no_ipo(told: Told) -> None:
    with pytest.raises(ValueError, match="IPv6"):
        uoa.build_ipo(told)


@given(told_v4, told_v6)
def test_no_packet_goes_from_one_version_to_the_other(one: Told, other: Told) -> None:
    for told in (replace(one, server=other.server), replace(other, server=one.server)):
        with pytest.raises(ValueError, match="no packet"):
            uoa.build_opp(told)
