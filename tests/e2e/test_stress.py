"""Floods and churn in small: what `make floods` and `make churn` do for minutes, for seconds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import pytest

from ipvsca.settings import DEFAULTS
from tests.bench import applications as apps
from tests.bench.programs import Where
from tests.bench.records import Judged
from tests.bench.stage import Stage
from tests.kernel_state import wait_until
from tests.stress import churn
from tests.stress.churn import Churn
from tests.stress.floods import BURST, FLOODS, fill_replies, withstand
from tests.stress.served import network_counts
from tests.stress.traffic import Judge, are_running, connecting, exchanging

NAMED = {flood.name: flood for flood in FLOODS}
MANY = 1_000
AT_ONCE = 64  # connections, in connections.c
ROOM = DEFAULTS.max_flows
ONE_IN_SO_MANY = ["-m", "statistic", "--mode", "nth", "--every", "50", "--packet", "0"]

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc: apt install gcc libc6-dev")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage, stage.restored():
        yield stage


def test_a_strangers_flood_leaves_nothing(stage: Stage) -> None:
    done = withstand(stage, NAMED["announcements of a stranger"], 20_000)
    assert done.evicted == 0
    assert done.judged.right > MANY


def test_a_flood_of_flows_evicts_those_that_are_idle(stage: Stage) -> None:
    """More than there is room for."""
    done = withstand(stage, NAMED["announcements"], ROOM + MANY)
    assert done.evicted >= MANY
    assert done.judged.right > MANY


def test_a_flood_that_is_answered_fills_the_ways_back(stage: Stage) -> None:
    done = fill_replies(stage, 2 * BURST)
    assert done.entries > BURST, "a busy kernel drops some"
    assert done.judged.right > 2 * BURST


def test_a_flood_of_syns_restores_nothing(stage: Stage) -> None:
    done = withstand(stage, NAMED["SYNs"], 20_000)
    assert done.half_open > MANY
    assert done.judged.right > MANY


def test_churn(stage: Stage) -> None:
    done = Churn(stage, lives=1, named_in=[Where.ACK]).run(connections=MANY, datagrams=MANY)
    assert done.kills >= 1
    assert done.replacements >= 1


@pytest.fixture
def losing(stage: Stage) -> Iterator[None]:
    """The server's kernel drops one ACK in so many, as it does where it has no room."""
    rule = ["INPUT", "-p", "tcp", "--tcp-flags", "SYN,RST,FIN,ACK", "ACK", *ONE_IN_SO_MANY, "-j", "DROP"]
    stage.server.run(["iptables", "-A", *rule])
    yield
    stage.server.run(["iptables", "-D", *rule])


@pytest.mark.skipif(not shutil.which("iptables"), reason="needs iptables: apt install iptables")
@pytest.mark.parametrize("is_repeated", [True, False], ids=["repeated", "said once"])
def test_an_option_that_is_lost_with_its_ack(stage: Stage, losing: None, is_repeated: bool) -> None:
    """It costs nobody a client where the director repeats it until the server answers, as DPVS does."""
    connections = Judged()
    before = _lost(stage)
    with (
        apps.accept_loop(stage),
        stage.naming_clients(Where.ACK, until_answered=is_repeated),
        connecting(stage, True, connections.add),
    ):
        # More than there are connections at a time: of some of these the end is known.
        assert wait_until(lambda: _lost(stage) > before + AT_ONCE)
    assert (connections.missing == 0) == is_repeated
    assert connections.wrong == 0


def _lost(stage: Stage) -> int:
    """ACKs for which the server has asked once more."""
    return network_counts(stage.server)["TcpExtTCPSynRetrans"]


def _datagrams(stage: Stage) -> int:
    """That the server's sockets have received."""
    return network_counts(stage.server)["UdpInDatagrams"]


def test_whoever_is_not_shown_is_missed(stage: Stage) -> None:
    """No client is named in connections, and those of datagrams are not shown."""
    connections, datagrams = Judged(), Judged()
    with (
        stage.ipvsca.having("udp_restore", "false"),
        apps.accept_loop(stage),
        connecting(stage, True, connections.add),
        exchanging(stage, MANY, datagrams.add),
    ):
        before = stage.ipvsca.counts()["tcp_no_client"], _datagrams(stage)
        assert wait_until(lambda: stage.ipvsca.counts()["tcp_no_client"] > before[0])
        assert wait_until(lambda: _datagrams(stage) > before[1])
    assert connections.missing > 0
    assert datagrams.missing > 0
    assert connections.right == connections.wrong == datagrams.right == datagrams.wrong == 0


def test_a_client_that_dies_is_told_and_not_awaited(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Churn goes on until so many clients were served: of one that is dead there will be no more."""
    monkeypatch.setattr(churn, "connecting", _dying)
    monkeypatch.setattr(churn, "other_version", Path)  # there is one already
    monkeypatch.setattr(Churn, "_disturb", lambda _: pytest.fail("a dead client was awaited"))
    with pytest.raises(RuntimeError, match="before it was told to, with status -9"):
        Churn(stage, named_in=[Where.ACK]).run(MANY, MANY)


@contextmanager
def _dying(stage: Stage, restored: bool, judge: Judge) -> Iterator[Popen[str]]:
    with connecting(stage, restored, judge) as client:
        assert are_running(client)
        client.kill()
        assert wait_until(lambda: not are_running(client))
        yield client
