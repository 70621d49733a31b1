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

IPV4_AT_ALL = [
    pytest.param(vector, id=vector.sentence)
    for vector in announcement_vectors()
    if len(vector.packet) >= 20 and vector.packet[0] >> 4 == 4
]  # the device looks at the version, to know what it receives


@pytest.fixture(scope="module")
def tun(programs: Mapping[Program, int], pins: Path) -> Iterator[Tun]:
    with sandbox.cgroup() as group, Namespace(group) as namespace, devices.tun(namespace, programs, pins) as tun:
        yield tun


@pytest.mark.parametrize("vector", IPV4_AT_ALL)
def test_vector(tun: Tun, plane: DataPlane, vector: AnnouncementVector) -> None:
    assert outcome_of(partial(tun.receive, vector.packet), plane) == outcome_for(vector.expected)
