"""What every test that touches the kernel stands on: one lab for the session, one ipvsca in it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.control import Director
from tests.lab.topology import Lab
from tests.rig import Ipvsca

# A shell without job control has its background jobs ignore it, and children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="session")
def director(lab: Lab) -> Director:
    return lab.start_director()


@pytest.fixture(scope="session")
def ipvsca(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Ipvsca:
    """Not loaded: a test or a fixture of its module does that."""
    return Ipvsca(lab.server, lab.bpffs / "ipvsca", lab.cgroup, tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the test applications are compiled to."""
    return tmp_path_factory.mktemp("apps")
