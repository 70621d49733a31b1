"""The command line as an operator and as scripts meet it: outputs, exit statuses, and nothing changed by a mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from ipvsca import __version__, ageing, cli, counters, loader
from ipvsca.address import Endpoint
from ipvsca.dataplane import NANOSECONDS, DataPlane
from ipvsca.kernel.maps import KEYS_AND_VALUES, possible_cpus
from ipvsca.kernel.pins import Pins
from ipvsca.kernel.programs import INGRESS_ETHERNET
from ipvsca.wire.toa import KIND_DPVS, KIND_LVS
from tests.apps.catalogue import app
from tests.apps.udp_catalogue import udp_app
from tests.e2e.datagrams import BOUND, Datagrams
from tests.e2e.datagrams import SERVER_PORT as UDP_SERVER_PORT
from tests.e2e.datagrams import SERVICE_PORT as UDP_SERVICE_PORT
from tests.e2e.traffic import (
    CLIENTS_AT_ONCE,
    DUAL_V4,
    IPV4,
    NAT64,
    SERVER_PORT,
    SERVICE_PORT,
    TIMEOUT_S,
    Traffic,
    Way,
    assert_restored,
    assert_untouched,
    own_address,
)
from tests.kernel_state import KernelState, settles
from tests.lab import addresses as a
from tests.lab.messages import Announce, Protocol, Service, Toa, Where
from tests.lab.topology import Lab
from tests.rig import CGROUP_PROGRAMS, REPOSITORY, Ipvsca

ACCEPT = app("c-accept")
RECVFROM = udp_app("c-recvfrom")
Picture = Callable[[], KernelState]

KINDS = f"{KIND_LVS},{KIND_DPVS}"
TRUSTED = ("10.90.0.0/24", "fd00:90::/64")
"""The directors' addresses in the lab."""

ATTACHED = [f"{program.name} on {{cgroup}}: {program.does}\n" for program in CGROUP_PROGRAMS]
ATTACHED += [f"tc ingress of eth0: {INGRESS_ETHERNET.does}\n"]
TAKEN_OFF = ["taken off: tc ingress of eth0\n"]
TAKEN_OFF += [f"taken off: {program.does} ({program.name})\n" for program in reversed(CGROUP_PROGRAMS)]


@pytest.fixture(scope="module", autouse=True)
def _loaded(ipvsca: Ipvsca) -> Iterator[None]:
    with ipvsca.loaded(trusted=TRUSTED):
        yield


@pytest.fixture
def picture(lab: Lab) -> Picture:
    return partial(KernelState.of, lab.server, lab.cgroup, lab.bpffs)


@pytest.fixture
def other(lab: Lab, ipvsca: Ipvsca, tmp_path: Path) -> Iterator[Ipvsca]:
    """A second instance beside the one that is loaded; at its end nothing of it is left."""
    before = KernelState.of(lab.server, lab.cgroup, lab.bpffs)
    second = Ipvsca(lab.server, lab.bpffs / "other", lab.cgroup, tmp_path)
    yield second
    second.run("unload")
    settles(partial(KernelState.of, lab.server, lab.cgroup, lab.bpffs), before)


@dataclass(frozen=True)
class Done:
    """What a verb printed, said on standard error, and ended with."""

    stdout: str
    stderr: str
    status: int


Run = Callable[..., Done]


