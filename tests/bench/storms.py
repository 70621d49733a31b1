"""Packets of one kind from many flows at once, from LIPs that nobody has: storm.c, and what it leaves with ipvsca."""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Address

from tests.bench.stage import RIP, Stage
from tests.kernel_state import wait_until

KNOWN_LIP = IPv4Address("10.91.0.1")
"""The first LIP of flows that are announced."""
UNKNOWN_LIP = IPv4Address("10.91.128.1")
"""The first of those that are not."""
FIRST_LPORT = 1024
UDP_PORT = 53
NO_END_S = 600


class Kind(Enum):
    """The packets there are."""

    DATAGRAM = "datagram"
    ANNOUNCEMENT = "announcement"
    SEGMENT = "segment"
    SYN = "syn"
    SYN_WITH_OPTION = "syn-option"
    SYN_FLOOD = "syn-flood"
    """The same, and the kernel answers it."""
    IPO = "ipo"
    OPP = "opp"


def storm(stage: Stage, kind: Kind, flows: int, seconds: int, lip: IPv4Address = KNOWN_LIP) -> int:
    """As many packets as can be sent in so many seconds; how many that were."""
    return int(stage.ask(_command(stage, kind, flows, lip, seconds), seconds))


def announce(stage: Stage, flows: int, lip: IPv4Address = KNOWN_LIP) -> None:
    """Announce each flow once, as directors do. Raises RuntimeError where ipvsca has not learnt them all."""
    before = _learnt(stage)
    flood(stage, Kind.ANNOUNCEMENT, flows, lip, UDP_PORT)
    if not wait_until(lambda: _learnt(stage) == before + flows):
        raise RuntimeError(f"{_learnt(stage) - before} of {flows} announcements were learnt: {stage.ipvsca.counts()}")


def flood(stage: Stage, kind: Kind, flows: int, lip: IPv4Address, port: int) -> None:
    """A packet of each of so many flows to this port, as fast as can be."""
    stage.ask([*_command(stage, kind, flows, lip, NO_END_S, port=port), str(flows)], NO_END_S)


def _command(
    stage: Stage, kind: Kind, flows: int, lip: IPv4Address, seconds: int, *, port: int = UDP_PORT
) -> list[str]:
    return list(map(str, [stage.program("storm"), RIP, port, kind.value, flows, lip, seconds]))


def _learnt(stage: Stage) -> int:
    return stage.ipvsca.counts()["announcement_learnt"]
