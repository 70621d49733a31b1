"""What stands where in the pinned maps, as the map `layouts` notes it: another version learns there what it found.

Two versions may have maps of the same sizes and mean something else by them. Each may know more than the other: what
both know has to be the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple
from functools import cache

from ipvsca import counters
from ipvsca.kernel.layout import LearntFrom, fields
from ipvsca.kernel.maps import KEYS_AND_VALUES


@cache
def layouts() -> dict[str, bytes]:
    """Each thing that has a place, and 16 hexadecimal digits that stand for what is there.

    That is each map by the names, offsets and sizes of its fields, each counter and each LearntFrom by its number.
    Units, and the hashes by which a place is found, are not told: who changes them gives the field another name.
    """
    maps = {
        name: [[astuple(field) for field in fields(kind)] for kind in kinds] for name, kinds in KEYS_AND_VALUES.items()
    }
    counted = {f"counters {counter.index}": counter.name for counter in counters.meanings()}
    learnt_from = {f"learnt_from {member.value}": member.name for member in LearntFrom}
    return {what: _digits(there) for what, there in (maps | counted | learnt_from).items()}


def _digits(there: object) -> bytes:
    return hashlib.sha256(repr(there).encode()).hexdigest()[:16].encode()