@pytest.fixture
def run(ipvsca: Ipvsca, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a verb as `ipvsca` does, but in this process: a new one for each costs more than what is tested."""

    def run_here(verb: str, *words: str) -> Done:
        with ipvsca.namespace.entered():
            status = cli.main([verb, "--config", str(ipvsca.config), *words])
        printed, said = capsys.readouterr()
        return Done(printed, said, status)

    return run_here


@pytest.fixture
def file_again(ipvsca: Ipvsca, run: Run) -> Iterator[None]:
    """Whatever a test sets, at its end the file is in force again."""
    yield
    ipvsca.configure(trusted=TRUSTED)
    assert run("load").status == 0


def in_force(ipvsca: Ipvsca) -> object:
    with DataPlane(ipvsca.pin_path) as plane:
        return plane.settings()


def test_what_load_and_unload_say(lab: Lab, ipvsca: Ipvsca) -> None:
    assert ipvsca.run("unload").stdout == "".join([*TAKEN_OFF, "unloaded\n"])
    assert ipvsca.run("unload").stdout == "nothing was loaded\n"
    attached = "".join(ATTACHED).format(cgroup=lab.cgroup)
    assert ipvsca.run("load").stdout == f"{attached}loaded\n"
    assert ipvsca.run("load").stdout == "already loaded: nothing to do\n"


def test_load_and_unload_can_be_quiet(run: Run) -> None:
    for verb in ("unload", "unload", "load", "load"):
        assert run(verb, "--quiet") == Done("", "", 0)


@pytest.mark.usefixtures("file_again")
def test_load_lets_go_of_an_interface_that_is_not_wanted_any_more(ipvsca: Ipvsca, run: Run) -> None:
    ipvsca.configure(trusted=TRUSTED, interfaces=[])
    assert run("load") == Done("tc ingress of eth0: taken off\nloaded\n", "", 0)
    ipvsca.configure(trusted=TRUSTED)
    assert run("load") == Done(f"{ATTACHED[-1]}loaded\n", "", 0)


@pytest.mark.usefixtures("file_again")
def test_another_cgroup_in_the_file_takes_effect_with_load(lab: Lab, ipvsca: Ipvsca, run: Run) -> None:
    other = lab.cgroup.parent
    ipvsca.configure(trusted=TRUSTED, cgroup=str(other))
    assert run("check").status == 3
    assert run("load") == Done(f"{''.join(ATTACHED[:-1])}loaded\n".format(cgroup=other), "", 0)
    assert run("check").status == 0


@pytest.mark.usefixtures("file_again")
def test_set_and_get(lab: Lab, ipvsca: Ipvsca) -> None:
    rest = (
        "udp_restore=true\nlookup_calls=false\nmax_flows=131072\ninterfaces=auto\n"
        f"cgroup={lab.cgroup}\npin_path={ipvsca.pin_path}\n"
        "metrics=off\nmetrics_tls=off\nmetrics_login=off\n"
    )
    assert ipvsca.run("get").stdout == (
        f"tcpopt_addr={KINDS}\ntcpopt_in=both\ntrusted={','.join(TRUSTED)}\ntcp_timeout=90\nudp_timeout=300\n"
        f"tcp_connect=false\n{rest}"
    )
    words = ("tcpopt_addr=254", "trusted=10.90.0.0/24, fd00:90::2", "tcp_timeout = 60", "tcp_connect=true")
    assert ipvsca.run("set", *words, "udp_timeout=61").stdout == (
        "tcp_connect=true\ntcp_timeout=60\ntcpopt_addr=254\ntrusted=10.90.0.0/24,fd00:90::2/128\nudp_timeout=61\n"
    )
    assert ipvsca.run("get").stdout == (
        f"tcpopt_addr=254    # the file says {KINDS}\ntcpopt_in=both\n"
        "trusted=10.90.0.0/24,fd00:90::2/128    # the file says 10.90.0.0/24,fd00:90::/64\n"
        "tcp_timeout=60    # the file says 90\n"
        "udp_timeout=61    # the file says 300\n"
        f"tcp_connect=true    # the file says false\n{rest}"
    )
    assert ipvsca.run("get", "tcp_connect", "cgroup", "udp_timeout").stdout == (
        f"tcp_connect=true    # the file says false\ncgroup={lab.cgroup}\nudp_timeout=61    # the file says 300\n"
    )


@pytest.mark.usefixtures("file_again")
def test_get_as_json(lab: Lab, ipvsca: Ipvsca, run: Run) -> None:
    assert run("set", "tcpopt_addr=254", "trusted=fd00:90::/64", "tcp_connect=true").status == 0
    both = {
        "tcpopt_addr": ([254], [200, 254]),
        "tcpopt_in": ("both", "both"),
        "trusted": (["fd00:90::/64"], list(TRUSTED)),
        "tcp_timeout": (90, 90),
        "udp_timeout": (300, 300),
        "tcp_connect": (True, False),
        "udp_restore": (True, True),
        "lookup_calls": (False, False),
        "max_flows": (131072, 131072),
        "interfaces": ("auto", "auto"),
        "cgroup": (str(lab.cgroup), str(lab.cgroup)),
        "pin_path": (str(ipvsca.pin_path), str(ipvsca.pin_path)),
        "metrics": ("off", "off"),
        "metrics_tls": ("off", "off"),
        "metrics_login": ("off", "off"),
    }
    assert json.loads(run("get", "--json").stdout) == {
        key: {"value": value, "file": in_file, "differs": value != in_file} for key, (value, in_file) in both.items()
    }
    assert json.loads(run("get", "--json", "tcp_timeout").stdout) == {
        "tcp_timeout": {"value": 90, "file": 90, "differs": False}
    }


@pytest.mark.usefixtures("file_again")
def test_get_tells_what_is_attached_where_the_file_says_something_else(lab: Lab, ipvsca: Ipvsca, run: Run) -> None:
    other = lab.cgroup.parent / "other"
    other.mkdir()
    try:
        ipvsca.configure(trusted=TRUSTED, interfaces=["eth0", "more0"], cgroup=str(other), max_flows=4096)
        keys = ("max_flows", "interfaces", "cgroup")
        assert run("get", *keys).stdout == (
            "max_flows=131072    # the file says 4096\n"
            "interfaces=eth0    # the file says eth0,more0\n"
            f"cgroup={lab.cgroup}    # the file says {other}\n"
        )
        ipvsca.configure(trusted=TRUSTED, interfaces=["eth0"], cgroup=str(lab.cgroup))
        assert run("get", *keys).stdout == f"max_flows=131072\ninterfaces=eth0\ncgroup={lab.cgroup}\n"
        ipvsca.configure(trusted=TRUSTED, interfaces=[], cgroup=str(other))
        run("load")
        other.rmdir()
        assert run("get", "interfaces", "cgroup").stdout == (
            f"interfaces=[]\ncgroup=one that is gone    # the file says {other}\n"
        )
    finally:
        if other.exists():
            other.rmdir()


@pytest.mark.usefixtures("file_again")
def test_the_order_of_a_list_is_no_difference(ipvsca: Ipvsca, run: Run) -> None:
    ipvsca.configure(trusted=[*reversed(TRUSTED)], tcpopt_addr=[254, 200])
    assert "the file says" not in run("get").stdout
    assert run("load") == Done("already loaded: nothing to do\n", "", 0)


@pytest.mark.usefixtures("file_again")
def test_load_says_which_settings_it_changed(ipvsca: Ipvsca, run: Run) -> None:
    ipvsca.configure(trusted="10.90.0.0/24", tcp_timeout=60)
    assert run("load") == Done("trusted=10.90.0.0/24\ntcp_timeout=60\nloaded\n", "", 0)
    ipvsca.configure(trusted="10.90.0.0/24", tcp_timeout=60, udp_timeout=61, tcp_connect=True)
    assert run("load") == Done("udp_timeout=61\ntcp_connect=true\nloaded\n", "", 0)
    assert run("load") == Done("already loaded: nothing to do\n", "", 0)


@pytest.mark.usefixtures("file_again")
def test_another_max_flows_changes_nothing_before_an_unload(
    lab: Lab, ipvsca: Ipvsca, run: Run, picture: Picture
) -> None:
    """Whatever else the file says, all of it waits."""
    before = (picture(), in_force(ipvsca))
    ipvsca.configure(trusted="192.0.2.0/24", max_flows=4096, tcp_timeout=60, cgroup=str(lab.cgroup.parent))
    reason = "flows: 131072 entries, not 4096; replies: 131072 entries, not 4096"
    assert run("load") == Done(
        "",
        f"ipvsca: {ipvsca.pin_path} holds maps of another version or max_flows ({reason}): `ipvsca unload`, then load"
        " again; clients known until then are lost\n",
        1,
    )
    assert (picture(), in_force(ipvsca)) == before
    assert run("unload").status == run("load").status == 0
    with DataPlane(ipvsca.pin_path) as plane:
        assert plane.table("flows").max_entries == plane.table("replies").max_entries == 4096
    assert run("get", "max_flows") == Done("max_flows=4096\n", "", 0)
    assert run("unload").status == 0


@pytest.mark.usefixtures("file_again")
def test_verbs_that_set_something_at_once_lose_nothing(ipvsca: Ipvsca) -> None:
    """Both are held up until both are there: each reads what the other one has written."""
    words = ("tcp_timeout=61", "udp_timeout=62", "tcp_connect=true")
    with Pins.at(ipvsca.pin_path).locked():
        waiting = [
            ipvsca.namespace.popen(
                ipvsca.command("set", word), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for word in words
        ]
        for process in waiting:
            assert process.stderr.readline() == "waiting for another ipvsca to finish\n"
    for process, word in zip(waiting, words, strict=True):
        assert process.communicate(timeout=TIMEOUT_S) == (f"{word}\n", "")
        assert process.returncode == 0
    assert ipvsca.run("get", "tcp_timeout", "udp_timeout", "tcp_connect").stdout == (
        "tcp_timeout=61    # the file says 90\n"
        "udp_timeout=62    # the file says 300\n"
        "tcp_connect=true    # the file says false\n"
    )


def test_unload_leaves_what_others_have_pinned_there(lab: Lab, other: Ipvsca, picture: Picture) -> None:
    before = picture()
    other.run("load")
    theirs = {other.pin_path / "theirs", *(other.pin_path / name / "theirs" for name in ("maps", "programs", "links"))}
    for pin in theirs:
        options = "type hash key 4 value 4 entries 16 name theirs"
        subprocess.run(["bpftool", "map", "create", pin, *options.split()], check=True)
    (other.pin_path / "folder").mkdir()
    try:
        assert other.run("unload").stdout == "".join([*TAKEN_OFF, "unloaded\n"])
        assert {path for path in other.pin_path.rglob("*") if not path.is_dir()} == theirs
        assert (picture().cgroup, picture().interface) == (before.cgroup, before.interface)
        assert other.run("unload").stdout == "nothing was loaded\n"
        other.run("load")
        assert other.json("check")["is_restoring"]
        other.run("unload")
    finally:
        for pin in theirs:
            pin.unlink()
        (other.pin_path / "folder").rmdir()


@contextmanager
def loading(instance: Ipvsca, verb: str) -> Iterator[subprocess.Popen[str]]:
    """A first load, in a process of its own, that has just pinned a map: its programs are not loaded yet."""
    process: subprocess.Popen[str] = instance.namespace.popen(
        instance.command(verb), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    maps = [instance.pin_path / "maps" / name for name in KEYS_AND_VALUES]
    try:
        while not any(pin.exists() for pin in maps):
            assert process.poll() is None, process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("verb", ["load", "run"])
def test_a_load_that_is_told_to_end_leaves_nothing(
    other: Ipvsca, picture: Picture, verb: str, stop: signal.Signals
) -> None:
    before = picture()
    with loading(other, verb) as process:
        process.send_signal(stop)
        assert process.communicate(timeout=TIMEOUT_S) == ("", "")
        assert process.returncode == 128 + stop
        settles(picture, before)


def test_run_ends_where_its_load_is_killed(other: Ipvsca) -> None:
    """As by the kernel, short of memory. What is left then, `unload` takes off, or the next load finishes."""
    with loading(other, "run") as process:
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        assert process.communicate(timeout=TIMEOUT_S) == ("", "")
        assert process.returncode == 128 + signal.SIGKILL
    assert other.json("check", status=3)["is_restoring"] is False
    other.run("load")
    assert other.json("check")["is_restoring"] is True


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_load_that_is_told_to_end_twice_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, other: Ipvsca, run: Run, picture: Picture, stop: signal.Signals
) -> None:
    """At its last step, and then while it undoes those before. Afterwards signals are as they were.

    The folders are there already: what is pinned in them has to go one by one.
    """
    Pins.at(other.pin_path).make_folders()
    before = (picture(), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
    remove_pin = loader._remove_pin

    def remove_pin_and_be_told(pin: Path) -> None:
        signal.raise_signal(stop)
        remove_pin(pin)

    with monkeypatch.context() as patch:
        patch.setattr(loader, "_commit", lambda *_: signal.raise_signal(stop))
        patch.setattr(loader, "_remove_pin", remove_pin_and_be_told)
        assert run("load", "--config", str(other.config)) == Done("", "", 128 + stop)
    settles(picture, before[0])
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before[1:]


@pytest.mark.usefixtures("file_again")
def test_what_get_prints_can_be_set(ipvsca: Ipvsca, run: Run) -> None:
    """Prefixes of both families, some that need every bit, and some of none."""
    run("set", "trusted=0.0.0.0/0,::/0,10.0.0.1,fd00::1,::ffff:192.0.2.0/120", "tcpopt_addr=9,255")
    before = in_force(ipvsca)
    lines = run("get", "trusted", "tcpopt_addr").stdout.splitlines()
    run("set", "trusted=192.0.2.0/24", "tcpopt_addr=254")
    assert in_force(ipvsca) != before
    run("set", *(line.partition("    #")[0] for line in lines))
    assert in_force(ipvsca) == before


def test_set_takes_effect_at_once_and_load_brings_the_file_back(
    traffic: Traffic, ipvsca: Ipvsca, picture: Picture
) -> None:
    before = picture()
    traffic.direct(IPV4, Toa(Where.ACK, KIND_DPVS))
    with traffic.serving(ACCEPT, IPV4):
        assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        ipvsca.run("set", f"tcpopt_addr={KIND_LVS}")
        assert_untouched(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        assert ipvsca.run("load").stdout == f"tcpopt_addr={KINDS}\nloaded\n"
        assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
    assert ipvsca.run("get", "tcpopt_addr").stdout == f"tcpopt_addr={KINDS}\n"
    assert picture() == before


WRONG_FILES = {
    "an unknown key": ("tcptimeout = 60\n", "there is no setting 'tcptimeout'"),
    "a wrong value": ("tcp_timeout = 0\n", "tcp_timeout = 0 is not accepted"),
    "broken TOML": ("tcp_timeout =\n", "is not valid TOML"),
}


@pytest.mark.usefixtures("file_again")
@pytest.mark.parametrize("wrong", WRONG_FILES.values(), ids=WRONG_FILES)
@pytest.mark.parametrize("verb", [verb for verb in cli.VERBS if verb != "unload"])
def test_a_wrong_file_changes_nothing(
    ipvsca: Ipvsca, run: Run, picture: Picture, verb: str, wrong: tuple[str, str]
) -> None:
    text, reason = wrong
    run("set", "tcp_timeout=77")
    before = (picture(), in_force(ipvsca))
    ipvsca.config.write_text(ipvsca.config.read_text() + text)
    done = run(verb, *(["tcpopt_addr=254"] if verb == "set" else []))
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith(f"ipvsca: {ipvsca.config}: {reason}")
    assert done.stderr.count("\n") == 1
    assert (picture(), in_force(ipvsca)) == before


def test_a_wrong_file_keeps_nothing_loaded(other: Ipvsca, picture: Picture) -> None:
    """But where `pin_path` itself cannot be read."""
    before = picture()
    with other.loaded():
        good = other.config.read_text()
        for text, reason in (
            (f"{good}tcp_timeout =\n", "is not valid TOML"),
            ('pin_path = "bpf"\n', 'pin_path = "bpf" is not accepted'),
        ):
            other.config.write_text(text)
            assert other.run("unload", status=2).stderr.startswith(f"ipvsca: {other.config}: {reason}")
        other.config.write_text(f"{good}tcptimeout = 60\nudp_timeout = 0\n")
        assert other.run("unload").stdout.endswith("\nunloaded\n")
        settles(picture, before)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_a_file_that_was_named_and_is_not_there(ipvsca: Ipvsca, run: Run, picture: Picture, verb: str) -> None:
    before = (picture(), in_force(ipvsca))
    missing = ipvsca.config.with_name("missing.toml")
    done = run(verb, "--config", str(missing), *(["tcp_timeout=60"] if verb == "set" else []))
    assert done == Done("", f"ipvsca: {missing}: cannot be read: No such file or directory\n", 2)
    assert (picture(), in_force(ipvsca)) == before


@pytest.mark.parametrize(
    "wrong",
    [
        "tcpopt_addr=2",
        "trusted=10.90.0.2/24",
        "nope=1",
        "tcpopt_addr",
        "interfaces=eth0",
        "trusted=",
        "udp_timeout=0",
        "tcp_connect=1",
        "max_flows=131072",
    ],
)
def test_where_one_assignment_is_wrong_none_is_made(ipvsca: Ipvsca, run: Run, picture: Picture, wrong: str) -> None:
    before = (picture(), in_force(ipvsca))
    for words in (["tcp_timeout=60", wrong], [wrong, "tcp_timeout=60"]):
        done = run("set", *words)
        assert (done.status, done.stdout) == (2, "")
        assert done.stderr.startswith("ipvsca: command line: ")
        assert done.stderr.count("\n") == 1
    assert (picture(), in_force(ipvsca)) == before


ASKED = {Where.ACK: 1, Where.SYN: 2, Where.NONE: 3}
"""How often four clients ask, by how the director tells them."""
TOLD = {where: rounds * CLIENTS_AT_ONCE for where, rounds in ASKED.items()}
ANNOUNCED = CLIENTS_AT_ONCE
"""TCP connections whose clients were announced; each takes over the flow that the announcement made."""
RESTORED = TOLD[Where.ACK] + TOLD[Where.SYN] + ANNOUNCED
NOT_RESTORED = TOLD[Where.NONE] + CLIENTS_AT_ONCE
DATAGRAMS = 2
"""Of two clients, one after the other behind the same LIP:lport. Their flow is then swept."""

MEANINGS = (*counters.meanings(), *counters.SWEPT.values())
TOTALS = dict.fromkeys((meaning.name for meaning in MEANINGS), 0) | {
    "tcp_restored_ack": TOLD[Where.ACK],
    "tcp_restored_syn": TOLD[Where.SYN],
    "tcp_restored_announcement": ANNOUNCED,
    "tcp_no_client": NOT_RESTORED,
    "syn_learnt": TOLD[Where.SYN],
    "getpeername_restored": 2 * RESTORED,  # accept and getpeername
    "announcement_learnt": ANNOUNCED + DATAGRAMS,
    "flows_new": ANNOUNCED + 1,
    "flows_replaced": 1,
    "flows_taken_over": ANNOUNCED,
    "flows_expired": 1,
    "recvmsg_restored": DATAGRAMS,
    "sendmsg_redirected": DATAGRAMS,
    "refused_ack_untrusted": CLIENTS_AT_ONCE,
}
FROM_A_DIRECTOR = {
    "tcp_restored_ack",
    "tcp_restored_syn",
    "tcp_restored_announcement",
    "syn_learnt",
    "announcement_learnt",
    "refused_ack_untrusted",
}
LIPS = set(map(str, a.LIPS_V4))


@pytest.fixture(scope="module")
def known_traffic(traffic: Traffic, datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    """Counters that began at 0 and have seen all of the above, then four clients of a director that is not trusted."""
    ipvsca.run("unload")
    ipvsca.run("load")
    with traffic.serving(ACCEPT, IPV4):
        for where, rounds in ASKED.items():
            traffic.direct(IPV4, Toa(where))
            for _ in range(rounds):
                traffic.ask(ACCEPT, IPV4)
        traffic.director.serve(announced_tcp())
        traffic.ask(ACCEPT, IPV4)
        ipvsca.run("set", "trusted=192.0.2.0/24")
        traffic.direct(IPV4, Toa(Where.ACK))
        traffic.ask(ACCEPT, IPV4)
        ipvsca.run("set", f"trusted={','.join(TRUSTED)}")
    with datagrams.serving(RECVFROM, BOUND) as process:
        for _ in range(DATAGRAMS):
            datagrams.director.forget_all()
            datagrams.director.serve(one_client_at_a_time())
            datagrams.ask(replace(RECVFROM, one_client=True), BOUND, process.directory)
    with DataPlane(ipvsca.pin_path) as plane:
        ageing.sweep(plane, time.monotonic_ns() + plane.settings().udp_timeout * NANOSECONDS)


def announced_tcp() -> Service:
    vip, server = Endpoint(IPV4.vip, SERVICE_PORT), Endpoint(IPV4.rip, SERVER_PORT)
    return Service(vip, (server,), Toa(Where.NONE), announce=Announce())


def one_client_at_a_time() -> Service:
    """All from the same LIP:lport."""
    return Service(
        Endpoint(BOUND.vip, UDP_SERVICE_PORT),
        (Endpoint(BOUND.rip, UDP_SERVER_PORT),),
        protocol=Protocol.UDP,
        announce=Announce(),
        local_addresses=a.LIPS_V4[:1],
        local_ports=(7000, 7000),
    )


@pytest.mark.usefixtures("known_traffic")
def test_stats(run: Run) -> None:
    lines = run("stats").stdout.splitlines()
    for line, meaning in zip(lines, MEANINGS, strict=True):
        last = re.search(r"  \(last \d+(?:\.\d)? (?:s|min) ago, from (\S+)\)$", line)
        assert line.removesuffix(last[0] if last else "") == (
            f"{TOTALS[meaning.name]:>12}  {meaning.name:<32}{meaning.help}"
        )
        assert ({last[1]} <= LIPS if last else False) == (meaning.name in FROM_A_DIRECTOR)


@pytest.mark.usefixtures("known_traffic")
def test_stats_as_json(run: Run) -> None:
    printed = json.loads(run("stats", "--json").stdout)
    assert list(printed) == [meaning.name for meaning in MEANINGS]
    for meaning in MEANINGS:
        counter = printed[meaning.name]
        assert set(counter) == {"total", "per_cpu", "last_seconds_ago", "last_source", "help"}
        assert (counter["total"], counter["help"]) == (TOTALS[meaning.name], meaning.help)
        assert len(counter["per_cpu"]) == possible_cpus()
        assert sum(counter["per_cpu"]) == counter["total"]
        if meaning.name in FROM_A_DIRECTOR:
            assert counter["last_source"] in LIPS
            assert 0 < counter["last_seconds_ago"] < 600
        else:
            assert (counter["last_source"], counter["last_seconds_ago"]) == (None, None)


@pytest.mark.usefixtures("known_traffic")
def test_stats_per_cpu(run: Run) -> None:
    header, *rows = (line.split() for line in run("stats", "--per-cpu").stdout.splitlines())
    assert header == [f"CPU{cpu}" for cpu in range(possible_cpus())]
    assert {name: sum(map(int, values)) for name, *values in rows} == TOTALS
    assert [[name, *map(int, values)] for name, *values in rows] == [
        [name, *counter["per_cpu"]] for name, counter in json.loads(run("stats", "--json").stdout).items()
    ]


@pytest.mark.usefixtures("known_traffic")
def test_stats_as_ip_vs_ca_printed_them(ipvsca: Ipvsca) -> None:
    """Its names and layout, `%-25s:` and ` %10lu`, with the numbers that its users know by them."""
    first, header, *rows = ipvsca.run("stats", "--procfs").stdout.splitlines()
    assert first == f"IP_VS_CA({__version__})"
    assert header == " " * 26 + "".join(f" {f'CPU{cpu}':>10}" for cpu in range(possible_cpus()))
    assert all(re.fullmatch(rf"\w+ *:( [ \d]{{9}}\d){{{possible_cpus()}}}", row) and row[25] == ":" for row in rows)
    totals = {row[:25].rstrip(): sum(map(int, row[26:].split())) for row in rows}
    assert list(totals.items()) == [
        ("syn_recv_sock_ip_vs_ca", RESTORED),
        ("syn_recv_sock_no_ip_vs_ca", NOT_RESTORED),
        ("conn_new", TOTALS["flows_new"] + 1),
        ("conn_del", 1 + ANNOUNCED + 1),
    ]


@dataclass(frozen=True)
class Open:
    """A connection that is open while it is listed."""

    client: Endpoint
    director: Endpoint


@contextmanager
def opened(traffic: Traffic, ways: Sequence[Way]) -> Iterator[list[Open]]:
    """One connection over each way, each from an address of its own, to one dual-stack listener."""
    with traffic.serving(ACCEPT, DUAL_V4), ExitStack() as stack:
        connections = []
        for number, way in enumerate(ways):
            traffic.direct(way, Toa(Where.ACK))
            client = stack.enter_context(traffic.connect(Endpoint(way.vip, SERVICE_PORT), way.sources[number]))
            known = traffic.director.connection(own_address(client))
            connections.append(Open(known.client, known.local))
        yield connections


def test_what_list_shows(traffic: Traffic, run: Run) -> None:
    """Filters choose by client and by director, each by an address or a prefix of its family."""
    with opened(traffic, (DUAL_V4, DUAL_V4, NAT64)) as (first, second, third):

        def listed(*filters: str) -> set[Open]:
            rows = json.loads(run("list", "--json", *filters).stdout)
            rows = [row for row in rows if row["state"] == "established"]
            return {Open(Endpoint.parse(row["client"]), Endpoint.parse(row["director"])) for row in rows}

        everyone = {first, second, third}
        assert listed() == everyone
        assert listed("--client", str(first.client.address)) == {first}
        assert listed("--client", "198.51.100.0/24") == {first, second}
        assert listed("--client", "2001:db8:c::/64") == {third}
        assert listed("--client", "0.0.0.0/0") == {first, second}
        assert listed("--client", "::/0") == {third}
        assert listed("--client", "192.0.2.0/24") == set()
        assert listed("--director", "10.90.0.0/24") == everyone
        assert listed("--director", "fd00:90::/64") == set()
        assert listed("--director", "10.90.0.0/24", "--client", "2001:db8:c::/64") == {third}
        for lip in a.LIPS_V4:
            assert listed("--director", str(lip)) == {each for each in everyone if each.director.address == lip}

        header, *rows = run("list", "--client", str(third.client.address)).stdout.splitlines()
        assert header.split() == ["PROTO", "CLIENT", "DIRECTOR", "SERVER", "LEARNT", "STATE", "AGE", "IDLE", "LEFT"]
        (row,) = (row.split(maxsplit=6) for row in rows if "handshake" not in row)
        assert row[:-1] == ["tcp", str(third.client), str(third.director), "10.80.0.10:8000", "ack", "established"]
        assert re.fullmatch(r"(\d\.\d s|\d+ s) +- +-", row[-1])


def test_what_list_shows_of_flows(traffic: Traffic, datagrams: Datagrams, run: Run) -> None:
    """Beside connections; --limit and --count are of what the other options choose."""
    run("unload")
    run("load")
    with opened(traffic, (DUAL_V4, NAT64)) as connections, datagrams.serving(RECVFROM, BOUND) as process:
        datagrams.direct(BOUND, Announce())
        asked = datagrams.ask(RECVFROM, BOUND, process.directory)

        def counted(*options: str) -> int:
            done = run("list", "--count", *options)
            assert (done.stderr, done.status) == ("", 0)
            assert run("list", *options).stdout.count("\n") == int(done.stdout) + 1
            assert len(json.loads(run("list", "--json", *options).stdout)) == int(done.stdout)
            return int(done.stdout)

        assert counted() == len(asked) + len(connections)
        assert counted("--proto", "udp") == len(asked)
        assert counted("--proto", "tcp") == len(connections)
        assert counted("--limit", "1") == 1
        assert counted("--limit", "3", "--proto", "udp") == 3
        assert counted("--limit", "99", "--proto", "tcp") == len(connections)
        assert counted("--client", str(asked[0].client.address), "--proto", "udp") == 1
        assert counted("--client", "2001:db8:c::/64", "--proto", "udp") == 0

        rows = json.loads(run("list", "--json", "--proto", "udp").stdout)
        assert {(row["client"], row["director"]) for row in rows} == {
            (str(each.client), str(each.director)) for each in asked
        }
        for row in rows:
            assert (row["proto"], row["server"]) == ("udp", f"{BOUND.rip}:{UDP_SERVER_PORT}")
            assert (row["learnt_from"], row["state"]) == ("announcement", "flow")
            assert 0 <= row["idle_seconds"] <= row["age_seconds"] < 60
            assert row["idle_seconds"] + row["left_seconds"] == pytest.approx(300)
        for row in json.loads(run("list", "--json", "--proto", "tcp").stdout):
            assert (row["idle_seconds"], row["left_seconds"]) == (None, None)

        _, line = run("list", "--proto", "udp", "--client", str(asked[0].client.address)).stdout.splitlines()
        expected = ["udp", str(asked[0].client), str(asked[0].director), f"{BOUND.rip}:{UDP_SERVER_PORT}"]
        assert line.split()[:6] == [*expected, "announcement", "flow"]
        time_ = r"\d+(?:\.\d)? s"
        assert re.fullmatch(rf"{time_} +{time_} +(\d+ s|[45] min)", line.split(maxsplit=6)[6])


HELP = ["stats", "--help"]

without_a_reader = pytest.mark.parametrize(
    "words", [["stats"], ["list", "--json"], ["check"], ["load"], HELP], ids=" ".join
)


unbuffered_or_not = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])


@without_a_reader
@unbuffered_or_not
def test_a_pipe_that_nobody_reads(ipvsca: Ipvsca, words: list[str], unbuffered: str) -> None:
    """`| head` ends before we do: no traceback, and nothing is wrong."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    process = ipvsca.namespace.popen(
        ipvsca.command(*words), cwd=REPOSITORY, stdout=writer, stderr=subprocess.PIPE, env=environment
    )
    os.close(writer)
    assert (process.communicate()[1], process.returncode) == (b"", 0)


