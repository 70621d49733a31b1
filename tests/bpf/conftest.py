"""The data plane loaded into a pin folder of its own, attached nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ipvsca.dataplane import DataPlane
from ipvsca.errors import Problem
from ipvsca.kernel import compiler, machine, source
from ipvsca.kernel.programs import Program
from ipvsca.settings import DEFAULTS
from tests.bpf import probe as probe_program
from tests.bpf.probe import Probe
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
    with compiler.loaded_programs(pins / "maps", MAX_FLOWS) as programs:
        yield programs


@pytest.fixture(scope="session")
def probe(pins: Path, programs: Mapping[Program, int]) -> Iterator[Probe]:
    del programs  # they have made the maps that the probe shares
    with compiler.compiled(source.join(probe_program.SOURCE), pins / "maps", MAX_FLOWS) as module:
        yield Probe(compiler.load(module, probe_program.PROGRAM))


@pytest.fixture(scope="session")
def opened_plane(pins: Path, programs: Mapping[Program, int]) -> Iterator[DataPlane]:
    del programs
    with DataPlane(pins) as plane:
        yield plane


@pytest.fixture
def plane(opened_plane: DataPlane) -> DataPlane:
    """The maps of the programs and of the probe, with default settings."""
    opened_plane.apply(DEFAULTS)
    return opened_plane
