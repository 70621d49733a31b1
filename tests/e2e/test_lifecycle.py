"""Load, replace, kill, unload: nothing half done, nothing left behind, no client lost, no neighbour disturbed."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ipvsca import cli, loader, settings
from ipvsca.address import Endpoint
from ipvsca.cli import check
from ipvsca.errors import Problem
from ipvsca.kernel import bpf, compiler, source
from ipvsca.kernel.interfaces import Interfaces
from ipvsca.kernel.maps import KEYS_AND_VALUES
from ipvsca.kernel.pins import Pins
from ipvsca.kernel.programs import AttachType, Program, ProgramType
from tests import rig
from tests.apps.catalogue import app
from tests.apps.udp_catalogue import udp_app
from tests.e2e.datagrams import ANY, Datagrams
from tests.e2e.datagrams import SERVER_PORT as UDP_SERVER_PORT
from tests.e2e.datagrams import SERVICE_PORT as UDP_SERVICE_PORT
from tests.e2e.traffic import (
    IPV4,
    SERVER_PORT,
    SERVICE_PORT,
    TIMEOUT_S,
    Traffic,
    assert_restored,
    assert_untouched,
)
from tests.kernel_state import KernelState, are_freed, settles, wait_until
from tests.lab.messages import Announce, Protocol, Service, Toa, Where
from tests.lab.topology import Lab
from tests.rig import CGROUP_PROGRAMS, PROGRAMS, REPOSITORY, Ipvsca

ACCEPT = app("c-accept")
RECVFROM = udp_app("c-recvfrom")
Picture = Callable[[], KernelState]


@pytest.fixture
def picture(lab: Lab) -> Picture:
    return partial(KernelState.of, lab.server, lab.cgroup, lab.bpffs)


@pytest.fixture(autouse=True)
def _unchanged_at_the_end(picture: Picture) -> Iterator[None]:
    """Whatever a test does, it ends as it began."""
    before = picture()
    yield
    settles(picture, before)


def test_unload_leaves_nothing(ipvsca: Ipvsca, picture: Picture) -> None:
    before = picture()
    ipvsca.run("load")
    during = picture()
    expected = {"map": len(KEYS_AND_VALUES), "prog": len(PROGRAMS), "link": len(CGROUP_PROGRAMS)}
    assert {kind: len(during.of_kind(kind)) for kind in expected} == expected
    ipvsca.run("unload")
    settles(picture, before)
    are_freed(during.objects)
    assert ipvsca.run("unload").stdout == "nothing was loaded\n"


@contextmanager
def links_held(ipvsca: Ipvsca) -> Iterator[None]:
    """Somebody else, like a tool that watches links, has them all open: none ends as its pin goes."""
    with ExitStack() as stack:
        for pin in (Pins.at(ipvsca.pin_path).root / "links").iterdir():
            stack.enter_context(bpf.opened(pin))
        yield


def test_all_is_off_once_unload_has_ended(ipvsca: Ipvsca, picture: Picture) -> None:
    before = picture()
    ipvsca.run("load")
    with links_held(ipvsca):
        ipvsca.run("unload")
        assert picture() == before


def test_what_a_load_takes_off_is_off_once_it_has_ended(lab: Lab, ipvsca: Ipvsca, picture: Picture) -> None:
    """One program is not wanted any more; then all of them move to another cgroup."""
    before = picture()
    with ipvsca.loaded(lookup_calls=True):
        with links_held(ipvsca):
            ipvsca.configure(lookup_calls=False)
            ipvsca.run("load")
            assert {hook for hook, _ in picture().cgroup} == {program.attach for program in CGROUP_PROGRAMS}
        with links_held(ipvsca):
            ipvsca.configure(cgroup=str(lab.cgroup.parent))
            ipvsca.run("load")
            assert picture().cgroup == before.cgroup


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_a_link_that_a_killed_loader_had_not_named_yet(lab: Lab, ipvsca: Ipvsca, picture: Picture, verb: str) -> None:
    """It was to attach to another cgroup, and got no further than to pin one link there under its first name."""
    before = picture()
    ipvsca.run("load")
    loaded, pins, program = picture(), Pins.at(ipvsca.pin_path), CGROUP_PROGRAMS[0]
    assert program.attach is not None
    with ExitStack() as stack:
        folder = os.open(lab.cgroup.parent, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, folder)
        link = bpf.link_create(stack.enter_context(bpf.opened(pins.program(program))), folder, program.attach)
        stack.callback(os.close, link)
        bpf.pin(link, bpf.beside(pins.link(program)))
        assert bpf.link_info(link).cgroup_id
        ipvsca.run(verb)
        assert not bpf.link_info(link).cgroup_id
    assert picture() == (loaded if verb == "load" else before)
    ipvsca.run("unload")


def test_load_twice_changes_nothing(ipvsca: Ipvsca, picture: Picture) -> None:
    with ipvsca.loaded():
        before = picture()
        assert ipvsca.run("load").stdout == "already loaded: nothing to do\n"
        settles(picture, before)


def test_two_loaders_at_once(ipvsca: Ipvsca) -> None:
    loaders = [ipvsca.namespace.popen(ipvsca.command("load"), cwd=REPOSITORY) for _ in range(3)]
    try:
        assert [loader.wait(60) for loader in loaders] == [0, 0, 0]
        assert ipvsca.json("check")["is_restoring"]
    finally:
        ipvsca.run("unload")


def test_a_listener_from_before_and_connections_from_during(traffic: Traffic, ipvsca: Ipvsca) -> None:
    """The listener is older than the programs; an open connection shows the director again once they are gone."""
    traffic.direct(IPV4, Toa(Where.BOTH))
    with traffic.serving(ACCEPT, IPV4):
        assert_untouched(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        with ipvsca.loaded():
            assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        assert_untouched(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)


@pytest.mark.parametrize("where", [Where.SYN, Where.ACK], ids=str)
def test_killing_the_daemon_loses_no_client(traffic: Traffic, ipvsca: Ipvsca, where: Where) -> None:
    traffic.direct(IPV4, Toa(where))
    counter = f"tcp_restored_{where}"
    try:
        ipvsca.run("load")
        with traffic.serving(ACCEPT, IPV4), traffic.continuous(ACCEPT, IPV4) as tally:
            for _ in range(3):
                before = ipvsca.counts()[counter]
                with ipvsca.daemon() as process:
                    tally.wait_for(20)
                    process.kill()
                    process.wait()
                tally.wait_for(20)
                assert ipvsca.counts()[counter] >= before + 40
        assert ipvsca.counts()[counter] == tally.right
    finally:
        ipvsca.run("unload")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_daemon_ends_and_the_data_plane_stays(ipvsca: Ipvsca, stop: signal.Signals) -> None:
    try:
        with ipvsca.daemon() as process:
            process.send_signal(stop)
            assert process.wait(10) == 0
        assert ipvsca.json("check")["is_restoring"]
    finally:
        ipvsca.run("unload")


@pytest.fixture
def other_version(tmp_path: Path) -> Path:
    return rig.other_version(tmp_path / "other")


def test_another_version_takes_over_in_the_middle_of_traffic(
    traffic: Traffic, ipvsca: Ipvsca, picture: Picture, other_version: Path
) -> None:
    """Programs change, maps and links stay, and no client is seen wrong, whichever way it was told."""
    with ipvsca.loaded(), traffic.serving(ACCEPT, IPV4):
        before = picture()
        for where, version in ((Where.ACK, other_version), (Where.SYN, REPOSITORY)):
            traffic.direct(IPV4, Toa(where))
            with traffic.continuous(ACCEPT, IPV4) as tally:
                tally.wait_for(20)
                ipvsca.namespace.run(ipvsca.command("load"), cwd=version)
                tally.wait_for(20)
            after = picture()
            for kind in ("map", "link"):
                assert after.of_kind(kind) == before.of_kind(kind)
            assert not after.of_kind("prog") & before.of_kind("prog")
            are_freed(before.of_kind("prog"))
            before = after
        assert ipvsca.counts()["tcp_no_client"] == 0


def test_a_load_that_is_killed_between_two_pins(ipvsca: Ipvsca, other_version: Path) -> None:
    """Of the pinned programs one is the other version's then: neither takes them for its own."""
    pinned = "        bpf.pin(fd, pin)\n"
    killed = f"{pinned}        os.kill(os.getpid(), signal.SIGKILL)\n"
    rig.rewrite(other_version / "ipvsca" / "loader.py", pinned, killed)
    with ipvsca.loaded():
        load = ipvsca.namespace.run(ipvsca.command("load"), cwd=other_version, check=False)
        assert load.returncode == -signal.SIGKILL
        assert "was interrupted: `ipvsca load`" in ipvsca.run("check", status=check.COULD).stdout
        with ipvsca.namespace.entered(), pytest.raises(Problem, match="interrupted"):
            loader.reload(settings.read_file(ipvsca.config), ipvsca.pin_path)
        assert "nothing to do" not in ipvsca.run("load").stdout
        assert ipvsca.run("load").stdout == "already loaded: nothing to do\n"


