"""Floods and churn in small: what `make floods` and `make churn` do for minutes, for seconds."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvsca.settings import DEFAULTS
from tests.bench import applications as apps
from tests.bench.programs import Where
from tests.bench.records import Judged
from tests.bench.stage import Stage
from tests.kernel_state import wait_until
from tests.stress.churn import Churn
from tests.stress.floods import FLOODS, withstand
from tests.stress.traffic import connecting, exchanging

NAMED = {flood.name: flood for flood in FLOODS}
MANY = 1_000
ROOM = DEFAULTS.max_flows

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


def test_a_flood_of_syns_restores_nothing(stage: Stage) -> None:
    done = withstand(stage, NAMED["SYNs"], 20_000)
    assert done.half_open > MANY
    assert done.judged.right > MANY


def test_churn(stage: Stage) -> None:
    done = Churn(stage, lives=1, named_in=[Where.BOTH]).run(connections=MANY, datagrams=MANY)
    assert done.kills >= 1
    assert done.replacements >= 1


def datagrams_received(stage: Stage) -> int:
    """By the server's sockets."""
    with stage.server.entered():
        names, values = re.findall(r"^Udp: (.*)$", Path("/proc/thread-self/net/snmp").read_text(), re.MULTILINE)
    return int(dict(zip(names.split(), values.split(), strict=True))["InDatagrams"])


def test_whoever_is_not_shown_is_missed(stage: Stage) -> None:
    """No client is named in connections, and those of datagrams are not shown."""
    connections, datagrams = Judged(), Judged()
    with (
        stage.ipvsca.having("udp_restore", "false"),
        apps.accept_loop(stage),
        connecting(stage, True, connections.add),
        exchanging(stage, MANY, datagrams.add),
    ):
        before = stage.ipvsca.counts()["tcp_no_client"], datagrams_received(stage)
        assert wait_until(lambda: stage.ipvsca.counts()["tcp_no_client"] > before[0])
        assert wait_until(lambda: datagrams_received(stage) > before[1])
    assert connections.missing > 0
    assert datagrams.missing > 0
    assert connections.right == connections.wrong == datagrams.right == datagrams.wrong == 0
