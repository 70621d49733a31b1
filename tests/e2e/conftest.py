"""Traffic for the end-to-end tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.traffic import Traffic
from tests.lab.control import Director
from tests.lab.topology import Lab


@pytest.fixture(scope="session")
def traffic(lab: Lab, director: Director, built: Path) -> Traffic:
    return Traffic(lab, director, built)
