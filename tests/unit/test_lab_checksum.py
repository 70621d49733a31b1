"""The lab's checksum arithmetic against scapy's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import checksum as scapy_checksum

from tests.lab.checksum import adjusted, checksum, ones_sum

packets = st.binary(min_size=1, max_size=1500).filter(any)
words = st.binary(min_size=2, max_size=40).filter(lambda data: len(data) % 2 == 0)


@given(packets)
def test_a_checksum_is_scapys(packet: bytes) -> None:
    assert checksum(packet) == scapy_checksum(packet)


@given(old=words, new=words, rest=packets)
def test_an_adjusted_checksum_is_the_one_computed_anew(old: bytes, new: bytes, rest: bytes) -> None:
    assert adjusted(checksum(old + rest), ones_sum(old), ones_sum(new)) == checksum(new + rest)


def test_a_sum_of_all_ones_is_the_checksum_zero() -> None:
    assert checksum(b"\xff\xff") == scapy_checksum(b"\xff\xff") == 0
