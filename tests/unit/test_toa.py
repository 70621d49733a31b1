"""The TCP address option, case by case and as properties that hold for any bytes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsca.address import V4_MAPPED, Endpoint
from ipvsca.wire import toa
from ipvsca.wire.toa import Parsed, Verdict
from tests.vectors import Vector, tcp_header, toa_vectors

ROOM = 40  # bytes of options in a header
CLIENT, OTHER_CLIENT = Endpoint.parse("198.51.100.7:1234"), Endpoint.parse("[2001:db8::7]:1234")
IMPOSSIBLE = Endpoint.parse("127.0.0.1:1234")

kinds = st.integers(9, 255)
clients = st.builds(Endpoint, st.ip_addresses(), st.integers(0, 0xFFFF)).filter(
    lambda client: client.can_be_client and client.address not in V4_MAPPED
)


def framed(kind: int, data: bytes) -> bytes:
    return bytes([kind, 2 + len(data)]) + data


foreign_options = st.one_of(
    st.just(bytes([toa.NO_OPERATION])),
    st.builds(framed, kinds.filter(lambda kind: kind not in toa.DEFAULT_KINDS), st.binary(max_size=10)),
)
"""Such that toa.parse goes past them."""


@pytest.mark.parametrize("vector", toa_vectors(), ids=lambda vector: vector.sentence)
def test_vector(vector: Vector) -> None:
    assert toa.parse_header(vector.segment) == vector.expected


WHOLE = [vector for vector in toa_vectors() if vector.header_length <= len(vector.segment)]


@pytest.mark.parametrize("vector", WHOLE, ids=lambda vector: vector.sentence)
def test_vector_with_more_behind_it(vector: Vector) -> None:
    """What follows the header is not read, whatever it is."""
    for more in (b"\0", b"\xff", toa.build(OTHER_CLIENT)):
        assert toa.parse_header(vector.segment + more) == vector.expected


@pytest.mark.parametrize("vector", toa_vectors(), ids=lambda vector: vector.sentence)
def test_vector_cut_at_each_byte(vector: Vector) -> None:
    """A header that is not there whole says nothing; payload that is cut changes nothing."""
    needed = max(vector.header_length, toa.TCP_HEADER)
    for length in range(len(vector.segment)):
        expected = Parsed(Verdict.MALFORMED) if length < needed else vector.expected
        assert toa.parse_header(vector.segment[:length]) == expected, f"cut at {length}"


@given(clients, kinds)
def test_what_is_built_is_read(client: Endpoint, kind: int) -> None:
    option = toa.build(client, kind)
    assert toa.parse(option, {kind}) == Parsed(Verdict.FOUND, client)
    assert len(option) == option[1] == {4: toa.LENGTH_IPV4, 6: toa.LENGTH_IPV6}[client.address.version]


@given(clients, kinds, kinds)
def test_another_kind_is_not_read(client: Endpoint, kind: int, other: int) -> None:
    expected = Parsed(Verdict.FOUND, client) if kind == other else Parsed(Verdict.ABSENT)
    assert toa.parse(toa.build(client, kind), {other}) == expected


@given(st.lists(foreign_options, max_size=5), clients, st.binary(max_size=20))
def test_it_is_found_behind_other_options_whatever_follows(before: list[bytes], client: Endpoint, after: bytes) -> None:
    assert toa.parse(b"".join(before) + toa.build(client) + after) == Parsed(Verdict.FOUND, client)


@given(st.lists(foreign_options, max_size=5), st.binary(max_size=20))
def test_nothing_is_found_behind_the_end_of_the_list(before: list[bytes], after: bytes) -> None:
    assert toa.parse(b"".join(before) + bytes([toa.END_OF_LIST]) + after) == Parsed(Verdict.ABSENT)


@given(clients, clients)
def test_the_first_one_counts(first: Endpoint, second: Endpoint) -> None:
    assert toa.parse(toa.build(first) + toa.build(second)) == Parsed(Verdict.FOUND, first)


@given(clients)
def test_an_impossible_client_decides_too(client: Endpoint) -> None:
    """Who can put an option in front of the director's must not be able to choose."""
    assert toa.parse(toa.build(IMPOSSIBLE) + toa.build(client)) == Parsed(Verdict.CLIENT)


@given(clients, st.integers(0, 255))
def test_no_length_but_two_is_read(client: Endpoint, length: int) -> None:
    option = bytearray(toa.build(client).ljust(255, b"\1"))
    option[1] = length
    parsed = toa.parse(bytes(option))
    if length < 2:
        assert parsed.verdict is Verdict.MALFORMED
    elif length not in (toa.LENGTH_IPV4, toa.LENGTH_IPV6):
        assert parsed.verdict is not Verdict.FOUND


@given(clients, st.integers(1, 7))
def test_a_cut_option_is_malformed(client: Endpoint, bytes_left: int) -> None:
    assert toa.parse(toa.build(client)[:bytes_left]) == Parsed(Verdict.MALFORMED)


@given(clients)
def test_ipv4_clients_may_come_in_ipv6_form(client: Endpoint) -> None:
    if isinstance(client.address, IPv4Address):
        mapped = Endpoint(IPv6Address(f"::ffff:{client.address}"), client.port)
        assert toa.parse(toa.build(mapped)) == Parsed(Verdict.FOUND, client)


@given(st.binary(max_size=80), st.sets(st.integers(0, 255)))
def test_any_bytes_are_judged(segment: bytes, kinds: set[int]) -> None:
    parsed = toa.parse_header(segment, kinds)
    assert (parsed.client is not None) == (parsed.verdict is Verdict.FOUND)
    if parsed.client:
        assert parsed.client.can_be_client
        assert parsed.client.address.packed in segment


@given(st.binary(max_size=ROOM).filter(lambda options: len(options) % 4 == 0), st.binary(max_size=40))
def test_options_are_what_lies_in_the_header(options: bytes, payload: bytes) -> None:
    header = tcp_header((toa.TCP_HEADER + len(options)) // 4)
    assert toa.parse_header(header + options + payload) == toa.parse(options)


@given(st.integers(0, 4), st.binary(min_size=60, max_size=60))
def test_a_header_cannot_be_shorter_than_its_fixed_part(words: int, behind: bytes) -> None:
    assert toa.parse_header(tcp_header(words) + behind) == Parsed(Verdict.MALFORMED)
