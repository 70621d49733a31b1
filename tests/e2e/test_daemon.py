"""The daemon at work: it follows interfaces, rereads its file, says what happens, and disturbs nothing."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path

import pytest

from ipvsca import settings
from ipvsca.address import Endpoint
from ipvsca.dataplane import DataPlane
from ipvsca.kernel.programs import INGRESS_ETHERNET, INGRESS_IP
from tests.apps.catalogue import app
from tests.apps.seen import read_answer
from tests.e2e.traffic import CLIENTS_AT_ONCE, IPV4, Traffic, assert_restored, assert_untouched
from tests.e2e.tun_device import LIPS, WAYS, shake_hands, tun
from tests.e2e.web_client import ADDRESS, Client
from tests.kernel_state import KernelState, settles, wait_until
from tests.lab import addresses as a
from tests.lab.messages import Toa, Where
from tests.lab.topology import Lab
from tests.rig import CGROUP_PROGRAMS, REPOSITORY, Ipvsca

Picture = Callable[[], KernelState]

ACCEPT = app("c-accept")
CLIENT = Endpoint.of("198.51.100.77", 7777)
TRUSTED = ["10.90.0.0/24", "fd00:90::/64"]
TIMEOUT_S = 10.0
MOST_MEMORY_KB = 35_000


class Daemon:
    """A running `ipvsca run`, and what it logs."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log
        self._read = 0

    def says(self, line: str) -> None:
        """Among what it has not been asked for yet there is this line, no later than a while."""
        wait_until(lambda: line in self._new())
        lines = self._new()
        assert line in lines
        self._read += lines.index(line) + 1

    def said_nothing_else(self) -> None:
        assert self._new() == []

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def _new(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")][self._read :]

    def says_last(self, text: str) -> None:
        self.says(f"{text}\n")
        self.said_nothing_else()


Start = Callable[[], Daemon]


@contextmanager
def running(ipvsca: Ipvsca, tmp_path: Path, *arguments: str, **options: object) -> Iterator[Daemon]:
    log = tmp_path / "log"
    with log.open("w") as stderr, ipvsca.daemon(*arguments, stderr=stderr, **options) as process:
        yield Daemon(process, log)


@pytest.fixture
def loaded(lab: Lab, ipvsca: Ipvsca) -> Iterator[Ipvsca]:
    picture = partial(KernelState.of, lab.server, lab.cgroup, lab.bpffs)
    before = picture()
    with ipvsca.loaded(trusted=TRUSTED):
        yield ipvsca
        ipvsca.configure()  # unload reads it too
    settles(picture, before)


@pytest.fixture
def daemon(loaded: Ipvsca, tmp_path: Path) -> Iterator[Daemon]:
    with running(loaded, tmp_path, "--no-load") as daemon:
        yield daemon


def filters_of_eth0(lab: Lab) -> str:
    return lab.server.run(["tc", "filter", "show", "dev", "eth0", "ingress"]).stdout


@contextmanager
def veth(lab: Lab, name: str) -> Iterator[None]:
    """A pair, NAMEpeer at its other end."""
    lab.server.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}peer"])
    try:
        yield
    finally:
        lab.server.run(["ip", "link", "delete", f"{name}peer"])


def attached(name: str) -> str:
    return f"tc ingress of {name}: {INGRESS_ETHERNET.does}\n"


def taken_off(name: str) -> str:
    return f"tc ingress of {name}: taken off\n"


def in_force(ipvsca: Ipvsca) -> settings.Settings:
    with DataPlane(ipvsca.pin_path) as plane:
        return plane.settings()


# Interfaces


@pytest.mark.parametrize("interfaces", ["auto", ["eth0", "tun0"]], ids=["auto", "by name"])
def test_an_interface_that_comes_is_attached_to(
    lab: Lab, traffic: Traffic, loaded: Ipvsca, tmp_path: Path, interfaces: object
) -> None:
    """And what arrives there is restored; also when it comes for a second time."""
    way, lip = WAYS["ipv4"], LIPS["ipv4"]
    loaded.configure(trusted=[*TRUSTED, f"{lip}/32"], interfaces=interfaces)
    with running(loaded, tmp_path) as daemon:
        for _ in range(2):
            with tun(lab, lip, way.rip) as device, traffic.serving(ACCEPT, way):
                daemon.says(f"tc ingress of tun0: {INGRESS_IP.does}\n")
                lport = shake_hands(device, lip, way.rip, CLIENT, None)
                assert read_answer(device.receive_line(lport)) == ACCEPT.sees(way.shown(CLIENT))


