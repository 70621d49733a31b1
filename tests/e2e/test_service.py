"""The units of systemd/, on a machine that systemd boots: each verb means what it says, with little privilege."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.apps.catalogue import app
from tests.e2e.traffic import IPV4, Tally, Traffic, assert_restored, assert_untouched
from tests.e2e.web_client import Client
from tests.kernel_state import wait_until
from tests.lab.machine import SYSTEMD, Machine, booted
from tests.lab.messages import Toa, Where
from tests.lab.topology import Lab
from tests.rig import REPOSITORY

ACCEPT = app("c-accept")
UNITS = REPOSITORY / "systemd"
DATA_PLANE, DAEMON = "ipvsca.service", "ipvsca-daemon.service"
HIGHEST_EXPOSURE = 2.5
INSTALLED = "usr/local/lib/ipvsca"
COMMAND = f"""#!/usr/bin/python3 -I
import sys
sys.path.insert(0, "/{INSTALLED}")
from ipvsca.cli import main
sys.exit(main())
"""
# As cloud-init does it: interfaces are configured in early boot.
NETWORK = """[Unit]
DefaultDependencies=no
Wants=network-pre.target
After=network-pre.target
Before=network.target sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=true
[Install]
WantedBy=sysinit.target
"""
CONFIGURATION = 'trusted = "10.90.0.0/24"\n'

pytestmark = pytest.mark.skipif(not SYSTEMD.exists(), reason="needs systemd: apt install systemd")


class Service:
    """ipvsca on a machine, by systemctl."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.applications = machine.cgroup / "applications"
        self.applications.mkdir()

    def systemctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.machine.run("systemctl", *words, check=check)

    def property(self, unit: str, name: str) -> str:
        return self.systemctl("show", "--value", f"--property={name}", unit).stdout.strip()

    def is_active(self, unit: str) -> bool:
        return self.property(unit, "ActiveState") == "active"

    def starts_again_after(self, signal: str) -> None:
        """The daemon, as it gets a signal."""
        before = self.property(DAEMON, "MainPID")
        self.systemctl("kill", "--kill-who=main", f"--signal={signal}", DAEMON)

        def is_another() -> bool:
            said = self.systemctl("show", "--property=ActiveState,MainPID", DAEMON).stdout.splitlines()
            return "ActiveState=active" in said and not {"MainPID=0", f"MainPID={before}"} & set(said)

        wait_until(is_another)
        assert is_another()

    def is_restoring(self) -> bool:
        return self.machine.run("ipvsca", "check", check=False).returncode == 0

    def hooks(self) -> list[str]:
        """What `check` says of each, whatever the programs' source."""
        lines = self.machine.run("ipvsca", "check").stdout.splitlines()
        return [re.sub(r"source \w+", "source", line) for line in lines[lines.index("Hooks") : lines.index("Traffic")]]

    def configure(self, text: str) -> None:
        self.machine.run("tee", "/etc/ipvsca/ipvsca.toml", input=text)

    def logged(self, unit: str) -> list[tuple[int, str]]:
        """Level and text of each line of a unit's own, in this boot."""
        lines = self.machine.run("journalctl", "--output=json", f"--unit={unit}", "_COMM=ipvsca").stdout.splitlines()
        return [(int(entry["PRIORITY"]), entry["MESSAGE"]) for entry in map(json.loads, lines)]

    def logs(self, unit: str, level: int, text: str) -> None:
        wait_until(lambda: (level, text) in self.logged(unit))
        assert (level, text) in self.logged(unit)