RESTARTS = 20


def test_restarts_and_a_replacement_in_the_middle_of_traffic(
    traffic: Traffic, datagrams: Datagrams, ipvsca: Ipvsca, other_version: Path
) -> None:
    """TCP and UDP, new and lasting: whatever is done to the daemon and the programs, no client is missing or wrong."""
    traffic.director.forget_all()  # lest a client go on with an earlier one's flow, which is not announced again
    traffic.director.serve(
        Service(Endpoint(IPV4.vip, SERVICE_PORT), (Endpoint(IPV4.rip, SERVER_PORT),), Toa(Where.SYN)),
        Service(
            Endpoint(ANY.vip, UDP_SERVICE_PORT),
            (Endpoint(ANY.rip, UDP_SERVER_PORT),),
            protocol=Protocol.UDP,
            announce=Announce(),
        ),
    )
    with (
        ipvsca.loaded(),
        traffic.serving(ACCEPT, IPV4),
        datagrams.serving(RECVFROM, ANY) as server,
        ipvsca.counted(tcp_no_client=0, flows_evicted=0),
        traffic.continuous(ACCEPT, IPV4) as connections,
        datagrams.continuous(RECVFROM, ANY, server.directory) as flows,
    ):
        for number in range(RESTARTS):
            with ipvsca.daemon() as process:
                connections.wait_for(10)
                flows.wait_for(10)
                process.send_signal(signal.SIGKILL if number % 2 else signal.SIGTERM)
                process.wait(TIMEOUT_S)
            if number == RESTARTS // 2:  # the next daemon puts the first version back
                ipvsca.namespace.run(ipvsca.command("load"), cwd=other_version)
        connections.wait_for(10)
        flows.wait_for(10)