def test_an_interface_that_is_named_and_late(lab: Lab, loaded: Ipvsca, tmp_path: Path) -> None:
    loaded.configure(trusted=TRUSTED, interfaces=["eth0", "more0"])
    waiting = "warning: waiting for interface more0, which does not exist\n"
    with running(loaded, tmp_path) as daemon:
        daemon.says(waiting)
        assert loaded.json("check", status=3)["is_restoring"] is False
        with veth(lab, "more0"):
            daemon.says(attached("more0"))
            assert loaded.json("check")["is_restoring"]


def test_a_renamed_interface_is_followed(lab: Lab, loaded: Ipvsca, tmp_path: Path) -> None:
    """With names, it is the name that counts; with "auto" it stays attached to."""
    loaded.configure(trusted=TRUSTED, interfaces=["eth0", "more0"])
    with veth(lab, "other0"), running(loaded, tmp_path) as daemon:
        daemon.says("warning: waiting for interface more0, which does not exist\n")
        lab.server.run(["ip", "link", "set", "other0", "name", "more0"])
        daemon.says(attached("more0"))
        lab.server.run(["ip", "link", "set", "more0", "name", "other0"])
        daemon.says(taken_off("other0"))
        assert "ipvsca" not in lab.server.run(["tc", "filter", "show", "dev", "other0", "ingress"]).stdout
        assert "clsact" not in lab.server.run(["tc", "qdisc", "show", "dev", "other0"]).stdout
        loaded.configure(trusted=TRUSTED)
        daemon.reload()
        daemon.says(attached("other0"))
        daemon.says("reloaded\n")
        lab.server.run(["ip", "link", "set", "other0", "name", "more0"])
        with veth(lab, "last0"):
            daemon.says(attached("last0"))
        assert loaded.json("check")["is_restoring"]
        daemon.said_nothing_else()


def test_what_is_no_entrance_is_left_alone(lab: Lab, loaded: Ipvsca, daemon: Daemon) -> None:
    lab.server.run(["ip", "link", "add", "br0", "type", "bridge"])
    try:
        with veth(lab, "more0"):
            lab.server.run(["ip", "link", "set", "more0", "master", "br0"])
            daemon.says(attached("more0peer"))
            assert loaded.json("check")["is_restoring"]
    finally:
        lab.server.run(["ip", "link", "delete", "br0"])


def test_more_happens_than_the_kernel_can_tell(lab: Lab, loaded: Ipvsca, daemon: Daemon) -> None:
    """The daemon is stopped until its socket has overflown: then it looks at all interfaces."""
    daemon.process.send_signal(signal.SIGSTOP)
    names = ["other0", *(f"more{number}" for number in range(1000)), "last0"]
    renames = (f"link set {name} name {new}" for name, new in pairwise(names))
    with veth(lab, "other0"):
        lab.server.run(["ip", "-batch", "-"], input="\n".join(renames))
        with veth(lab, "more0"):
            assert _has_lost(lab, daemon.process.pid)
            daemon.process.send_signal(signal.SIGCONT)
            daemon.says(attached("more0peer"))
            assert loaded.json("check")["is_restoring"]


def _has_lost(lab: Lab, pid: int) -> bool:
    """Whether the kernel could not tell a process something (/proc/net/netlink, column Drops)."""
    rows = [line.split() for line in lab.server.run(["cat", "/proc/net/netlink"]).stdout.splitlines()[1:]]
    return any(int(row[8]) for row in rows if int(row[2]) == pid)


def test_an_interface_that_refuses_our_filter_is_told_of_and_keeps_no_other(
    lab: Lab, loaded: Ipvsca, daemon: Daemon
) -> None:
    with veth(lab, "more0"):
        daemon.says(attached("more0peer"))
        daemon.says(attached("more0"))
        daemon.process.send_signal(signal.SIGSTOP)  # or it puts the filter back at once
        lab.server.run(["tc", "qdisc", "delete", "dev", "more0", "clsact"])
        lab.server.run(["tc", "qdisc", "add", "dev", "more0", "ingress_block", "7", "clsact"])
        lab.server.run(["ip", "link", "set", "more0", "name", "last0"])
        daemon.process.send_signal(signal.SIGCONT)
        daemon.says(
            "warning: tc ingress of last0: the kernel refuses our filter (Operation not supported): `tc qdisc show dev"
            " last0` shows what is there; `interfaces` in the file can leave it out\n"
        )
        with veth(lab, "other0"):
            daemon.says(attached("other0"))


