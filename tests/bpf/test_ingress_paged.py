"""Packets of which a part, headers included, lies outside the skb's linear data, as some drivers deliver them.

Test runs know no such packets. A tap device makes them: of a packet longer than a page, the linear part is as long as
whoever writes the packet says in the header that virtual machines put in front (virtio_net_hdr).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
from scapy.layers.inet import TCP
from scapy.layers.l2 import Dot1AD, Dot1Q
from scapy.packet import Packet, Padding, Raw

from ipvsca.dataplane import DataPlane
from ipvsca.kernel.programs import Program
from ipvsca.wire import announcement, toa
from tests.bpf import devices
from tests.bpf.announced_packets import EXAMPLE, TAGS, learnt, refused, tagged
from tests.bpf.cases import ATOMIC, DESTINATION, HOP_BY_HOP, LEARNT_V4, LEARNT_V6, at
from tests.bpf.devices import Tap
from tests.bpf.ingress import Outcome, outcome_of
from tests.bpf.packets import FRAME, V4, V6, syn_v4, syn_v6
from tests.lab import sandbox
from tests.lab.namespace import Namespace
from tests.vectors import announcement_vectors

ETHERNET = 14
MORE_THAN_A_PAGE = bytes(os.sysconf("SC_PAGE_SIZE"))


@pytest.fixture(scope="module")
def tap(programs: Mapping[Program, int], pins: Path) -> Iterator[Tap]:
    with sandbox.cgroup() as group, Namespace(group) as namespace, devices.tap(namespace, programs, pins) as tap:
        yield tap


@pytest.mark.parametrize(
    ("packet", "outcome"),
    [
        pytest.param(FRAME / V4 / syn_v4(payload=MORE_THAN_A_PAGE), LEARNT_V4, id="v4"),
        pytest.param(FRAME / V6 / syn_v6(payload=MORE_THAN_A_PAGE), LEARNT_V6, id="v6"),
        pytest.param(
            FRAME / at(V4, options=[b"\1" * 40]) / syn_v4(payload=MORE_THAN_A_PAGE), LEARNT_V4, id="v4 with options"
        ),
        pytest.param(
            FRAME / V6 / HOP_BY_HOP / DESTINATION / ATOMIC / syn_v6(payload=MORE_THAN_A_PAGE),
            LEARNT_V6,
            id="v6 with extension headers",
        ),
        pytest.param(
            FRAME / Dot1AD(vlan=7) / Dot1Q(vlan=8) / V4 / syn_v4(payload=MORE_THAN_A_PAGE), LEARNT_V4, id="VLAN tags"
        ),
    ],
)
def test_wherever_the_linear_part_ends(tap: Tap, plane: DataPlane, packet: Packet, outcome: Outcome) -> None:
    frame = bytes(packet)
    end = frame.index(bytes(packet[TCP])[: toa.TCP_HEADER]) + packet[TCP].dataofs * 4
    for linear in range(ETHERNET, end + 2):
        assert outcome_of(partial(tap.receive_in_parts, frame, linear), plane) == outcome, f"{linear} bytes are linear"


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS.keys())
def test_an_announcement_wherever_the_linear_part_ends(tap: Tap, plane: DataPlane, tags: tuple[Packet, ...]) -> None:
    front = tagged(at(FRAME, dst=devices.ADDRESS), *tags)
    frame = bytes(front / Raw(announcement.build(EXAMPLE)) / Padding(MORE_THAN_A_PAGE))
    for linear in range(ETHERNET, len(front) + announcement.LENGTH + 2):
        assert outcome_of(partial(tap.receive_in_parts, frame, linear), plane) == learnt(EXAMPLE), linear


def test_an_announcement_with_ip_options_wherever_the_linear_part_ends(tap: Tap, plane: DataPlane) -> None:
    (packet,) = (vector.packet for vector in announcement_vectors() if vector.sentence == "40 bytes of options")
    frame = bytes(at(FRAME, dst=devices.ADDRESS, type=0x0800) / Raw(packet) / Padding(MORE_THAN_A_PAGE))
    for linear in range(ETHERNET, ETHERNET + len(packet) + 2):
        assert outcome_of(partial(tap.receive_in_parts, frame, linear), plane) == refused("length"), linear


def test_an_announcement_to_another_host(tap: Tap, plane: DataPlane) -> None:
    frame = bytes(at(FRAME, dst="02:00:00:00:00:03", type=0x0800) / Raw(announcement.build(EXAMPLE)))
    receive = partial(tap.receive_in_parts, frame + MORE_THAN_A_PAGE, len(frame))
    assert outcome_of(receive, plane) == refused("host")
