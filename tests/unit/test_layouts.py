"""What is noted of the maps for other versions."""

from __future__ import annotations

from ipvsca.kernel.layout import LearntFrom, Placed
from ipvsca.kernel.maps import KEYS_AND_VALUES
from ipvsca.layouts import layouts


def test_a_map_that_stays_as_it_is_keeps_its_digits() -> None:
    """Whatever becomes of the code around them: other digits mean that no upgrade keeps its clients."""
    assert layouts()["handshakes"] == b"0d7dff657f8a7b3d"


def test_all_is_noted_and_fits() -> None:
    things = layouts().keys()
    assert {*KEYS_AND_VALUES, "counters 0", *(f"learnt_from {number:d}" for number in LearntFrom)} <= things
    assert all(len(thing) < Placed.name.size for thing in things)
