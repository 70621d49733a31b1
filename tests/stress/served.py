"""Whom a server took its clients for, and where somebody was not shown, what may tell why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.records import Judged
from tests.bench.stage import Stage
from tests.lab.namespace import Namespace
from tests.rig import growth

TX_DROPPED = 11  # of the figures in a row of /proc/net/dev
BACKLOG_DROPPED = 1  # of the hexadecimal figures in a row of /proc/net/softnet_stat
TELLING = re.compile("Drop|Overflow|Timeout|Retrans|Fail|Prune|Errors|Syncookies")
"""Network counters that grow where something is lost, or is not as usual."""


@dataclass
class Served:
    """Connections and datagrams, judged apart."""

    connections: Judged = field(default_factory=Judged)
    datagrams: Judged = field(default_factory=Judged)

    @property
    def both(self) -> Judged:
        both = Judged()
        both.add(self.connections)
        both.add(self.datagrams)
        return both


@contextmanager
def all_shown(stage: Stage, meanwhile: str) -> Iterator[Served]:
    """Every client that is judged inside the block has to be seen right. ipvsca is loaded.

    Raises AssertionError where one was not. It tells which kind, and which of our counters and of the kernel's losses
    have grown.
    """
    served, ours, losses = Served(), stage.ipvsca.counts(), _losses(stage)
    yield served
    assert served.both.is_clean, (
        f"{meanwhile}: {served}, ipvsca: {growth(ours, stage.ipvsca.counts())}, "
        f"the kernel: {growth(losses, _losses(stage))}"
    )


def network_counts(namespace: Namespace) -> dict[str, int]:
    """The kernel's counters of a network namespace, as nstat names them."""
    counts: dict[str, int] = {}
    for name in ("snmp", "netstat"):
        rows = Path(f"/proc/{namespace.pid}/net/{name}").read_text().splitlines()
        for names, values in zip(rows[::2], rows[1::2], strict=True):
            (protocol, *fields), (_, *figures) = names.split(), values.split()
            counts |= {protocol.rstrip(":") + of: int(figure) for of, figure in zip(fields, figures, strict=True)}
    return counts


def dropped_by_link(namespace: Namespace) -> int:
    """Packets that it has sent by eth0 and that the kernel has dropped on the way to the other end."""
    rows = Path(f"/proc/{namespace.pid}/net/dev").read_text().splitlines()
    (figures,) = (row.split(":")[1].split() for row in rows if row.strip().startswith("eth0:"))
    return int(figures[TX_DROPPED])


def _losses(stage: Stage) -> dict[str, int]:
    rows = Path("/proc/net/softnet_stat").read_text().splitlines()
    return {
        **{name: count for name, count in network_counts(stage.server).items() if TELLING.search(name)},
        "dropped on the way to the server": dropped_by_link(stage.client),
        "dropped on the way to the client": dropped_by_link(stage.server),
        "dropped by the backlog of any CPU": sum(int(row.split()[BACKLOG_DROPPED], 16) for row in rows),
    }
