"""Ageing: take out of the tables what is past its time, and account for what the kernel dropped to make room.

Nothing depends on it but memory and tidy lists: the programs judge an entry's age themselves.
"""

from __future__ import annotations

import array
import ctypes
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ipvsca.dataplane import NANOSECONDS, DataPlane
from ipvsca.kernel import layout
from ipvsca.kernel.maps import ONLY
from ipvsca.settings import Settings
from ipvsca.wire.internet import PROTOCOL_TCP, PROTOCOL_UDP

_KEY = ctypes.sizeof(layout.FlowKey)
_VALUE = ctypes.sizeof(layout.Learnt)
_WORD = 8  # bytes of an item of array type Q


@dataclass
class Sweeps:
    """What the sweeps of this process have been."""

    count: int = 0
    seconds: float = 0.0
    """How long all of them took."""
    last_s: float | None = None
    """When the last one ended, in seconds since the epoch; None before the first."""

    def sweep(self, plane: DataPlane, now_ns: int) -> None:
        """The next one."""
        begun = time.monotonic()
        sweep(plane, now_ns)
        self.count += 1
        self.seconds += time.monotonic() - begun
        self.last_s = time.time()


def sweep(plane: DataPlane, now_ns: int) -> None:
    """Take out what is past its time at `now_ns` (of the programs' clock)."""
    settings = plane.settings()
    plane.forget_handshakes(now_ns - settings.tcp_timeout * NANOSECONDS)
    swept = plane.swept()
    known = plane.counts()["flows_new"].total  # before the scan, so that what comes meanwhile is not taken for dropped
    present, expired = _sweep_flows(plane, settings, now_ns)
    swept.expired += expired
    left = plane.counts()["flows_taken_over"].total + swept.expired
    swept.evicted = max(swept.evicted, known - left - present)
    plane.table("swept").put(ONLY, swept)


def _sweep_flows(plane: DataPlane, settings: Settings, now_ns: int) -> tuple[int, int]:
    """How many flows there are after it, and how many were taken out."""
    present = expired = 0
    oldest_ns = {
        PROTOCOL_TCP: now_ns - settings.tcp_timeout * NANOSECONDS,
        PROTOCOL_UDP: now_ns - settings.udp_timeout * NANOSECONDS,
    }
    for keys, values in plane.table("flows").batches():
        is_ambiguous = values[layout.IS_AMBIGUOUS_AT :: _VALUE]
        present += len(is_ambiguous) - sum(is_ambiguous)
        for index in _dead(keys, values, oldest_ns):
            key = layout.FlowKey.from_buffer_copy(keys, index * _KEY)
            if _remove(plane, key, oldest_ns) and not is_ambiguous[index]:
                expired += 1
    return present - expired, expired


def _dead(keys: bytes, values: bytes, oldest_ns: dict[int, int]) -> Iterator[int]:
    """The indices of dead entries. Slices, because a loop over a million structures takes seconds."""
    protocols = keys[layout.FlowKey.protocol.offset :: _KEY]
    used_ns = array.array("Q", values)[layout.Learnt.used_ns.offset // _WORD :: _VALUE // _WORD]
    if used_ns and min(used_ns) > max(oldest_ns.values()):
        return
    for index, (protocol, used) in enumerate(zip(protocols, used_ns, strict=True)):
        if used <= oldest_ns[protocol]:
            yield index


def _remove(plane: DataPlane, key: layout.FlowKey, oldest_ns: dict[int, int]) -> bool:
    """Read once more before: the flow may have been announced anew since."""
    learnt = plane.table("flows").get(key)
    return learnt is not None and learnt.used_ns <= oldest_ns[key.protocol] and plane.table("flows").remove(key)