def test_a_filter_that_somebody_else_takes_off_is_put_back(
    lab: Lab, traffic: Traffic, loaded: Ipvsca, daemon: Daemon
) -> None:
    """With its clsact or without; the clsact is ours then, and goes at the end."""
    traffic.direct(IPV4, Toa(Where.SYN))
    with traffic.serving(ACCEPT, IPV4):
        for line in ("filter del dev eth0 ingress", "qdisc del dev eth0 clsact"):
            lab.server.run(["tc", *line.split()])
            daemon.says(attached("eth0"))
            assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
    daemon.said_nothing_else()


def test_a_filter_that_load_takes_off_stays_off(lab: Lab, loaded: Ipvsca, daemon: Daemon) -> None:
    """The daemon has not read the file that was loaded since."""
    loaded.configure(trusted=TRUSTED, interfaces=[])
    loaded.run("load")
    with veth(lab, "more0"):
        daemon.says(attached("more0"))
        assert "ipvsca" not in filters_of_eth0(lab)


def test_what_is_loaded_later_is_what_the_file_says_by_then(lab: Lab, loaded: Ipvsca, daemon: Daemon) -> None:
    loaded.run("unload")
    daemon.says_last(f"error: nothing is loaded at {loaded.pin_path}: run `ipvsca load`")
    loaded.configure(trusted=TRUSTED, interfaces=["none0"])
    loaded.run("load")
    daemon.says("warning: waiting for interface none0, which does not exist\n")
    assert "ipvsca" not in filters_of_eth0(lab)


def test_a_block_that_interfaces_share_is_none_of_them(lab: Lab, loaded: Ipvsca, daemon: Daemon) -> None:
    with veth(lab, "more0"):
        daemon.says(attached("more0peer"))
        daemon.says(attached("more0"))
        daemon.process.send_signal(signal.SIGSTOP)  # so that it hears of all of it at once
        lab.server.run(["tc", "qdisc", "delete", "dev", "more0", "clsact"])
        lab.server.run(["tc", "qdisc", "add", "dev", "more0", "ingress_block", "7", "clsact"])
        lab.server.run(["tc", "filter", "add", "block", "7", "protocol", "all", "bpf", "bytecode", "1,6 0 0 0"])
        lab.server.run(["tc", "filter", "delete", "dev", "more0peer", "ingress"])
        daemon.process.send_signal(signal.SIGCONT)
        daemon.says(attached("more0peer"))
        assert "went wrong" not in daemon.log.read_text()


# Settings


def test_sighup_puts_the_file_into_force(lab: Lab, loaded: Ipvsca, daemon: Daemon) -> None:
    loaded.configure(trusted="10.90.0.0/24", tcp_timeout=60, udp_timeout=61, tcpopt_addr=254, interfaces=[])
    daemon.reload()
    for line in ("tcpopt_addr=254", "trusted=10.90.0.0/24", "tcp_timeout=60", "udp_timeout=61"):
        daemon.says(f"{line}\n")
    daemon.says(taken_off("eth0"))
    daemon.says_last("reloaded")
    assert all(not value["differs"] for value in loaded.json("get").values())
    daemon.reload()
    daemon.says_last("reloaded: nothing has changed")


def test_sighup_moves_to_another_cgroup(lab: Lab, loaded: Ipvsca, daemon: Daemon) -> None:
    loaded.configure(trusted=TRUSTED, cgroup=str(lab.cgroup.parent))
    daemon.reload()
    for program in CGROUP_PROGRAMS:
        daemon.says(f"{program.name} on {lab.cgroup.parent}: {program.does}\n")
    daemon.says_last("reloaded")
    assert loaded.json("check")["is_restoring"]


def test_what_takes_more_than_sighup_is_told_and_the_rest_is_in_force(loaded: Ipvsca, daemon: Daemon) -> None:
    loaded.configure(trusted=TRUSTED, tcp_timeout=60, max_flows=4096, pin_path=f"{loaded.pin_path}2")
    daemon.reload()
    daemon.says("tcp_timeout=60\n")
    steps = "it takes effect with `ipvsca unload`, then `ipvsca load`; clients known until then are lost"
    daemon.says(f"warning: max_flows=4096 is not in force: {steps}\n")
    daemon.says(f"warning: pin_path={loaded.pin_path}2 is not in force: {steps}; unload before the file is changed\n")
    daemon.says_last("reloaded")
    loaded.configure(trusted=TRUSTED)
    daemon.reload()
    daemon.says("tcp_timeout=90\n")
    daemon.says_last("reloaded")


