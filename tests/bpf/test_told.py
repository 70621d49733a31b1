"""The tc programs write down when a client was told ahead of its TCP connection, and by what."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import pytest
from scapy.packet import Packet

from ipvsca.dataplane import LONG_AGO, UNKNOWN, DataPlane
from ipvsca.kernel.maps import ONLY
from ipvsca.kernel.programs import INGRESS_ETHERNET, Program
from ipvsca.wire.internet import PROTOCOL_TCP
from tests.bpf.announced_packets import EXAMPLE, framed
from tests.bpf.cases import LEARNT, REFUSED
from tests.bpf.ingress import Ingress

OVER_TCP = framed(replace(EXAMPLE, protocol=PROTOCOL_TCP))


@pytest.fixture
def ethernet(programs: Mapping[Program, int], plane: DataPlane) -> Ingress:
    return Ingress(programs[INGRESS_ETHERNET], plane)


@pytest.mark.parametrize(
    ("packet", "by"),
    [(LEARNT[0].packet, "by_syn_ns"), (OVER_TCP, "by_announcement_ns"), (framed(EXAMPLE), None)]
    + [(case.packet, None) for case in REFUSED],
    ids=["SYN", "announcement of TCP", "announcement of UDP"] + [case.sentence for case in REFUSED],
)
@pytest.mark.parametrize("before_ns", [UNKNOWN, LONG_AGO], ids=["unknown", "long ago"])
def test_who_told(ethernet: Ingress, plane: DataPlane, before_ns: int, packet: Packet, by: str | None) -> None:
    plane.say_told(before_ns)
    begun_ns = time.monotonic_ns()
    ethernet.feed(packet)
    told = plane.table("told").get(ONLY)
    for field, _ in told._fields_:
        written = getattr(told, field)
        assert written == before_ns % (1 << 64) if field != by else begun_ns <= written <= time.monotonic_ns()


def test_not_every_telling_is_written_down(ethernet: Ingress, plane: DataPlane) -> None:
    a_moment_ago_ns = time.monotonic_ns()
    plane.say_told(a_moment_ago_ns)
    ethernet.feed(LEARNT[0].packet)
    took_ns = time.monotonic_ns() - a_moment_ago_ns
    written = plane.table("told").get(ONLY).by_syn_ns
    assert written == a_moment_ago_ns or took_ns > 1_000_000_000 // 16