NEIGHBOUR_OPS = Program("neighbour_ops", "", ProgramType.SOCK_OPS, AttachType.CGROUP_SOCK_OPS, "counts")
NEIGHBOUR_PEER = Program(
    "neighbour_peer", "", ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_GETPEERNAME, "counts"
)
NEIGHBOUR_TC = Program("neighbour_tc", "", ProgramType.SCHED_CLS, None, "counts")


@contextmanager
def neighbours(lab: Lab) -> Iterator[Callable[[], list[int]]]:
    """Others' programs on the same cgroup and interface; gives how often each has run."""
    text = source.join(REPOSITORY / "tests/bpf/neighbours.c")
    with compiler.compiled(text, lab.bpffs, 1024) as module, ExitStack() as stack:
        folder = os.open(lab.cgroup, os.O_RDONLY)
        stack.callback(os.close, folder)
        for program in (NEIGHBOUR_OPS, NEIGHBOUR_PEER):
            assert program.attach is not None
            stack.callback(os.close, bpf.link_create(compiler.load(module, program), folder, program.attach))
        pin = lab.bpffs / "neighbour"
        bpf.pin(compiler.load(module, NEIGHBOUR_TC), pin)
        stack.callback(pin.unlink)
        lab.server.run(["tc", "qdisc", "add", "dev", "eth0", "clsact"])
        stack.callback(lab.server.run, ["tc", "qdisc", "del", "dev", "eth0", "clsact"])
        lab.server.run(
            ["tc", "filter", "add", "dev", "eth0", "ingress", "bpf", "direct-action", "object-pinned", str(pin)]
        )
        yield lambda: [module[b"runs"][ctypes.c_int(which)].value for which in range(3)]