# As it stands in the file | what is said of it, where that is more than the value; each value is in its key's words
MISTAKES = """
tcp_timeout =                        | is not valid TOML: Invalid value (at line LINE, column 14)
pin_path = 1                         | is not valid TOML: Cannot overwrite a value (at line LINE, column 13)
tcptimeout = 60                      | there is no setting 'tcptimeout'; there are: SETTINGS
[tcp]                                | there is no setting 'tcp'; there are: SETTINGS
tcp_timeout = 0                      |
udp_timeout = "3min"                 |
udp_timeout = 604801                 |
tcp_timeout = 1.5                    |
tcpopt_addr = [254, 5]               |
tcpopt_addr = []                     |
tcp_connect = "yes"                  |
max_flows = 1                        |
max_flows = "128k"                   |
interfaces = ["auto", "eth0"]        |
interfaces = "sixteen-bytes-16"      |
trusted = []                         |
trusted = "10.8.0.1/24"              | (10.8.0.1/24 has host bits set)
trusted = "director"                 | ('director' does not appear to be an IPv4 or IPv6 network)
"""


def mistakes() -> Iterator[tuple[str, str]]:
    """Each line and the message about it, in which LINE stands for its number."""
    for row in MISTAKES.strip().splitlines():
        line, said = (cell.strip() for cell in row.split("|"))
        if not said or said.startswith("("):
            reason = f" {said}" if said else ""
            said = f"{line} is not accepted{reason}; it takes {settings.MEANINGS[line.partition(' ')[0]].accepts}"
        yield line, said.replace("SETTINGS", ", ".join(settings.MEANINGS))


def test_a_wrong_file_is_refused_at_start_and_at_reload(
    lab: Lab, loaded: Ipvsca, daemon: Daemon, tmp_path: Path
) -> None:
    """Each mistake in a line with file, key, value and what is accepted; nothing of the file is put into force."""
    picture = partial(KernelState.of, lab.server, lab.cgroup, lab.bpffs)
    before = (picture(), in_force(loaded))
    good = "".join(f"{line}\n" for line in loaded.config.read_text().splitlines() if not line.startswith("trusted"))
    for line, said in mistakes():
        loaded.config.write_text(f"{good}{line}\n")
        message = f"{loaded.config}: {said}".replace("LINE", str(good.count("\n") + 1))
        refused = loaded.run("run", "--no-load", status=2)
        assert (refused.stdout, refused.stderr) == ("", f"ipvsca: {message}\n")
        daemon.reload()
        daemon.says_last(f"error: nothing is reloaded: {message}")
        assert (picture(), in_force(loaded)) == before
    loaded.config.write_bytes(b"tcp_timeout = 60 # \xff\n")
    daemon.reload()
    daemon.says_last(f"error: nothing is reloaded: {loaded.config}: is not a text in UTF-8")
    loaded.config.unlink()
    daemon.reload()
    daemon.says_last(f"error: nothing is reloaded: {loaded.config}: cannot be read: No such file or directory")
    loaded.configure(trusted=TRUSTED, tcp_timeout=60, cgroup=str(lab.cgroup / "gone"))
    daemon.reload()
    daemon.says_last(
        f'error: nothing is reloaded: cgroup {lab.cgroup / "gone"} does not exist: create it, or set cgroup = "auto"'
    )
    assert (picture(), in_force(loaded)) == before


def test_a_reload_that_fails_half_way_changes_nothing(lab: Lab, loaded: Ipvsca, daemon: Daemon) -> None:
    """The last interface refuses: settings, cgroup and the interfaces before it are as they were."""
    picture = partial(KernelState.of, lab.server, lab.cgroup, lab.bpffs)
    loaded.configure(trusted=TRUSTED, interfaces=["eth0"])
    daemon.reload()
    daemon.says_last("reloaded: nothing has changed")
    with veth(lab, "more0"):
        lab.server.run(["tc", "qdisc", "add", "dev", "more0", "ingress_block", "7", "clsact"])
        before = (picture(), in_force(loaded))
        loaded.configure(trusted="192.0.2.0/24", tcp_timeout=60, interfaces=["more0"], cgroup=str(lab.cgroup.parent))
        daemon.reload()
        daemon.says_last(
            "error: nothing is reloaded: tc ingress of more0: the kernel refuses our filter (Operation not supported):"
            " `tc qdisc show dev more0` shows what is there; `interfaces` in the file can leave it out"
        )
        settles(picture, before[0])
        assert in_force(loaded) == before[1]


