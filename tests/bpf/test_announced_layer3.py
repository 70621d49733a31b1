"""The tc program for devices without a link layer makes of an announcement what the one for Ethernet does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from ipvsca.dataplane import DataPlane
from ipvsca.kernel.programs import Program
from tests.bpf import devices
from tests.bpf.announced_packets import outcome_for
from tests.bpf.devices import Tun
from tests.bpf.ingress import outcome_of
from tests.lab import sandbox
from tests.lab.namespace import Namespace
from tests.vectors import AnnouncementVector, announcement_vectors

SOURCE, LOOPBACK = 12, 127  # where an IPv4 header has it, and how 127.0.0.1 begins

IPV4_AT_ALL = [
    pytest.param(vector, id=vector.sentence)
    for vector in announcement_vectors()
    if len(vector.packet) >= 20 and vector.packet[0] >> 4 == 4 and vector.packet[SOURCE] != LOOPBACK
]  # the device looks at the version, to know what it receives


@pytest.fixture(scope="module")
def tun(programs: Mapping[Program, int], pins: Path) -> Iterator[Tun]:
    with sandbox.cgroup() as group, Namespace(group) as namespace, devices.tun(namespace, programs, pins) as tun:
        yield tun


@pytest.mark.parametrize("vector", IPV4_AT_ALL)
def test_vector(tun: Tun, plane: DataPlane, vector: AnnouncementVector) -> None:
    assert outcome_of(partial(tun.receive, vector.packet), plane) == outcome_for(vector.expected)


def test_loopback_is_not_believed_by_wire(tun: Tun, plane: DataPlane) -> None:
    """The kernel drops such a packet, but only after the program has seen it. On `lo` the vector is believed."""
    (packet,) = (each.packet for each in announcement_vectors() if each.sentence == "from and to this host")
    before = plane.counts()["refused_announcement_untrusted"].total
    tun.receive(packet)
    assert plane.counts()["refused_announcement_untrusted"].total == before + 1
    assert list(plane.flows()) == []
