"""The announcement, case by case and as properties that hold for any bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsca.address import Endpoint
from ipvsca.wire import announcement
from ipvsca.wire.announcement import LENGTH, Announcement, Parsed, Verdict
from ipvsca.wire.internet import PROTOCOL_TCP, PROTOCOL_UDP
from tests.lab.checksum import checksum
from tests.vectors import AnnouncementVector, announcement_vectors

IP_HEADER, MESSAGE = 20, 22  # bytes
SIGNATURE = 36  # bytes that have to be there for a packet to resemble one
VECTORS = [pytest.param(vector, id=vector.sentence) for vector in announcement_vectors()]

ports = st.integers(1, 0xFFFF)
endpoints = st.builds(Endpoint, st.ip_addresses(v=4), ports)
clients = endpoints.filter(lambda client: client.can_be_client)
announcements = st.builds(
    Announcement, st.sampled_from([PROTOCOL_TCP, PROTOCOL_UDP]), endpoints, endpoints, clients, st.integers(0, 255)
)


def found(announced: Announcement) -> Parsed:
    return Parsed(Verdict.FOUND, announced)


def with_right_sums(packet: bytes) -> bytes:
    return with_right_sum(packet[:IP_HEADER], 10) + with_right_sum(packet[IP_HEADER:], 2)


def with_right_sum(part: bytes, at: int) -> bytes:
    return part[:at] + checksum(part[:at] + bytes(2) + part[at + 2 :]).to_bytes(2) + part[at + 2 :]


@pytest.mark.parametrize("vector", VECTORS)
def test_vector(vector: AnnouncementVector) -> None:
    assert announcement.parse(vector.packet) == vector.expected


WHOLE = [vector for vector in announcement_vectors() if len(vector.packet) >= (vector.packet[0] & 0xF) * 4 + MESSAGE]


@pytest.mark.parametrize("vector", WHOLE, ids=lambda vector: vector.sentence)
def test_vector_with_more_behind_it(vector: AnnouncementVector) -> None:
    """What follows is not read, whatever it is."""
    for more in (b"\0", b"\xff" * 5, announcement_vectors()[0].packet):
        assert announcement.parse(vector.packet + more) == vector.expected


@pytest.mark.parametrize(
    "vector", [vector for vector in announcement_vectors() if vector.expected.announcement], ids=lambda v: v.sentence
)
def test_what_is_cut_is_never_found(vector: AnnouncementVector) -> None:
    for length in range(LENGTH):
        verdict = Verdict.ABSENT if length < SIGNATURE else Verdict.LENGTH
        assert announcement.parse(vector.packet[:length]) == Parsed(verdict), f"cut at {length}"


@given(announcements, st.booleans(), st.binary(max_size=60))
def test_what_is_built_is_read(announced: Announcement, little_endian: bool, behind: bytes) -> None:
    packet = announcement.build(announced, little_endian=little_endian)
    assert announcement.parse(packet + behind, {announced.kind}) == found(announced)
    assert len(packet) == LENGTH == int.from_bytes(packet[2:4])


@given(announcements)
def test_the_byte_orders_differ_in_the_identifier_alone(announced: Announcement) -> None:
    little, big = (announcement.build(announced, little_endian=little) for little in (True, False))
    assert (little[24:26], big[24:26]) == (b"\x34\x12", b"\x12\x34")
    assert little[:22] + little[26:] == big[:22] + big[26:]


@given(announcements, st.integers(0, 255))
def test_another_kind_is_not_believed(announced: Announcement, kind: int) -> None:
    expected = found(announced) if announced.kind == kind else Parsed(Verdict.KIND)
    assert announcement.parse(announcement.build(announced), {kind}) == expected


@given(announcements, st.integers(0, LENGTH * 8 - 1))
def test_one_wrong_bit_is_never_believed(announced: Announcement, bit: int) -> None:
    packet = bytearray(announcement.build(announced))
    packet[bit // 8] ^= 1 << bit % 8
    assert announcement.parse(bytes(packet), range(256)).announcement is None


@given(announcements, st.integers(0, LENGTH * 8 - 1))
def test_one_other_bit_with_right_checksums_changes_one_thing(announced: Announcement, bit: int) -> None:
    """The client is another one only where it was the client that was changed."""
    packet = bytearray(announcement.build(announced))
    packet[bit // 8] ^= 1 << bit % 8
    read = announcement.parse(with_right_sums(bytes(packet)), range(256)).announcement
    if read is None:
        return
    places = {
        "protocol": range(29, 30),
        "director": (*range(12, 16), 30, 31),
        "server": (*range(16, 20), 32, 33),
        "kind": range(34, 35),
        "client": range(36, 42),
    }
    changed = {name for name in places if getattr(read, name) != getattr(announced, name)}
    assert changed == {name for name, place in places.items() if bit // 8 in place}


@given(announcements, st.integers(0, 255))
def test_only_tcp_and_udp_have_flows(announced: Announcement, protocol: int) -> None:
    packet = bytearray(announcement.build(announced))
    packet[29] = protocol
    is_found = announcement.parse(with_right_sums(bytes(packet)), range(256)).verdict is Verdict.FOUND
    assert is_found == (protocol in (PROTOCOL_TCP, PROTOCOL_UDP))


@given(st.binary(max_size=120), st.sets(st.integers(0, 255)))
def test_any_bytes_are_judged(packet: bytes, kinds: set[int]) -> None:
    parsed = announcement.parse(packet, kinds)
    assert (parsed.announcement is not None) == (parsed.verdict is Verdict.FOUND)


@given(
    st.integers(0, 255),
    st.binary(min_size=2, max_size=2),
    st.sampled_from([0, 0x2000, 0x4000, 1]),
    st.binary(max_size=30),
    st.binary(max_size=20),
)
def test_any_bytes_that_begin_like_one_are_judged(
    version_words: int, length: bytes, fragment: int, message: bytes, behind: bytes
) -> None:
    header = bytes([version_words, 0]) + length + bytes(2) + fragment.to_bytes(2) + bytes([64, 1]) + bytes(10)
    for packet in (header + message + behind, header + b"\x08\0\0\0\x34\x12\0\0\x7b" + message + behind):
        parsed = announcement.parse(packet)
        assert parsed.announcement is None or parsed.announcement.client.can_be_client


@given(announcements, st.builds(Endpoint, st.ip_addresses(v=6), ports))
def test_only_ipv4_can_be_announced(announced: Announcement, end: Endpoint) -> None:
    for other in (replace(announced, director=end), replace(announced, server=end), replace(announced, client=end)):
        with pytest.raises(ValueError, match="IPv4"):
            announcement.build(other)
