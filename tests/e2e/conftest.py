"""Traffic for the end-to-end tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.datagrams import Datagrams
from tests.e2e.traffic import Traffic
from tests.lab.control import Director
from tests.lab.topology import Lab


@pytest.fixture(scope="session")
def traffic(lab: Lab, director: Director, built: Path) -> Traffic:
    return Traffic(lab, director, built)


@pytest.fixture(scope="session")
def datagrams(lab: Lab, director: Director, built: Path) -> Datagrams:
    return Datagrams(lab, director, built)


@pytest.fixture(autouse=True)
def _no_earlier_connections(request: pytest.FixtureRequest) -> None:
    """At the director: a client's port may have served another test, and the director would know two of it."""
    if "director" in request.fixturenames:
        request.getfixturevalue("director").forget_all()
