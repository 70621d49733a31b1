"""The package in a fresh Debian 12 that boots: installed, upgraded, removed, purged.

The machine is in the network of the lab's real server, from where no archive of packages can be reached.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from ipvsca.address import Endpoint
from ipvsca.kernel import source
from tests.apps.catalogue import app
from tests.e2e.traffic import (
    IPV4,
    SERVICE_PORT,
    Traffic,
    assert_restored,
    assert_untouched,
    own_address,
)
from tests.kernel_state import KernelState, are_freed, settles
from tests.lab import addresses as a
from tests.lab.machine import Machine, booted
from tests.lab.messages import Toa, Where
from tests.lab.topology import Lab
from tests.rig import PROGRAMS

ACCEPT = app("c-accept")
UNITS = ("ipvsca.service", "ipvsca-daemon.service")
CONFIGURATION = "etc/ipvsca/ipvsca.toml"
RESTORING, NOT_RESTORING = 0, 3

Picture = Callable[[], KernelState]


@pytest.fixture
def machine(lab: Lab, debian: Path, tmp_path: Path) -> Iterator[Machine]:
    """Booted; ipvsca is not installed."""
    files, mounts = tmp_path / "files", tmp_path / "mounts"
    for folder in (files / "etc/systemd/system", mounts):
        folder.mkdir(parents=True)
    with booted(lab.server, lab.cgroup / tmp_path.name, mounts, files, debian) as machine:
        yield machine


@pytest.fixture
def picture(lab: Lab, machine: Machine) -> Picture:
    return partial(KernelState.of, lab.server, machine.cgroup, machine.root / "sys/fs/bpf")


def install(machine: Machine, package: Path) -> None:
    shutil.copy(package, machine.root / "opt")
    machine.run("dpkg", "--force-confold", "--install", f"/opt/{package.name}")


def files(machine: Machine) -> set[str]:
    """Those of the disk: /run, /tmp and what the kernel shows are other file systems. dpkg writes a log."""
    return set(machine.run("find", "/", "-xdev").stdout.splitlines()) - {"/var/log/dpkg.log"}


def states(machine: Machine) -> list[str]:
    return machine.run("systemctl", "is-active", *UNITS, check=False).stdout.split()


def daemon(machine: Machine) -> str:
    """Its process, by number."""
    return machine.run("systemctl", "show", "--property=MainPID", "--value", "ipvsca-daemon").stdout


def check(machine: Machine, status: int) -> str:
    """What `ipvsca check` says, which has to end with a status."""
    done = machine.run("ipvsca", "check", check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def scrape(machine: Machine) -> str:
    """The metrics, as Prometheus gets them; curl is not installed."""
    ask = 'import urllib.request as r; print(r.urlopen("http://127.0.0.1:9255/metrics").read().decode())'
    return machine.run("python3", "-c", ask).stdout


def journal(machine: Machine) -> str:
    return machine.run("journalctl", "--output=cat", "--unit=ipvsca").stdout


@contextmanager
def serving(traffic: Traffic, machine: Machine) -> Iterator[None]:
    """A service of the machine's, behind a director that tells clients."""
    cgroup = machine.cgroup / "served"
    cgroup.mkdir()
    traffic.direct(IPV4, Toa(Where.ACK))
    with traffic.serving(ACCEPT, IPV4, cgroup=cgroup):
        yield