@without_a_reader
def test_standard_output_that_is_closed(ipvsca: Ipvsca, words: list[str]) -> None:
    closed = ["sh", "-c", 'exec "$0" "$@" >&-', *ipvsca.command(*words)]
    done = ipvsca.namespace.run(closed, check=False, cwd=REPOSITORY)
    assert done.returncode == 0
    assert words == HELP or done.stderr == "", "for its help, argparse takes standard error instead"


@without_a_reader
@unbuffered_or_not
def test_standard_output_on_a_full_disk(ipvsca: Ipvsca, words: list[str], unbuffered: str) -> None:
    """One line, and no traceback: what a script reads from that file is not all there is."""
    status, said = on_a_full_disk(ipvsca, "stdout", words, unbuffered)
    assert re.fullmatch(r"ipvsca: (standard output: )?No space left on device\n", said)
    assert status == 1


@unbuffered_or_not
def test_a_verdict_on_a_full_disk(other: Ipvsca, unbuffered: str) -> None:
    """Also where it is one with a status of its own, as here, where nothing is loaded."""
    other.run("check", status=3)
    status, said = on_a_full_disk(other, "stdout", ["check"], unbuffered)
    assert (status, said.count("\n")) == (1, 1)


@pytest.mark.parametrize(("words", "status"), [(["stats"], 0), (["set", "tcp_timeout=0"], 2)])
@unbuffered_or_not
def test_standard_error_on_a_full_disk(ipvsca: Ipvsca, words: list[str], status: int, unbuffered: str) -> None:
    """The exit status stays what it is."""
    assert on_a_full_disk(ipvsca, "stderr", words, unbuffered)[0] == status


