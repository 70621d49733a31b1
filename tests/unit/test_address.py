"""Addresses and endpoints: text outside, 16 bytes inside, and who can be a client."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsca.address import V4_MAPPED, Address, Endpoint, from_mapped, to_mapped

addresses = st.ip_addresses()
ports = st.integers(0, 0xFFFF)


@given(addresses, ports)
def test_an_endpoint_is_read_as_it_is_written(address: Address, port: int) -> None:
    endpoint = Endpoint(address, port)
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("198.51.100.7:80", "198.51.100.7", 80),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("255.255.255.255:65535", "255.255.255.255", 65535),
        ("[2001:db8::7]:80", "2001:db8::7", 80),
        ("[2001:0DB8:0:0::7]:80", "2001:db8::7", 80),
        ("[::]:0", "::", 0),
        ("[::ffff:198.51.100.7]:80", "::ffff:198.51.100.7", 80),
    ],
)
def test_texts_of_endpoints(text: str, address: str, port: int) -> None:
    assert Endpoint.parse(text) == Endpoint(ip_address(address), port) == Endpoint.of(address, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "80",
        ":80",
        "198.51.100.7",
        "198.51.100.7:",
        "198.51.100.7:http",
        "198.51.100.7:-1",
        "198.51.100.7:+80",
        "198.51.100.7: 80",
        "198.51.100.7:65536",
        "198.51.100.256:80",
        "198.51.100:80",
        "[198.51.100.7]:80",
        "2001:db8::7",
        "2001:db8::7:80",
        "[2001:db8::7]",
        "[2001:db8::7]:",
        "[2001:db8::7:80",
        "2001:db8::7]:80",
        "[[2001:db8::7]]:80",
        "[]:80",
        "localhost:80",
    ],
)
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Endpoint.parse(text)


@given(st.text(max_size=30))
def test_any_text_is_an_endpoint_or_refused(text: str) -> None:
    try:
        endpoint = Endpoint.parse(text)
    except ValueError:
        return
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize("port", [-1, 65536])
def test_ports_out_of_range(port: int) -> None:
    with pytest.raises(ValueError, match="port"):
        Endpoint.of("198.51.100.7", port)


@given(addresses)
def test_what_is_mapped_is_found_again(address: Address) -> None:
    packed = to_mapped(address)
    assert len(packed) == 16
    assert from_mapped(packed) == (getattr(address, "ipv4_mapped", None) or address)


@given(st.binary(min_size=16, max_size=16))
def test_16_bytes_have_one_meaning(packed: bytes) -> None:
    assert to_mapped(from_mapped(packed)) == packed


@pytest.mark.parametrize(
    ("address", "packed"),
    [
        ("198.51.100.7", "00000000 00000000 0000ffff c6336407"),
        ("2001:db8::7", "20010db8 00000000 00000000 00000007"),
        ("::198.51.100.7", "00000000 00000000 00000000 c6336407"),
    ],
)
def test_mapped_forms(address: str, packed: str) -> None:
    assert to_mapped(ip_address(address)) == bytes.fromhex(packed)
    assert from_mapped(bytes.fromhex(packed)) == ip_address(address)


def test_ipv4_lies_in_the_mapped_prefix() -> None:
    assert from_mapped(to_mapped(IPv4Address("198.51.100.7"))) == IPv4Address("198.51.100.7")
    assert IPv6Address(to_mapped(IPv4Address("198.51.100.7"))) in V4_MAPPED


@pytest.mark.parametrize("length", [0, 4, 15, 17])
def test_another_number_of_bytes_is_no_address(length: int) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        from_mapped(bytes(length))


@pytest.mark.parametrize(
    "address",
    [
        "1.0.0.0",
        "10.0.0.1",
        "126.255.255.255",
        "128.0.0.0",
        "169.254.0.1",
        "192.168.0.1",
        "223.255.255.255",
        "240.0.0.0",
        "255.255.255.254",
        "::2",
        "::198.51.100.7",
        "2001:db8::7",
        "fc00::1",
        "fe80::1",
        "feff::",
    ],
)
def test_who_can_be_a_client(address: str) -> None:
    assert Endpoint.of(address, 1).can_be_client
    assert Endpoint.of(address, 65535).can_be_client
    assert not Endpoint.of(address, 0).can_be_client


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.0.0.1",
        "0.255.255.255",
        "127.0.0.0",
        "127.0.0.1",
        "127.255.255.255",
        "224.0.0.0",
        "239.255.255.255",
        "255.255.255.255",
        "::",
        "::1",
        "ff00::",
        "ff02::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ],
)
def test_who_cannot_be_a_client(address: str) -> None:
    assert not Endpoint.of(address, 1234).can_be_client
