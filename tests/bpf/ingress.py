"""One of the real tc programs, fed whole packets: what it learnt and counted. It must do nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from scapy.packet import Packet

from ipvsca.address import Endpoint
from ipvsca.dataplane import DataPlane
from ipvsca.kernel import layout
from tests.bpf.testrun import TC_ACT_UNSPEC, TestRun


@dataclass(frozen=True)
class Handshake:
    """What tells one handshake from all others."""

    director: Endpoint
    server: Endpoint
    isn: int


@dataclass(frozen=True)
class Outcome:
    """All that packets have left behind: clients learnt, and by how much which counters grew."""

    learnt: Mapping[Handshake, Endpoint] = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)


class Ingress:
    """A loaded program (its descriptor) and the maps it writes."""

    def __init__(self, program: int, plane: DataPlane) -> None:
        self._run = TestRun(program)
        self._plane = plane

    def feed(self, *packets: Packet | bytes) -> Outcome:
        """Run the program on each packet, and forget afterwards what it learnt.

        Fails where it decides anything about a packet, changes one, or writes an entry that is not as it has to be.
        """
        return outcome_of(lambda: self._run_on(*map(bytes, packets)), self._plane)

    def _run_on(self, *packets: bytes) -> None:
        for packet in packets:
            ran = self._run(packet)
            assert ran.verdict == TC_ACT_UNSPEC, f"decided {ran.verdict} on {packet.hex()}"
            assert ran.packet == packet, f"changed {packet.hex()}"


def outcome_of(action: Callable[[], None], plane: DataPlane) -> Outcome:
    """What the programs learn and count during an action; it is forgotten afterwards."""
    plane.forget_handshakes(time.monotonic_ns())  # what a test that failed has left
    before, begun_ns = _counts(plane), time.monotonic_ns()
    action()
    ended_ns, after = time.monotonic_ns(), _counts(plane)
    learnt = {}
    for handshake, client in plane.handshakes():
        assert client.learnt_from == layout.LearntFrom.SYN
        assert begun_ns <= client.learnt_ns <= ended_ns
        assert not any(client.pad)
        learnt[Handshake(handshake.director, handshake.server, handshake.isn)] = client.endpoint
    plane.forget_handshakes(ended_ns + 1)
    return Outcome(learnt, {name: after[name] - before[name] for name in after if after[name] != before[name]})


def _counts(plane: DataPlane) -> dict[str, int]:
    return {name: count.total for name, count in plane.counts().items()}