# Life and death


def test_settings_that_were_set_survive_a_restart(loaded: Ipvsca, tmp_path: Path) -> None:
    loaded.run("set", "tcp_timeout=33")
    with running(loaded, tmp_path, "--no-load"):
        assert in_force(loaded).tcp_timeout == 33


def test_little_memory_is_taken_also_where_programs_are_compiled_first(ipvsca: Ipvsca, tmp_path: Path) -> None:
    try:
        with running(ipvsca, tmp_path) as daemon:
            status = Path(f"/proc/{daemon.process.pid}/status").read_text()
            assert int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) < MOST_MEMORY_KB
    finally:
        ipvsca.run("unload")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_daemon_ends_whatever_else_it_was_told(lab: Lab, daemon: Daemon, stop: signal.Signals) -> None:
    """Signals that come together: it is stopped until all are there."""
    daemon.process.send_signal(signal.SIGSTOP)
    for each in (stop, signal.SIGHUP):
        daemon.process.send_signal(each)
    with veth(lab, "more0"):
        daemon.process.send_signal(signal.SIGCONT)
        assert daemon.process.wait(TIMEOUT_S) == 0


def test_it_waits_where_nothing_is_loaded(lab: Lab, ipvsca: Ipvsca, tmp_path: Path) -> None:
    """And tells so; what is loaded meanwhile it takes care of, until that is unloaded under it."""
    nothing = f"nothing is loaded at {ipvsca.pin_path}: run `ipvsca load`"
    client = Client(lab)
    ipvsca.configure(trusted=TRUSTED, metrics=ADDRESS)
    with running(ipvsca, tmp_path, "--no-load") as daemon, ExitStack() as stack:
        daemon.says(f"error: {nothing}\n")
        daemon.says(f"serving http://{ADDRESS}/\n")
        client.await_answer()
        assert client.samples()["ipvsca_up"] == 0
        daemon.reload()
        daemon.says_last(f"error: nothing is reloaded: {nothing}")
        with veth(lab, "more0"):
            pass
        with ipvsca.loaded(trusted=TRUSTED, metrics=ADDRESS, tcp_timeout=1):  # so that it looks soon
            assert wait_until(lambda: "ipvsca_last_sweep_timestamp_seconds" in client.samples())
            stack.enter_context(veth(lab, "more0"))
            daemon.says(attached("more0"))
        assert client.status("/healthz") == 503
        daemon.process.terminate()
        assert daemon.process.wait(TIMEOUT_S) == 0


class Broken(Ipvsca):
    """Each of its daemon's jobs goes wrong once, in a way that nobody has thought of."""

    def command(self, verb: str, *arguments: str) -> list[str]:
        program = """if True:
            from ipvsca import cli, daemon

            def fail_once(owner, name):
                works = getattr(owner, name)
                def fails(*_):
                    setattr(owner, name, works)
                    raise RuntimeError(name)
                setattr(owner, name, fails)

            fail_once(daemon.loader, "follow")
            fail_once(daemon.loader, "reload")
            fail_once(daemon.ageing, "sweep")
            fail_once(daemon.Web, "start")
            raise SystemExit(cli.main())
        """
        return [sys.executable, "-c", program, verb, "--config", str(self.config), *arguments]


def test_what_goes_wrong_with_one_job_keeps_it_from_no_other(lab: Lab, loaded: Ipvsca, tmp_path: Path) -> None:
    loaded.run("set", "tcp_timeout=1")  # so that it sweeps often
    lab.server.run(["tc", "qdisc", "del", "dev", "eth0", "clsact"])
    broken = Broken(lab.server, loaded.pin_path, lab.cgroup, tmp_path)
    broken.configure(trusted=TRUSTED, tcp_timeout=1)
    with running(broken, tmp_path, "--no-load") as daemon:
        for what, name in (("a sweep", "sweep"), ("serving metrics", "start"), ("looking at the interfaces", "follow")):
            daemon.says(f"error: {what} went wrong: RuntimeError('{name}')\n")
        with veth(lab, "more0"):
            daemon.says(attached("eth0"))  # which is looked at again, though nothing has happened to it
            daemon.says(attached("more0"))
        daemon.reload()
        daemon.says("error: nothing is reloaded: reload\n")
        daemon.reload()
        daemon.says_last("reloaded: nothing has changed")


