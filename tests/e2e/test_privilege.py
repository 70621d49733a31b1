"""What each command may do with, what it leaves for others to read, and where the daemon listens.

docs/security.md has the table of capabilities; here it is tried. test_service.py does so for the daemon.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.privilege import MEMORY, with_capabilities
from tests.lab.topology import Lab
from tests.rig import REPOSITORY, Ipvsca

WORDS = {
    "stats": ["stats"],
    "get": ["get"],
    "set": ["set", "tcp_timeout=60"],
    "list": ["list"],
    "check": ["check"],
    "top": ["top", "--once", "--interval", "0.1"],
    "top --cost": ["top", "--cost", "--json", "--interval", "0.1"],
}
"""Of commands that look, or set something: how each is called."""

LONGEST_S = 120.0
LOADING = ("load", "load, other programs", "unload")
DAEMON = "run --no-load"


def documented() -> dict[str, list[str]]:
    """By command the capabilities that docs/security.md says it takes."""
    _, _, below = (REPOSITORY / "docs/security.md").read_text().partition("\n| command | capabilities |")
    found = {}
    for row in below.partition("\n\n")[0].splitlines()[2:]:
        commands, capabilities, *_ = row.strip("|").split("|")
        needed = [name.lower() for name in re.findall(r"`CAP_(\w+)`", capabilities)]
        found.update(dict.fromkeys(re.findall(r"`([^`]+)`", commands), needed))
    return found


Try = Callable[..., int]


@pytest.fixture
def ends(ipvsca: Ipvsca) -> Try:
    """The exit status of a command of root's that has these capabilities alone."""

    def run(words: list[str], kept: list[str]) -> int:
        prefix = [*MEMORY, *with_capabilities(*kept)]
        command = [*prefix, *ipvsca.command(*words)]
        done = ipvsca.namespace.run(command, check=False, cwd=REPOSITORY, timeout=LONGEST_S)
        print(words, kept, done.stderr)  # pytest shows it where a test fails
        return done.returncode

    return run


def test_every_command_is_in_the_table() -> None:
    assert documented().keys() == {*WORDS, *LOADING, DAEMON}


def test_the_capabilities_of_the_table_are_enough_and_needed(ipvsca: Ipvsca, ends: Try) -> None:
    needs = documented()
    try:
        for one in needs["load"]:
            assert ends(["load"], [name for name in needs["load"] if name != one]) == 1, one
        assert ends(["load"], needs["load"]) == 0
        assert {command: ends(words, needs[command]) for command, words in WORDS.items()} == dict.fromkeys(WORDS, 0)
        assert ends(WORDS["list"], ["net_admin", "perfmon"]) == 1
        assert ends(WORDS["top --cost"], ["bpf", "net_admin", "perfmon"]) == 1
        ipvsca.configure(lookup_calls=True)
        assert ends(["load"], needs["load"]) == 1
        assert ends(["load"], needs["load, other programs"]) == 0
        for one in needs["unload"]:
            assert ends(["unload"], [name for name in needs["unload"] if name != one]) == 1, one
        assert ends(["unload"], needs["unload"]) == 0
    finally:
        ipvsca.run("unload")
        ipvsca.configure()


@pytest.fixture
def _no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_no_umask")
def test_only_root_may_read_what_is_made(lab: Lab, ipvsca: Ipvsca, tmp_path: Path) -> None:
    """Whatever the umask. Beside what is pinned nothing is made at all."""
    prefix = ["env", f"TMPDIR={tmp_path}", f"HOME={tmp_path}", "PYTHONDONTWRITEBYTECODE=1"]
    try:
        ipvsca.namespace.run([*prefix, *ipvsca.command("load")], cwd=REPOSITORY)
        made = [ipvsca.pin_path, *ipvsca.pin_path.rglob("*")]
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in made}
        assert modes == {path: 0o700 if path.is_dir() else 0o600 for path in made}
        assert len(made) > 30
        assert {path.owner() for path in made} == {"root"}
        assert os.listdir(tmp_path) == []
    finally:
        ipvsca.run("unload")


@pytest.mark.parametrize("metrics", ["off", "127.0.0.1:9255"])
def test_the_daemon_listens_where_it_is_told_and_nowhere_else(ipvsca: Ipvsca, metrics: str) -> None:
    with ipvsca.loaded(metrics=metrics), ipvsca.daemon("--no-load") as daemon:
        sockets = ipvsca.namespace.run(["ss", "-Hlnptuwx"]).stdout.splitlines()
        listening = [line.split()[4] for line in sockets if f"pid={daemon.pid}," in line]
        assert listening == ([] if metrics == "off" else [metrics])
