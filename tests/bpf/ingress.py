"""One of the real tc programs, fed whole packets: what it learnt, counted and changed. It must do nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from scapy.packet import Packet

from ipvsca.address import Endpoint
from ipvsca.dataplane import DataPlane
from ipvsca.kernel import layout
from tests.bpf import flows
from tests.bpf.testrun import TC_ACT_UNSPEC, TestRun

COARSE_CLOCK = 6
"""CLOCK_MONOTONIC_COARSE of linux/time.h: the programs' clock where the kernel has it for them."""


def coarse_ns() -> int:
    """The time as the programs see it, or a tick before."""
    return time.clock_gettime_ns(COARSE_CLOCK)


@dataclass(frozen=True)
class Handshake:
    """What tells one handshake from all others."""

    director: Endpoint
    server: Endpoint
    isn: int


@dataclass(frozen=True)
class Outcome:
    """All that packets have left behind: clients learnt, by how much which counters grew, the entries for flows."""

    learnt: Mapping[Handshake, Endpoint | None] = field(default_factory=dict)
    """None where SYNs of one handshake have named different clients."""
    counted: Mapping[str, int] = field(default_factory=dict)
    flows: Mapping[flows.Key, flows.Told] = field(default_factory=dict)
    changed: tuple[bytes, ...] = ()
    """Packets that did not leave the program as they came, as they left it."""


class Ingress:
    """A loaded program (its descriptor) and the maps it writes."""

    def __init__(self, program: int, plane: DataPlane) -> None:
        self._run = TestRun(program)
        self._plane = plane

    def feed(self, *packets: Packet | bytes) -> Outcome:
        """Run the program on each packet, and forget before and afterwards what it learnt.

        Fails where it decides anything about a packet, or writes an entry that is not as it has to be.
        """
        changed: list[bytes] = []
        outcome = outcome_of(lambda: changed.extend(self.run(*packets)), self._plane)
        return replace(outcome, changed=tuple(changed))

    def run(self, *packets: Packet | bytes) -> list[bytes]:
        """Run the program on each packet, and give those it changed; what it learnt before and learns now stays."""
        changed = []
        for packet in map(bytes, packets):
            ran = self._run(packet)
            assert ran.verdict == TC_ACT_UNSPEC, f"decided {ran.verdict} on {packet.hex()}"
            if ran.packet != packet:
                changed.append(ran.packet)
        return changed


def outcome_of(action: Callable[[], object], plane: DataPlane) -> Outcome:
    """What the programs learn and count during an action; it is forgotten afterwards."""
    _forget(plane)  # what a test that failed has left
    before, begun_ns = counts(plane), coarse_ns()
    action()
    ended_ns, after = time.monotonic_ns(), counts(plane)
    during = range(begun_ns, ended_ns + 1)
    outcome = Outcome(_handshakes(plane, during), grown(before, after), _flows(plane, during))
    _forget(plane)
    return outcome


def counts(plane: DataPlane) -> dict[str, int]:
    return {name: count.total for name, count in plane.counts().items()}


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """By how much, of the counters that have grown."""
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def _forget(plane: DataPlane) -> None:
    plane.forget_handshakes(time.monotonic_ns() + 1)
    flows.forget(plane)


def _handshakes(plane: DataPlane, during: range) -> dict[Handshake, Endpoint | None]:
    learnt: dict[Handshake, Endpoint | None] = {}
    for handshake, client in plane.handshakes():
        assert client.learnt_from == layout.LearntFrom.SYN
        _check_client(client, during)
        assert client.is_doubtful in (0, 1)
        told = None if client.is_doubtful else client.endpoint
        learnt[Handshake(handshake.director, handshake.server, handshake.isn)] = told
    return learnt


def _flows(plane: DataPlane, during: range) -> dict[flows.Key, flows.Told]:
    told = {}
    for key, entry in flows.stored(plane):
        _check_client(entry.client, during)
        assert not entry.client.is_doubtful
        assert entry.identity == flows.identity(key)
        assert entry.used_ns in during
        assert entry.client.is_ambiguous in (0, 1)
        assert not any((entry.client.has_reply, entry.client.is_shared))
        told[key] = flows.says(entry)
    return told


def _check_client(client: layout.Client, during: range) -> None:
    assert client.learnt_ns in during
    assert not client.pad