def install(folder: Path) -> None:
    """What a package puts into a machine, and its configuration; both units are enabled."""
    for name in ("ipvsca", "bpf"):
        shutil.copytree(REPOSITORY / name, folder / INSTALLED / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text, mode in (
        ("usr/local/sbin/ipvsca", COMMAND, 0o755),
        ("etc/ipvsca/ipvsca.toml", CONFIGURATION, 0o644),
        ("etc/systemd/system/default.target", "[Unit]\nRequires=multi-user.target\nAfter=multi-user.target\n", 0o644),
        ("etc/systemd/system/network.service", NETWORK, 0o644),
    ):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
    for unit in (DATA_PLANE, DAEMON):
        shutil.copy(UNITS / unit, folder / "etc/systemd/system")
    subprocess.run(["systemctl", "--quiet", f"--root={folder}", "enable", DATA_PLANE, "network.service"], check=True)


@pytest.fixture(scope="module")
def service(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("machine")
    install(folder / "files")
    (folder / "root").mkdir()
    with booted(lab.server, lab.cgroup.parent / "machine", folder / "root", folder / "files") as machine:
        service = Service(machine)
        yield service
        service.systemctl("stop", DATA_PLANE)  # the filter on the lab's interface would outlive the machine


@pytest.fixture(autouse=True)
def _as_after_the_boot(service: Service) -> Iterator[None]:
    yield
    service.configure(CONFIGURATION)
    service.systemctl("reset-failed")
    service.systemctl("start", DATA_PLANE)
    service.machine.run("ipvsca", "load")
    service.systemctl("restart", DAEMON)


@contextmanager
def under_way(service: Service, traffic: Traffic) -> Iterator[Tally]:
    """Connections one after the other, all of whose clients are seen, while the block is executed and behind it."""
    traffic.direct(IPV4, Toa(Where.SYN))
    with (
        traffic.serving(ACCEPT, IPV4, cgroup=service.applications),
        traffic.continuous(ACCEPT, IPV4) as tally,
    ):
        tally.wait_for(20)
        yield tally
        tally.wait_for(20)


def test_after_the_boot_everything_runs(service: Service) -> None:
    assert service.systemctl("list-units", "--failed", "--quiet").stdout == ""
    assert service.is_active(DATA_PLANE)
    assert service.is_active(DAEMON)
    assert service.is_restoring()
    assert service.property(DAEMON, "StatusText") == "restoring"


def test_it_is_loaded_before_anything_comes_from_the_network(service: Service) -> None:
    loaded = int(service.property(DATA_PLANE, "ActiveEnterTimestampMonotonic"))
    configured = int(service.property("network.service", "InactiveExitTimestampMonotonic"))
    assert 0 < loaded < configured
    assert "ordering cycle" not in service.machine.run("journalctl", "--boot").stdout


@pytest.mark.parametrize("unit", [DATA_PLANE, DAEMON])
def test_the_units_are_in_order_and_expose_little(unit: str, service: Service) -> None:
    assert service.machine.run("systemd-analyze", "verify", "--man=no", unit).stderr == ""
    said = service.machine.run("systemd-analyze", "security", "--no-pager", unit).stdout
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert level
    assert float(level[1]) <= HIGHEST_EXPOSURE


def test_the_daemon_has_two_capabilities_and_gets_no_more(service: Service) -> None:
    status = service.machine.run("cat", f"/proc/{service.property(DAEMON, 'MainPID')}/status").stdout
    net_admin, bpf = 12, 39
    assert int(re.findall(r"CapEff:\s*(\w+)", status)[0], 16) == 1 << net_admin | 1 << bpf
    assert re.findall(r"NoNewPrivs:\s*(\d)", status) == ["1"]


def test_the_daemon_serves_metrics_with_that(lab: Lab, service: Service) -> None:
    client = Client(lab)
    assert wait_until(lambda: not client.is_refused())
    answer, wrong = client.ask("/healthz")
    assert answer.status == 200, wrong
    assert client.samples()["ipvsca_up"] == 1


def test_restarts_of_the_daemon_disturb_nothing(service: Service, traffic: Traffic) -> None:
    with under_way(service, traffic) as tally:
        for _ in range(5):
            service.systemctl("restart", DAEMON)
            tally.wait_for(10)
            service.systemctl("reset-failed", DAEMON)  # otherwise systemd thinks that it fails to start
        service.systemctl("stop", DAEMON)
        tally.wait_for(10)
        assert service.is_restoring()
        service.systemctl("start", DAEMON)


def test_a_daemon_that_is_killed_starts_again(service: Service, traffic: Traffic) -> None:
    with under_way(service, traffic):
        service.starts_again_after("KILL")


def test_a_daemon_that_hangs_starts_again(service: Service, traffic: Traffic) -> None:
    """With a watchdog of two seconds. One that works shows it in time."""
    drop_in = f"/run/systemd/system/{DAEMON}.d"
    service.machine.run(
        "sh", "-c", f"mkdir -p {drop_in} && printf '[Service]\\nWatchdogSec=2\\nRestartSec=0\\n' >{drop_in}/short.conf"
    )
    service.systemctl("daemon-reload")
    try:
        with under_way(service, traffic):
            service.systemctl("restart", DAEMON)
            service.starts_again_after("STOP")
            assert "watchdog" in service.machine.run("journalctl", f"--unit={DAEMON}").stdout
    finally:
        service.machine.run("rm", "-r", drop_in)
        service.systemctl("daemon-reload")
        service.systemctl("restart", DAEMON)


def test_reload_puts_a_changed_file_into_force_and_loses_nobody(lab: Lab, service: Service, traffic: Traffic) -> None:
    with under_way(service, traffic):
        service.configure(f'{CONFIGURATION}udp_timeout = 200\ninterfaces = ["eth0", "more0"]\n')
        service.systemctl("reload", DATA_PLANE)
    service.logs(DATA_PLANE, 6, "udp_timeout=200")
    service.logs(DAEMON, 6, "reloaded: nothing has changed")
    service.logs(DAEMON, 4, "warning: waiting for interface more0, which does not exist")
    assert service.machine.run("ipvsca", "get", "udp_timeout").stdout == "udp_timeout=200\n"


def test_reload_of_the_daemon_alone_has_the_privilege_it_needs(lab: Lab, service: Service) -> None:
    """Settings, another cgroup, and interfaces that are let go of and attached to again."""
    service.configure(f'{CONFIGURATION}udp_timeout = 301\ninterfaces = []\ncgroup = "/sys/fs/cgroup/applications"\n')
    service.systemctl("reload", DAEMON)
    service.logs(DAEMON, 6, "udp_timeout=301")
    service.logs(DAEMON, 6, "tc ingress of eth0: taken off")
    service.logs(DAEMON, 6, "reloaded")
    assert service.is_restoring()
    service.configure(CONFIGURATION)
    service.systemctl("reload", DAEMON)
    service.logs(DAEMON, 6, "udp_timeout=300")
    wait_until(service.is_restoring)
    assert service.is_restoring()


def test_a_wrong_file_is_told_in_the_journal_and_changes_nothing(service: Service, traffic: Traffic) -> None:
    said = "/etc/ipvsca/ipvsca.toml: udp_timeout = 0 is not accepted; it takes whole seconds, 1 to 604800"
    with under_way(service, traffic):
        service.configure(f"{CONFIGURATION}udp_timeout = 0\n")
        assert service.systemctl("reload", DATA_PLANE, check=False).returncode != 0
        service.logs(DATA_PLANE, 3, f"ipvsca: {said}")
        service.systemctl("reload", DAEMON)
        service.logs(DAEMON, 3, f"error: nothing is reloaded: {said}")
        assert service.is_active(DATA_PLANE)
        assert service.property(DAEMON, "StatusText") == f"restoring; the last reload failed: {said}"
        service.systemctl("restart", DAEMON, check=False)
        assert service.property(DAEMON, "ExecMainStatus") == "2"


def test_where_the_load_fails_the_daemon_tells(service: Service) -> None:
    service.systemctl("stop", DATA_PLANE)
    service.configure(f'{CONFIGURATION}cgroup = "/sys/fs/cgroup/nowhere"\n')
    assert service.systemctl("start", DATA_PLANE, check=False).returncode != 0
    told = "nothing is loaded at /sys/fs/bpf/ipvsca: run `ipvsca load`"
    assert wait_until(lambda: service.property(DAEMON, "StatusText") == f"not restoring: {told}")
    service.logs(DAEMON, 3, f"error: {told}")
    service.configure(CONFIGURATION)
    service.systemctl("start", DATA_PLANE)
    assert wait_until(lambda: service.property(DAEMON, "StatusText") == "restoring")
    assert wait_until(service.is_restoring)


def test_an_interface_that_comes_is_attached_to_by_the_daemon(lab: Lab, service: Service) -> None:
    lab.server.run(["ip", "link", "add", "more0", "type", "veth", "peer", "name", "more1"])
    try:
        wait_until(service.is_restoring)
        assert service.is_restoring()
    finally:
        lab.server.run(["ip", "link", "delete", "more0"])


def test_another_version_takes_over_with_reload(service: Service, traffic: Traffic) -> None:
    """As after the upgrade of a package: the data plane is reloaded, the daemon restarted, and nobody is lost."""
    with under_way(service, traffic):
        hooks = service.hooks()
        service.machine.run("sh", "-c", f"echo '/* another version */' >>/{INSTALLED}/bpf/peer.c")
        assert "not those of this ipvsca" in service.machine.run("ipvsca", "check").stdout
        service.systemctl("reload", DATA_PLANE)
        service.systemctl("restart", DAEMON)
        assert service.hooks() == hooks


def test_stop_takes_everything_off_and_start_puts_it_back(lab: Lab, service: Service, traffic: Traffic) -> None:
    traffic.direct(IPV4, Toa(Where.SYN))
    with traffic.serving(ACCEPT, IPV4, cgroup=service.applications):
        assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        service.systemctl("stop", DATA_PLANE)
        assert not service.is_active(DATA_PLANE)
        assert not service.is_active(DAEMON)
        assert service.machine.run("sh", "-c", "ls /sys/fs/bpf | grep -v debug", check=False).stdout == ""
        assert "ipvsca" not in lab.server.run(["tc", "filter", "show", "dev", "eth0", "ingress"]).stdout
        assert "clsact" not in lab.server.run(["tc", "qdisc", "show", "dev", "eth0"]).stdout
        assert_untouched(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        service.systemctl("start", DATA_PLANE)
        assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        wait_until(lambda: service.is_active(DAEMON))
        assert service.is_active(DAEMON)