def on_a_full_disk(ipvsca: Ipvsca, full: str, words: list[str], unbuffered: str) -> tuple[int, str]:
    """Exit status, and what was said to the other one of standard output and standard error."""
    other = "stderr" if full == "stdout" else "stdout"
    with Path("/dev/full").open("w") as disk:
        process: subprocess.Popen[str] = ipvsca.namespace.popen(
            ipvsca.command(*words),
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            text=True,
            **{full: disk, other: subprocess.PIPE},
        )
    said = "".join(filter(None, process.communicate()))
    return process.returncode, said


def on_a_terminal(ipvsca: Ipvsca, *words: str) -> str:
    """What is printed there, with the terminal's line ends taken back."""
    master, slave = os.openpty()
    process = ipvsca.namespace.popen(ipvsca.command(*words), cwd=REPOSITORY, stdout=slave, stderr=slave)
    os.close(slave)
    printed = b""
    with os.fdopen(master, "rb", buffering=0) as terminal:
        while more := _read(terminal.fileno()):
            printed += more
    assert process.wait() == 0
    return printed.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: nobody has it open for writing any more
        return b""


def test_colours_are_for_terminals(ipvsca: Ipvsca, run: Run) -> None:
    def plain(text: str) -> str:
        return re.sub(r"\d\S* \w+ ago|\x1b\[\d+m", "", text)

    coloured = on_a_terminal(ipvsca, "check")
    assert "\x1b[32mok  \x1b[0m" in coloured
    assert plain(coloured) == plain(run("check").stdout)
    assert json.loads(on_a_terminal(ipvsca, "check", "--json"))["is_restoring"]


PRINTING = (
    ["stats"],
    ["stats", "--json"],
    ["stats", "--per-cpu"],
    ["stats", "--procfs"],
    ["list"],
    ["list", "--json"],
    ["list", "--count"],
    ["get"],
    ["get", "--json"],
    ["check"],
    ["check", "--json"],
    ["top", "--once", "--interval", "0.1"],
    ["top", "--json", "--interval", "0.1"],
    ["set", "tcp_timeout=90"],
    ["load"],
)


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
def test_there_are_no_escape_codes_elsewhere(run: Run, words: list[str]) -> None:
    done = run(*words)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout
    assert "\x1b" not in done.stdout
