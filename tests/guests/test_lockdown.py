"""A kernel that is locked down, as under Secure Boot: unsigned modules are refused there, and ipvsca is not.

Guests boot with it, so that all tests in them run under it.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.lab.topology import Lab
from tests.rig import Ipvsca


def test_it_is_locked_down_and_loads(lab: Lab, ipvsca: Ipvsca, tmp_path: Path) -> None:
    """The mount is one of the lab's, and goes with it at the latest."""
    if "lockdown=integrity" not in Path("/proc/cmdline").read_text():
        pytest.skip("needs: a kernel booted with lockdown=integrity")
    subprocess.run(["mount", "-t", "securityfs", "securityfs", tmp_path], check=True)
    try:
        assert re.findall(r"\[(\w+)\]", (tmp_path / "lockdown").read_text()) == ["integrity"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    with ipvsca.loaded():
        assert ipvsca.json("check")["is_restoring"]