# What it tells


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_its_log_is_on_a_full_disk(lab: Lab, traffic: Traffic, ipvsca: Ipvsca, unbuffered: str) -> None:
    """It loads, works, ends: unheard."""
    ipvsca.configure(trusted=TRUSTED)
    traffic.direct(IPV4, Toa(Where.SYN))
    with Path("/dev/full").open("w") as full:
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        process = ipvsca.namespace.popen(
            ipvsca.command("run"), cwd=REPOSITORY, stdout=full, stderr=full, env=environment
        )
    try:
        while "ipvsca" not in filters_of_eth0(lab):  # it may take a slow machine long to compile
            assert process.poll() is None
        with traffic.serving(ACCEPT, IPV4):
            assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        for _ in range(2):  # the second time, the first one's line may still be in its buffer
            lab.server.run(["tc", "qdisc", "delete", "dev", "eth0", "clsact"])
            assert wait_until(lambda: "ipvsca" in filters_of_eth0(lab))
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
    finally:
        process.kill()
        process.wait()
        ipvsca.run("unload")


def test_what_systemd_is_told(lab: Lab, loaded: Ipvsca, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    environment = dict(os.environ, NOTIFY_SOCKET=str(path), WATCHDOG_USEC="400000")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(TIMEOUT_S)

        def told() -> str:
            """The next message that is not about being alive."""
            while (message := receiver.recv(4096).decode()) == "WATCHDOG=1":
                pass
            return message

        with running(loaded, tmp_path, "--no-load", env=environment) as daemon:
            assert told() == "STATUS=restoring"
            assert told() == "READY=1\nSTATUS=restoring"
            assert [receiver.recv(4096) for _ in range(5)] == [b"WATCHDOG=1"] * 5
            daemon.reload()
            assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", told())
            assert told() == "READY=1\nSTATUS=restoring"
            loaded.config.write_text("nope = 1\n")
            daemon.reload()
            assert told().startswith("RELOADING=1\n")
            assert told().startswith(f"READY=1\nSTATUS=restoring; the last reload failed: {loaded.config}: there is no")
            daemon.process.terminate()
            assert told() == "STOPPING=1"
            assert daemon.process.wait(TIMEOUT_S) == 0


def test_lines_in_the_journal_have_a_level(loaded: Ipvsca, tmp_path: Path) -> None:
    """Standard error is the journal where the environment says so of this very file."""
    log = tmp_path / "log"
    log.touch()
    status = log.stat()
    environment = dict(os.environ, JOURNAL_STREAM=f"{status.st_dev}:{status.st_ino}")
    with running(loaded, tmp_path, "--no-load", env=environment) as daemon:
        loaded.configure(trusted=TRUSTED, tcp_timeout=60, max_flows=4096)
        daemon.reload()
        daemon.says("<6>tcp_timeout=60\n")
        loaded.config.write_text("nope = 1\n")
        daemon.reload()
        error = f"nothing is reloaded: {loaded.config}: there is no setting 'nope'; there are: "
        daemon.says(f"<3>error: {error}{', '.join(settings.MEANINGS)}\n")


class Impatient(Ipvsca):
    """Its daemon looks at refusals whenever it sweeps."""

    def command(self, verb: str, *arguments: str) -> list[str]:
        program = "from ipvsca import cli, refusals; refusals.INTERVAL_S = 0; raise SystemExit(cli.main())"
        return [sys.executable, "-c", program, verb, "--config", str(self.config), *arguments]


def test_refusals_are_told(lab: Lab, traffic: Traffic, loaded: Ipvsca, tmp_path: Path) -> None:
    """With how many there were, and who it was last: the director, which is not trusted here."""
    impatient = Impatient(lab.server, loaded.pin_path, lab.cgroup, tmp_path)
    impatient.configure(trusted="192.0.2.0/24", tcp_timeout=1)
    loaded.run("set", "trusted=192.0.2.0/24", "tcp_timeout=1")
    traffic.direct(IPV4, Toa(Where.ACK))
    with running(impatient, tmp_path, "--no-load") as daemon, traffic.serving(ACCEPT, IPV4):
        assert_untouched(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        wait_until(lambda: "refused" in daemon.log.read_text())
        told = re.findall(
            r"^warning: refused_ack_untrusted \+(\d) in [01] s, last from (\S+): (.*)$",
            daemon.log.read_text(),
            re.MULTILINE,
        )
    assert told
    for number, source, meaning in told:
        assert int(number) <= CLIENTS_AT_ONCE
        assert ip_address(source) in a.LIPS_V4
        assert meaning == impatient.json("stats")["refused_ack_untrusted"]["help"]
