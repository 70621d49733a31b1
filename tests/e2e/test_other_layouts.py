"""Maps pinned by a version whose maps have the same sizes, and mean something else: told, never misread."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ipvsca.dataplane import DataPlane
from ipvsca.layouts import layouts
from tests import rig
from tests.apps.catalogue import app
from tests.e2e.traffic import IPV4, Traffic, assert_restored
from tests.lab.messages import Toa, Where
from tests.rig import REPOSITORY, Ipvsca, rewrite

ACCEPT = app("c-accept")
FIRST_COUNTER = "#define COUNTERS(COUNTER) \\\n"
LAST_COUNTER = "whose question could not be read"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return rig.other_version(tmp_path / "other")


def add_a_counter(version: Path, name: str = "behind_all") -> None:
    last = f'{LAST_COUNTER}")\n'
    rewrite(version / "bpf" / "counters.h", last, f'{LAST_COUNTER}") \\\n\tCOUNTER({name}, "nothing")\n')


def put_a_counter_first(version: Path) -> None:
    first = f'{FIRST_COUNTER}\tCOUNTER(ahead_of_all, "nothing") \\\n'
    rewrite(version / "bpf" / "counters.h", FIRST_COUNTER, first)


def swap_two_fields(version: Path) -> None:
    one, two = '("learnt_from", ctypes.c_uint8),', '("is_doubtful", ctypes.c_uint8),'
    rewrite(version / "ipvsca" / "kernel" / "layout.py", f"{one}\n        {two}", f"{two}\n        {one}")


def number_otherwise(version: Path) -> None:
    file = version / "ipvsca" / "kernel" / "layout.py"
    rewrite(file, "    ACK = 1\n    SYN = 2\n", "    SYN = 1\n    ACK = 2\n")


def run(ipvsca: Ipvsca, version: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return ipvsca.namespace.run(ipvsca.command(*words), cwd=version, check=False)


def noted(ipvsca: Ipvsca) -> set[str]:
    with DataPlane(ipvsca.pin_path) as plane:
        return {name.name.decode() for name, _ in plane.table("layouts").items()}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (swap_two_fields, "clients: other contents; flows: other contents; handshakes: other contents"),
        (put_a_counter_first, "counters: other contents"),
        (number_otherwise, "learnt_from: other contents"),
    ],
)
def test_other_contents(
    traffic: Traffic, ipvsca: Ipvsca, other: Path, change: Callable[[Path], None], found: str
) -> None:
    """Nothing is loaded over them, and nothing read from them; clients are shown as before."""
    change(other)
    traffic.direct(IPV4, Toa(Where.ACK))
    with ipvsca.loaded(), traffic.serving(ACCEPT, IPV4):
        refused = run(ipvsca, other, "load")
        assert (refused.returncode, refused.stderr) == (
            1,
            f"ipvsca: {ipvsca.pin_path} holds maps of another version or max_flows ({found}): "
            "`ipvsca unload`, then load again; clients known until then are lost\n",
        )
        why = f"{ipvsca.pin_path} holds maps of another version ({found}): "
        why += "use that one, or `ipvsca unload`, then load again; clients known until then are lost"
        for verb in ("list", "stats", "get"):
            said = run(ipvsca, other, verb)
            assert (said.returncode, said.stdout, said.stderr) == (1, "", f"ipvsca: {why}\n")
        assert f"programs are loaded: {why}" in run(ipvsca, other, "check").stdout
        assert ipvsca.json("check")["is_restoring"]
        assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)


def test_a_version_that_counts_more_and_back(traffic: Traffic, ipvsca: Ipvsca, other: Path, tmp_path: Path) -> None:
    """Counts and connections stay, whichever of the two is newer. That counter's place is taken from then on."""
    add_a_counter(other)
    third = rig.other_version(tmp_path / "third")
    add_a_counter(third, "another_behind_all")
    traffic.direct(IPV4, Toa(Where.ACK))
    with ipvsca.loaded(), traffic.serving(ACCEPT, IPV4):
        asked = len(traffic.ask(ACCEPT, IPV4))
        for version in (other, REPOSITORY):
            assert "nothing to do" not in run(ipvsca, version, "load").stdout
            assert ipvsca.json("check")["is_restoring"]
            assert '"behind_all"' in run(ipvsca, other, "stats", "--json").stdout
            assert ipvsca.counts()["tcp_restored_ack"] == asked
            asked += len(traffic.ask(ACCEPT, IPV4))
        assert "(counters: other contents)" in run(ipvsca, third, "load").stderr


def test_a_load_that_fails_leaves_no_note(ipvsca: Ipvsca, other: Path) -> None:
    """The version after it may have another counter in that place. What is loaded is whole again."""
    add_a_counter(other)
    pins = "    for program, fd in programs.items():\n"
    rewrite(other / "ipvsca" / "loader.py", pins, f'{pins}        raise Problem("too bad")\n')
    with ipvsca.loaded():
        assert run(ipvsca, other, "load").stderr == "ipvsca: too bad\n"
        assert noted(ipvsca) == layouts().keys()
        assert ipvsca.json("check")["is_restoring"]