@pytest.mark.parametrize("where", [Where.SYN, Where.ACK], ids=str)
def test_neighbours_work_before_during_and_after(lab: Lab, traffic: Traffic, ipvsca: Ipvsca, where: Where) -> None:
    traffic.direct(IPV4, Toa(where))
    with neighbours(lab) as runs, traffic.serving(ACCEPT, IPV4):

        def assert_all_run() -> None:
            before = runs()
            traffic.ask(ACCEPT, IPV4)
            assert all(now > then for now, then in zip(runs(), before, strict=True))

        assert_all_run()
        with ipvsca.loaded():
            assert_all_run()
            assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
        assert_all_run()
        assert "clsact" in lab.server.run(["tc", "qdisc", "show", "dev", "eth0"]).stdout


def test_an_empty_clsact_of_another_stays(lab: Lab, ipvsca: Ipvsca) -> None:
    lab.server.run(["tc", "qdisc", "add", "dev", "eth0", "clsact"])
    try:
        with ipvsca.loaded():
            pass
        assert "clsact" in lab.server.run(["tc", "qdisc", "show", "dev", "eth0"]).stdout
    finally:
        lab.server.run(["tc", "qdisc", "del", "dev", "eth0", "clsact"])


def test_two_instances_share_an_interface(lab: Lab, ipvsca: Ipvsca, tmp_path: Path, picture: Picture) -> None:
    """Whichever goes first, the last one takes along the clsact that ipvsca made."""
    second = Ipvsca(lab.server, lab.bpffs / "second", lab.cgroup, tmp_path)
    before = picture()
    for order in ((ipvsca, second), (second, ipvsca)):
        ipvsca.run("load")
        second.run("load")
        for instance in order:
            instance.run("unload")
        settles(picture, before)


def test_a_filter_of_another_kind_at_the_first_priority(lab: Lab, traffic: Traffic, ipvsca: Ipvsca) -> None:
    lab.server.run(["tc", "qdisc", "add", "dev", "eth0", "clsact"])
    try:
        match = "protocol ip prio 1 u32 match ip dport 9999 0xffff flowid 1:1"
        lab.server.run(["tc", "filter", "add", "dev", "eth0", "ingress", *match.split()])
        traffic.direct(IPV4, Toa(Where.SYN))
        with ipvsca.loaded(), traffic.serving(ACCEPT, IPV4):
            assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
            assert "behind other filters" in ipvsca.run("check").stdout
    finally:
        lab.server.run(["tc", "qdisc", "del", "dev", "eth0", "clsact"])


class Broken(Exception):
    """What a test makes a step fail with."""


