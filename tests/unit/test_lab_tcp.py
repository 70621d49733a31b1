"""Changes to a TCP segment, each compared with the segment that scapy builds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from ipvsca.address import Endpoint
from ipvsca.wire import toa
from tests.lab import addresses as a
from tests.lab import tcp
from tests.lab.connections import Path

OPTION_V4 = toa.build(Endpoint(a.CLIENTS_V4[0], 40000))
OPTION_V6 = toa.build(Endpoint(a.CLIENTS_V6[0], 40000))
TIMESTAMP = b"\x01\x01\x08\x0a" + bytes(range(8))
SYN_OPTIONS = bytes.fromhex("020405b4 0402 080a 01020304 00000000 01 030307")


def segment(
    source: Endpoint, destination: Endpoint, *, options: bytes = b"", payload: bytes = b"", flags: str = "A"
) -> bytearray:
    """The segment with the checksum it has between these two, as scapy computes it."""
    network = IPv6 if source.address.version == 6 else IP
    header = TCP(sport=source.port, dport=destination.port, seq=1000, ack=2000, flags=flags, window=501)
    header.dataofs = (toa.TCP_HEADER + len(options)) // 4
    packet = network(src=str(source.address), dst=str(destination.address)) / header / Raw(options + payload)
    return bytearray(bytes(network(bytes(packet))[TCP]))


CLIENT_V4, VIP_V4 = Endpoint(a.CLIENTS_V4[0], 40000), Endpoint(a.VIP_V4, 80)
CLIENT_V6, VIP_V6 = Endpoint(a.CLIENTS_V6[0], 40000), Endpoint(a.VIP_V6, 80)
LOCAL_V4, REAL_V4 = Endpoint(a.LIPS_V4[0], 1024), Endpoint(a.RIPS_V4[0], 8000)
LOCAL_V6, REAL_V6 = Endpoint(a.LIPS_V6[0], 1024), Endpoint(a.RIPS_V6[0], 8000)
OUTSIDE = pytest.mark.parametrize("outside", [(CLIENT_V4, VIP_V4), (CLIENT_V6, VIP_V6)], ids=["from v4", "from v6"])
INSIDE = pytest.mark.parametrize("inside", [(LOCAL_V4, REAL_V4), (LOCAL_V6, REAL_V6)], ids=["to v4", "to v6"])
Ends = tuple[Endpoint, Endpoint]


@OUTSIDE
@INSIDE
@pytest.mark.parametrize("payload", [b"", b"odd", bytes(1000)], ids=["empty", "odd", "zeros"])
def test_readdressed_within_and_between_families(outside: Ends, inside: Ends, payload: bytes) -> None:
    changed = segment(*outside, payload=payload)
    path = Path.between(*inside)
    tcp.readdress(changed, path.ports, path.sum - Path.between(*outside).sum)
    assert changed == segment(*inside, payload=payload)


@given(ports=st.tuples(*[st.integers(1, 65535)] * 4), payload=st.binary(max_size=64))
def test_readdressed_whatever_the_numbers(ports: tuple[int, int, int, int], payload: bytes) -> None:
    outside = (Endpoint(a.CLIENTS_V4[0], ports[0]), Endpoint(a.VIP_V4, ports[1]))
    inside = (Endpoint(a.LIPS_V4[0], ports[2]), Endpoint(a.RIPS_V4[0], ports[3]))
    changed = segment(*outside, payload=payload)
    tcp.readdress(changed, Path.between(*inside).ports, Path.between(*inside).sum - Path.between(*outside).sum)
    assert changed == segment(*inside, payload=payload)


def test_a_damaged_segment_stays_damaged() -> None:
    changed = segment(CLIENT_V4, VIP_V4, payload=b"payload")
    changed[-1] ^= 1
    path = Path.between(LOCAL_V4, REAL_V4)
    tcp.readdress(changed, path.ports, path.sum - Path.between(CLIENT_V4, VIP_V4).sum)
    whole = segment(LOCAL_V4, REAL_V4, payload=b"payload")
    assert changed[:-1] == whole[:-1]
    assert changed != whole


@pytest.mark.parametrize("option", [OPTION_V4, OPTION_V6], ids=["length 8", "length 20"])
@pytest.mark.parametrize("before", [b"", TIMESTAMP, SYN_OPTIONS], ids=["no others", "timestamp", "of a SYN"])
@pytest.mark.parametrize("payload", [b"", b"odd"], ids=["empty", "odd"])
def test_an_option_comes_first_or_last(option: bytes, before: bytes, payload: bytes) -> None:
    plain = segment(LOCAL_V4, REAL_V4, options=before, payload=payload)
    first = segment(LOCAL_V4, REAL_V4, options=option + before, payload=payload)
    last = segment(LOCAL_V4, REAL_V4, options=before + option, payload=payload)
    assert tcp.with_option(plain, option, first=True) == first
    assert tcp.with_option(plain, option, first=False) == last


@pytest.mark.parametrize(("before", "fits"), [(32, True), (36, False), (40, False)])
def test_40_bytes_of_options_are_all_there_is(before: int, fits: bool) -> None:
    plain = segment(LOCAL_V4, REAL_V4, options=bytes([toa.NO_OPERATION]) * before)
    if fits:
        assert tcp.header_length(tcp.with_option(plain, OPTION_V4, first=True)) == 60
    else:
        with pytest.raises(tcp.NoRoom):
            tcp.with_option(plain, OPTION_V4, first=True)


@pytest.mark.parametrize(
    ("options", "lowered"),
    [
        pytest.param("020405b4", "020405ac", id="alone"),
        pytest.param("0402 020405b4 0101", "0402 020405ac 0101", id="behind another option"),
        pytest.param("01 020405b4 010101", "01 020405ac 010101", id="at an odd place"),
        pytest.param("020400ff", "020400f7", id="one byte changes"),
        pytest.param("02040004", "02040000", id="never below 0"),
        pytest.param("04020101", "04020101", id="none announced"),
        pytest.param("0002 020405b4 0000", "0002 020405b4 0000", id="behind the end of the list"),
        pytest.param("0203ff01", "0203ff01", id="of a wrong length"),
        pytest.param("01010204", "01010204", id="cut by the header's end"),
        pytest.param("0500 020405b4 0101", "0500 020405b4 0101", id="behind an option of length 0"),
        pytest.param("01010102", "01010102", id="a kind without a length"),
    ],
)
def test_the_mss_is_lowered(options: str, lowered: str) -> None:
    syn_ack = segment(REAL_V4, LOCAL_V4, options=bytes.fromhex(options), flags="SA")
    expected = segment(REAL_V4, LOCAL_V4, options=bytes.fromhex(lowered), flags="SA")
    assert tcp.with_lower_mss(syn_ack, 8) == expected


@pytest.mark.parametrize(
    ("flags", "payload", "bare"),
    [
        ("A", b"", True),
        ("PA", b"", True),
        ("A", b"x", False),
        ("FA", b"", False),
        ("SA", b"", False),
        ("RA", b"", False),
    ],
)
def test_a_bare_ack(flags: str, payload: bytes, bare: bool) -> None:
    assert tcp.is_bare_ack(segment(CLIENT_V4, VIP_V4, options=TIMESTAMP, flags=flags, payload=payload)) == bare


def test_numbers_are_sequence_and_acknowledgement() -> None:
    assert tcp.numbers(segment(CLIENT_V4, VIP_V4)) == (1000, 2000)


def test_a_whole_header_is_needed() -> None:
    whole = segment(CLIENT_V4, VIP_V4, options=TIMESTAMP)
    assert tcp.is_whole(whole)
    assert not any(tcp.is_whole(whole[:length]) for length in range(len(whole)))
    whole[toa.DATA_OFFSET] = 4 << 4
    assert not tcp.is_whole(whole)
