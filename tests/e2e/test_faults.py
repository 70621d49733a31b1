"""ipvsca is killed, refused, cut off from what it needs: nobody sees a wrong client, and the next load puts it right.

`make faults` does the first of these for every system call.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from ipvsca import loader, settings
from ipvsca.kernel.clock import NANOSECONDS
from ipvsca.kernel.rtnetlink import Rtnetlink
from tests.apps.catalogue import app
from tests.e2e.traffic import IPV4, Traffic, assert_restored, assert_untouched
from tests.faults import calls
from tests.faults.scenarios import Scenario, Stage
from tests.kernel_state import KernelState, are_freed, settles
from tests.lab.messages import Toa, Where
from tests.lab.topology import Lab
from tests.rig import REPOSITORY, Ipvsca

ACCEPT = app("c-accept")


@pytest.fixture(scope="module")
def stage(traffic: Traffic, ipvsca: Ipvsca, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    if calls.MISSING:
        pytest.skip(calls.MISSING)
    return Stage.set(traffic, ipvsca, tmp_path_factory.mktemp("stage"))


@pytest.mark.parametrize("scenario", Scenario, ids=lambda scenario: scenario.value)
def test_killed_and_refused_in_the_middle_of_traffic(stage: Stage, scenario: Scenario) -> None:
    found = stage.calls(scenario)
    assert len(found) > 20
    lasting = [call for call in found if call.is_lasting]
    stage.kill(scenario, lasting[len(lasting) // 2])
    if scenario is Scenario.FIRST_LOAD:
        stage.refuse(scenario, found[len(found) // 3])


def test_a_clsact_that_another_makes_at_the_same_time_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, lab: Lab, ipvsca: Ipvsca
) -> None:
    """It came between our look and our own attempt."""
    lab.server.run(["tc", "qdisc", "add", "dev", "eth0", "clsact"])
    try:
        monkeypatch.setattr(Rtnetlink, "has_clsact", lambda *_: False)
        with ipvsca.namespace.entered():
            loader.load(settings.read_file(ipvsca.config))
        ipvsca.run("unload")
        assert "clsact" in lab.server.run(["tc", "qdisc", "show", "dev", "eth0"]).stdout
    finally:
        lab.server.run(["tc", "qdisc", "del", "dev", "eth0", "clsact"])


def test_no_file_is_written(ipvsca: Ipvsca) -> None:
    """So a full disk is no obstacle: here nothing can be written to any file."""
    try:
        ipvsca.namespace.run(["prlimit", "--fsize=0", "--", *ipvsca.command("load")], cwd=REPOSITORY)
        assert ipvsca.json("check")["is_restoring"]
    finally:
        ipvsca.run("unload")


@contextmanager
def mounted(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "bpf", "bpf", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_the_bpf_file_system_is_unmounted_and_mounted_again(
    lab: Lab, traffic: Traffic, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All that was pinned is gone, but the filter: the director is shown until the next load, which replaces that."""
    folder = Path(tmp_path_factory.mktemp("bpffs"))
    instance = Ipvsca(lab.server, folder / "ipvsca", lab.cgroup, tmp_path_factory.mktemp("config"))
    picture = partial(KernelState.of, lab.server, lab.cgroup, folder)
    before = picture()
    traffic.direct(IPV4, Toa(Where.SYN))
    with traffic.serving(ACCEPT, IPV4):
        with mounted(folder):
            instance.run("load")
            first = picture()
            assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        are_freed(first.of_kind("link"))
        assert_untouched(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        assert "is not in a BPF file system" in instance.run("check", status=1).stdout
        with mounted(folder):
            assert "nothing is loaded" in instance.run("check", status=3).stdout
            instance.run("load")
            assert instance.json("check")["is_restoring"]
            assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
            instance.run("unload")
    settles(picture, before)
    are_freed(first.objects)


def test_the_clock_of_the_programs_in_a_time_namespace() -> None:
    """There CLOCK_MONOTONIC is another one: who compared it with the maps' times would take every flow for dead."""
    if not Path("/proc/self/ns/time").exists():
        pytest.skip("needs: time namespaces (CONFIG_TIME_NS)")
    program = "import time; from ipvsca.kernel import clock; print(clock.now_ns(), time.monotonic_ns())"
    unshare = ["unshare", "--time", "--monotonic", "100000", "--fork"]
    began = time.monotonic_ns()
    said = subprocess.run(
        [*unshare, sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, check=True, text=True
    ).stdout
    of_programs, own = map(int, said.split())
    assert began < of_programs < time.monotonic_ns() < own - 99_000 * NANOSECONDS
