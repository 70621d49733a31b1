"""bpf/announcement.h reads from every packet what ipvsca/wire/announcement.py, the reference, reads from it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection
from dataclasses import replace

import pytest

from ipvsca.dataplane import DataPlane
from ipvsca.settings import DEFAULTS
from ipvsca.wire import announcement
from ipvsca.wire.announcement import Verdict
from tests.bpf.announcements import Announcements, some_ends
from tests.bpf.probe import AnnouncementProbe
from tests.lab.checksum import checksum
from tests.vectors import AnnouncementVector, announcement_vectors

EVERY_WORD_OF_THE_BITMAP = (9, 63, 64, 127, 128, 191, 192, 255)
VECTORS = [pytest.param(vector, id=vector.sentence) for vector in announcement_vectors()]
EXAMPLE = announcement_vectors()[0].packet
ICMP = 20

pytestmark = pytest.mark.usefixtures("plane")


def with_right_sum(message: bytes) -> bytes:
    blank = message[:2] + bytes(2) + message[4:]
    return blank[:2] + checksum(blank).to_bytes(2) + blank[4:]


@pytest.mark.parametrize("vector", VECTORS)
def test_vector(announcement_probe: AnnouncementProbe, vector: AnnouncementVector) -> None:
    assert announcement_probe(vector.packet) == vector.expected


@pytest.mark.parametrize("vector", VECTORS)
def test_vector_cut_at_each_byte(announcement_probe: AnnouncementProbe, vector: AnnouncementVector) -> None:
    for length in range(len(vector.packet)):
        cut = vector.packet[:length]
        assert announcement_probe(cut) == announcement.parse(cut), f"cut at {length}"


@pytest.mark.parametrize(
    ("kinds", "seed", "times"),
    [(DEFAULTS.tcpopt_addr, 1, 200_000), ((77,), 2, 50_000), (EVERY_WORD_OF_THE_BITMAP, 3, 50_000)],
    ids=["default kinds", "one kind", "many kinds"],
)
def test_mutated_announcements(
    announcement_probe: AnnouncementProbe, plane: DataPlane, kinds: Collection[int], seed: int, times: int
) -> None:
    plane.apply(replace(DEFAULTS, tcpopt_addr=tuple(kinds)))
    seen: Counter[Verdict] = Counter()
    packets = Announcements(seed, kinds, some_ends(seed, 1000, 1000, 1000))
    for packet in itertools.islice(packets, times):
        expected = announcement.parse(packet, kinds)
        assert announcement_probe(packet) == expected, f"{packet.hex()} with kinds {kinds}"
        seen[expected.verdict] += 1
    assert min(seen[verdict] for verdict in Verdict) >= times // 50, seen


def test_every_value_of_every_byte(announcement_probe: AnnouncementProbe) -> None:
    """Of the ICMP message, whose checksum is right."""
    message = EXAMPLE[ICMP:]
    for at, value in itertools.product(range(len(message)), range(256)):
        changed = message[:at] + bytes([value]) + message[at + 1 :]
        packet = EXAMPLE[:ICMP] + with_right_sum(changed)
        assert announcement_probe(packet) == announcement.parse(packet), f"byte {at} is {value}"


def test_every_total_length(announcement_probe: AnnouncementProbe) -> None:
    for length in range(0x10000):
        header = EXAMPLE[:2] + length.to_bytes(2) + EXAMPLE[4:10]
        total = checksum(header + bytes(2) + EXAMPLE[12:ICMP])
        packet = header + total.to_bytes(2) + EXAMPLE[12:]
        verdict = announcement_probe(packet).verdict
        assert verdict is (Verdict.FOUND if length == announcement.LENGTH else Verdict.LENGTH), length


def test_every_checksum(announcement_probe: AnnouncementProbe) -> None:
    """Of 65536 for the IPv4 header and of as many for the ICMP message, one is right."""
    for at in (10, ICMP + 2):
        packets = (EXAMPLE[:at] + number.to_bytes(2) + EXAMPLE[at + 2 :] for number in range(0x10000))
        found = [packet for packet in packets if announcement_probe(packet).verdict is not Verdict.CHECKSUM]
        assert found == [EXAMPLE]


def test_each_kind_is_known_from_every_other(announcement_probe: AnnouncementProbe, plane: DataPlane) -> None:
    parsed = announcement.parse(EXAMPLE).announcement
    assert parsed
    packets = {kind: announcement.build(replace(parsed, kind=kind)) for kind in range(256)}
    for configured in range(9, 256):
        plane.apply(replace(DEFAULTS, tcpopt_addr=(configured,)))
        found = [kind for kind, packet in packets.items() if announcement_probe(packet).verdict is Verdict.FOUND]
        assert found == [configured]