@dataclass
class Step:
    """The nth call of a function that a load makes. Later calls work again, for undoing has to succeed."""

    owner: Any
    name: str
    call: int
    calls: int = 0

    def __str__(self) -> str:
        return f"{self.name} {self.call}"

    @contextmanager
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        works = getattr(self.owner, self.name)
        self.calls = 0

        def fails(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.call:
                raise Broken
            return works(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(self.owner, self.name, fails)
            yield

    def was_not_reached(self) -> None:
        """A first load updates no link, a replacement makes none: such a step cannot fail."""
        assert self.calls < self.call, "the step failed, and the load did not"


LINKS, PINS = len(CGROUP_PROGRAMS), len(CGROUP_PROGRAMS) + len(PROGRAMS)
STEPS = [
    Step(compiler, "loaded_programs", 1),
    Step(loader.DataPlane, "apply", 1),
    Step(bpf, "link_create", LINKS),
    Step(bpf, "link_update", LINKS),
    *(Step(bpf, "pin", call) for call in (LINKS, PINS)),  # the last link, the last program: all before are undone
    Step(Interfaces, "attach", 1),
    Step(Interfaces, "_place", 1),
    Step(loader, "_commit", 1),
]
MOVING = [Step(bpf, "link_create", LINKS), Step(bpf, "pin", LINKS), Step(loader, "_attach_to_interfaces", 1)]
every_step = pytest.mark.parametrize("step", STEPS, ids=str)


@every_step
def test_a_first_load_that_fails_at_any_step_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, ipvsca: Ipvsca, picture: Picture, step: Step
) -> None:
    before = picture()
    wanted = settings.read_file(ipvsca.config)
    with ipvsca.namespace.entered(), step.failing(monkeypatch):
        try:
            loader.load(wanted)
        except Broken:
            settles(picture, before)
        else:
            step.was_not_reached()
            loader.unload(wanted.pin_path)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_in_the_middle_of_an_undo_waits(
    monkeypatch: pytest.MonkeyPatch, ipvsca: Ipvsca, picture: Picture, stop: signal.Signals
) -> None:
    """A load that fails by itself undoes all that it has done, and ends then."""
    Pins.at(ipvsca.pin_path).make_folders()  # so that what is pinned has to go one by one
    before, told = picture(), []
    remove_pin = loader._remove_pin

    def remove_pin_and_be_told(pin: Path) -> None:
        if not told:
            told.append(pin)
            signal.raise_signal(stop)
        remove_pin(pin)

    monkeypatch.setattr(loader, "_remove_pin", remove_pin_and_be_told)
    try:
        with ipvsca.namespace.entered(), Step(loader, "_commit", 1).failing(monkeypatch):
            assert cli.main(["load", "--config", str(ipvsca.config)]) == 128 + stop
        settles(picture, before)
        assert told
    finally:
        monkeypatch.undo()
        ipvsca.run("unload")


@every_step
def test_a_replacement_that_fails_at_any_step_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, ipvsca: Ipvsca, picture: Picture, step: Step
) -> None:
    wanted = settings.read_file(ipvsca.config)
    with ipvsca.loaded(), ipvsca.namespace.entered(), step.failing(monkeypatch):
        before = picture()
        monkeypatch.setattr(source, "digest", lambda _: "another version")
        try:
            loader.load(replace(wanted, tcp_timeout=17))
        except Broken:
            settles(picture, before)
            assert ipvsca.json("get")["tcp_timeout"]["value"] == wanted.tcp_timeout
        else:
            step.was_not_reached()


def test_what_was_there_goes_also_where_the_kernel_refuses_to_detach_it(
    monkeypatch: pytest.MonkeyPatch, lab: Lab, ipvsca: Ipvsca, picture: Picture
) -> None:
    """By then the new settings are in force: nothing could undo that."""

    def refuse(_: int) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    wanted = replace(settings.read_file(ipvsca.config), cgroup=str(lab.cgroup.parent))
    before = picture()
    with ipvsca.loaded(lookup_calls=True), ipvsca.namespace.entered():
        with monkeypatch.context() as patch:
            patch.setattr(bpf, "link_detach", refuse)
            loader.load(wanted)
        assert wait_until(lambda: picture().cgroup == before.cgroup)
        assert loader.load(wanted).changes == ()


@pytest.mark.parametrize("step", MOVING, ids=str)
def test_a_move_to_another_cgroup_that_fails_at_any_step_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, lab: Lab, ipvsca: Ipvsca, picture: Picture, step: Step
) -> None:
    there = partial(KernelState.of, lab.server, lab.cgroup.parent, lab.bpffs)
    wanted = settings.read_file(ipvsca.config)
    with ipvsca.loaded(), ipvsca.namespace.entered(), step.failing(monkeypatch):
        before, before_there = picture(), there()
        with pytest.raises(Broken):
            loader.load(replace(wanted, cgroup=str(lab.cgroup.parent)))
        assert picture() == before
        assert there() == before_there
