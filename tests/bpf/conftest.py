"""The data plane loaded into a pin folder of its own, attached nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ipvsca.dataplane import DataPlane
from ipvsca.errors import Problem
from ipvsca.kernel import compiler, machine, source
from ipvsca.kernel.programs import Program
from ipvsca.settings import DEFAULTS
from tests.bpf import probe
from tests.bpf.probe import AnnouncementProbe, ToaProbe
from tests.lab import sandbox

MAX_FLOWS = 1024
"""As few as the settings accept: tests look through the whole table, and fill it."""


@pytest.fixture(scope="session")
def pins() -> Iterator[Path]:
    try:
        machine.require_privilege()
        machine.require_bcc()
    except Problem as missing:
        pytest.skip(str(missing))
    with sandbox.bpffs() as folder:
        (folder / "ipvsca" / "maps").mkdir(parents=True)
        yield folder / "ipvsca"


@pytest.fixture(scope="session")
def programs(pins: Path) -> Iterator[Mapping[Program, int]]:
    """Every program of the data plane: its descriptor."""
    with compiler.loaded_programs(pins / "maps", MAX_FLOWS) as (programs, _):
        yield programs


@pytest.fixture(scope="session")
def probes(pins: Path, programs: Mapping[Program, int]) -> Iterator[Any]:
    """The probe programs, compiled."""
    del programs  # they have made the maps that the probes share
    with compiler.compiled(source.join(probe.SOURCE), pins / "maps", MAX_FLOWS) as module:
        yield module


@pytest.fixture(scope="session")
def toa_probe(probes: Any) -> ToaProbe:
    return ToaProbe(compiler.load(probes, probe.TOA))


@pytest.fixture(scope="session")
def announcement_probe(probes: Any) -> AnnouncementProbe:
    return AnnouncementProbe(compiler.load(probes, probe.ANNOUNCEMENT))


@pytest.fixture(scope="session")
def opened_plane(pins: Path, programs: Mapping[Program, int]) -> Iterator[DataPlane]:
    del programs
    with DataPlane(pins) as plane:
        yield plane


@pytest.fixture
def plane(opened_plane: DataPlane) -> DataPlane:
    """The maps of the programs and of the probes, with default settings."""
    opened_plane.apply(DEFAULTS)
    return opened_plane