def test_lintian_finds_nothing(package: Path) -> None:
    if not shutil.which("lintian"):
        pytest.skip("needs lintian: apt install lintian")
    done = subprocess.run(
        ["lintian", "--profile=debian", "--allow-root", "--fail-on=error,warning", package],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_what_is_installed_restores(machine: Machine, package: Path, traffic: Traffic) -> None:
    """From the installation on; the files are those of the package."""
    with serving(traffic, machine):
        assert_untouched(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        install(machine, package)
        assert_restored(answers := traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        assert states(machine) == ["active", "active"]
        assert check(machine, RESTORING).endswith("Addresses are being restored.\n")
        counts = json.loads(machine.run("ipvsca", "stats", "--json").stdout)
        assert counts["tcp_restored_ack"]["total"] == len(answers)
        assert f'\nipvsca_connections_total{{protocol="tcp",source="ack"}} {len(answers)}.0\n' in scrape(machine)
        assert machine.run("dpkg", "--verify", "ipvsca").stdout == ""
        shipped = source.digest(PROGRAMS)
        assert json.loads(machine.run("ipvsca", "check", "--json").stdout)["source"] == {
            "here": shipped,
            "loaded": shipped,
        }


def test_each_verb_by_hand(machine: Machine, package: Path, traffic: Traffic) -> None:
    install(machine, package)
    machine.run("systemctl", "disable", "--now", *UNITS)
    check(machine, NOT_RESTORING)
    machine.run("ipvsca", "load")
    check(machine, RESTORING)
    with serving(traffic, machine):
        assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
    machine.run("systemd-run", "--unit=by-hand", "--property=Type=notify", "ipvsca", "run")  # until it says READY=1
    machine.run("systemctl", "stop", "by-hand")
    machine.run("ipvsca", "unload")
    check(machine, NOT_RESTORING)


@pytest.mark.parametrize("by", ["service", "hand", "service, and the file is broken"])
def test_removed_and_purged(machine: Machine, package: Path, picture: Picture, by: str) -> None:
    """Removed, it is out of the kernel; purged, also off the disk."""
    before_in_kernel, before_on_disk = picture(), files(machine)
    install(machine, package)
    if by == "hand":
        machine.run("systemctl", "disable", "--now", *UNITS)
        machine.run("ipvsca", "load")
    elif by != "service":
        (machine.root / CONFIGURATION).write_text("udp_timeout =\n")
    loaded = picture().objects
    assert loaded
    machine.run("dpkg", "--remove", "ipvsca")
    settles(picture, before_in_kernel)
    are_freed(loaded - before_in_kernel.objects)
    assert (machine.root / CONFIGURATION).exists()
    machine.run("dpkg", "--purge", "ipvsca")
    assert files(machine) - before_on_disk == {f"/opt/{package.name}"}


def test_an_upgrade_keeps_maps_and_clients(
    machine: Machine, package: Path, next_package: Path, traffic: Traffic, picture: Picture
) -> None:
    """Programs and daemon are the new ones, maps the old ones, and no client is missed meanwhile."""
    install(machine, package)
    loaded, process = picture(), daemon(machine)
    with serving(traffic, machine), traffic.connect(Endpoint(IPV4.vip, SERVICE_PORT), a.CLIENTS_V4[5]) as early:
        with traffic.continuous(ACCEPT, IPV4) as tally:
            tally.wait_for(10)
            install(machine, next_package)
            tally.wait_for(10)
        assert ACCEPT.ask(early) == ACCEPT.sees(own_address(early))
    assert picture().of_kind("map") == loaded.of_kind("map")
    assert picture().of_kind("prog").isdisjoint(loaded.of_kind("prog"))
    assert states(machine) == ["active", "active"]
    assert daemon(machine) != process
    assert "+next are loaded" in check(machine, RESTORING)


def test_a_wrong_file_does_not_stop_the_installation(machine: Machine, package: Path) -> None:
    """It stops the service, which says why."""
    file = machine.root / CONFIGURATION
    file.parent.mkdir()
    file.write_text("udp_timeout = 0\n")
    install(machine, package)
    assert states(machine)[0] == "failed"
    assert "ipvsca: /etc/ipvsca/ipvsca.toml: udp_timeout = 0 is not accepted" in journal(machine)
    file.write_text("udp_timeout = 300\n")
    machine.run("systemctl", "start", *UNITS)
    check(machine, RESTORING)


def test_an_upgrade_that_cannot_be_loaded(
    machine: Machine, package: Path, next_package: Path, picture: Picture
) -> None:
    """What was loaded before goes on."""
    install(machine, package)
    loaded = picture()
    (machine.root / CONFIGURATION).write_text("udp_timeout = 0\n")
    install(machine, next_package)
    assert picture() == loaded
    assert states(machine)[0] == "active"


def test_an_upgrade_leaves_a_stopped_service_stopped(
    machine: Machine, package: Path, next_package: Path, picture: Picture
) -> None:
    install(machine, package)
    machine.run("systemctl", "disable", "--now", *UNITS)
    before = picture()
    install(machine, next_package)
    assert picture() == before
    assert states(machine) == ["inactive", "inactive"]
