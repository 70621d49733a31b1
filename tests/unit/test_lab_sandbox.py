"""What a lab sweeps: the empty directories of the dead, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.sandbox import PREFIX, sweep


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_empty_directories_of_dead_labs_are_swept(tmp_path: Path, dead_pid: int) -> None:
    kept = [f"{PREFIX}{os.getpid()}-0", f"{PREFIX}x-0", f"other-{dead_pid}-0", f"{PREFIX}{dead_pid}-full"]
    for name in [*kept, f"{PREFIX}{dead_pid}-0", f"{PREFIX}{dead_pid}-1"]:
        (tmp_path / name).mkdir()
    (tmp_path / f"{PREFIX}{dead_pid}-full" / "content").touch()
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
