"""What is open through each director at this moment. The counters do not tell directors apart; the tables do."""

from __future__ import annotations

import ctypes
from collections import Counter
from dataclasses import dataclass

from ipvsca.address import Address, from_mapped
from ipvsca.dataplane import DataPlane
from ipvsca.kernel import layout
from ipvsca.kernel.sockets import restored_connections

_KEY = ctypes.sizeof(layout.FlowKey)
_VALUE = ctypes.sizeof(layout.Learnt)
_LIP = slice(layout.FlowKey.lip.offset, layout.FlowKey.lip.offset + layout.FlowKey.lip.size)


@dataclass(frozen=True)
class Director:
    """One LIP: TCP connections of this network namespace that have their client from it, flows in the table."""

    address: Address
    connections: int
    flows: int


def directors(plane: DataPlane) -> list[Director]:
    """The busiest first. Goes through all sockets and flows: a million take about a second. Raises Problem."""
    connections = Counter(each.director.address for each in restored_connections(plane.table("clients").fd))
    flows = _flows(plane)
    found = [Director(address, connections[address], flows[address]) for address in connections | flows]
    return sorted(found, key=lambda each: (-each.connections - each.flows, str(each.address)))


def _flows(plane: DataPlane) -> Counter[Address]:
    """Slices of bytes, because a loop over a million structures takes seconds."""
    found: Counter[bytes] = Counter()
    for keys, values in plane.table("flows").batches():
        is_ambiguous = values[layout.IS_AMBIGUOUS_AT :: _VALUE]
        found.update(
            keys[at + _LIP.start : at + _LIP.stop]
            for at, leads_to_others in zip(range(0, len(keys), _KEY), is_ambiguous, strict=True)
            if not leads_to_others
        )
    return Counter({from_mapped(lip): count for lip, count in found.items()})
