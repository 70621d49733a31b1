"""Maps pinned by a version whose maps have the same sizes, and mean something else: told, never misread."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import rig
from tests.apps.catalogue import app
from tests.e2e.traffic import IPV4, Traffic, assert_restored
from tests.lab.messages import Toa, Where
from tests.rig import REPOSITORY, Ipvsca

ACCEPT = app("c-accept")
FIRST = "#define COUNTERS(COUNTER) \\\n"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return rig.other_version(tmp_path / "other")


@pytest.fixture
def counting_otherwise(other: Path) -> Path:
    """A version with one more counter, ahead of all others."""
    rewrite(other / "bpf" / "counters.h", FIRST, f'{FIRST}\tCOUNTER(ahead_of_all, "nothing") \\\n')
    return other


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def run(ipvsca: Ipvsca, version: Path, verb: str) -> subprocess.CompletedProcess[str]:
    return ipvsca.namespace.run(ipvsca.command(verb), cwd=version, check=False)


def test_counts_begin_anew_where_others_are_counted(traffic: Traffic, ipvsca: Ipvsca, counting_otherwise: Path) -> None:
    """They would stand under other names. Clients stay, and are shown all the time."""
    traffic.direct(IPV4, Toa(Where.ACK))
    with ipvsca.loaded(), traffic.serving(ACCEPT, IPV4):
        with traffic.continuous(ACCEPT, IPV4) as tally:
            tally.wait_for(20)
            assert run(ipvsca, counting_otherwise, "load").returncode == 0
            tally.wait_for(20)
            said = ipvsca.run("stats", status=1).stderr
            assert said == f"ipvsca: {ipvsca.pin_path} holds maps of another version (counters): `ipvsca load`\n"
        ipvsca.run("load")
        assert not any(ipvsca.counts().values())
        answers = traffic.ask(ACCEPT, IPV4)
        assert_restored(answers, ACCEPT, IPV4)
        assert ipvsca.counts()["tcp_restored_ack"] == len(answers)


def test_where_such_a_load_fails_the_counts_stay(traffic: Traffic, ipvsca: Ipvsca, counting_otherwise: Path) -> None:
    """It fails at its last step, when all else is done and has to be undone."""
    last = "    for program, fd in programs.items():\n"
    rewrite(counting_otherwise / "ipvsca" / "loader.py", last, f'    raise Problem("too bad")\n{last}')
    traffic.direct(IPV4, Toa(Where.ACK))
    with ipvsca.loaded(), traffic.serving(ACCEPT, IPV4):
        assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        before = ipvsca.counts()
        assert run(ipvsca, counting_otherwise, "load").stderr == "ipvsca: too bad\n"
        assert ipvsca.counts() == before
        assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        assert ipvsca.counts()["tcp_restored_ack"] == 2 * before["tcp_restored_ack"]


def test_the_same_size_with_other_fields(traffic: Traffic, ipvsca: Ipvsca, other: Path) -> None:
    """The load is refused, and so is reading; clients are shown as before."""
    learnt_from, is_doubtful = '("learnt_from", ctypes.c_uint8),', '("is_doubtful", ctypes.c_uint8),'
    rewrite(
        other / "ipvsca" / "kernel" / "layout.py",
        f"{learnt_from}\n        {is_doubtful}",
        f"{is_doubtful}\n        {learnt_from}",
    )
    traffic.direct(IPV4, Toa(Where.ACK))
    with ipvsca.loaded(), traffic.serving(ACCEPT, IPV4):
        found = f"{ipvsca.pin_path} holds maps of another version"
        refused = run(ipvsca, other, "load")
        assert refused.returncode == 1
        assert refused.stderr == (
            f"ipvsca: {found} or max_flows (clients: other fields; handshakes: other fields; flows: other fields): "
            "`ipvsca unload`, then load again; clients known until then are lost\n"
        )
        listed = run(ipvsca, other, "list")
        assert (listed.returncode, listed.stdout) == (1, "")
        assert listed.stderr == f"ipvsca: {found} (clients): `ipvsca unload`, then load again\n"
        assert run(ipvsca, REPOSITORY, "check").returncode == 0
        assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
