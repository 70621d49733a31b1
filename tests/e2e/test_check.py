"""check: its status in each situation, what it names, what it makes of traffic. What it finds broken, load heals."""

from __future__ import annotations

import ctypes
import json
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ipvsca import __version__, cli, counters, loader, settings
from ipvsca.address import Endpoint
from ipvsca.dataplane import DataPlane
from ipvsca.health import ENOUGH, NO_OPTION, ONLY_ACK
from ipvsca.kernel import bpf, layout, source
from ipvsca.kernel.maps import KEYS_AND_VALUES, possible_cpus
from ipvsca.kernel.programs import INGRESS_ETHERNET, Program
from ipvsca.wire.toa import KIND_DPVS, KIND_LVS
from tests.apps.catalogue import app
from tests.apps.udp_catalogue import udp_app
from tests.e2e.datagrams import BOUND, Datagrams
from tests.e2e.traffic import CLIENTS_AT_ONCE, IPV4, IPV6, NAT64_ON_IPV4, SERVICE_PORT, Traffic, Way
from tests.kernel_state import KernelState, settles
from tests.lab import addresses as a
from tests.lab.messages import Announce, Position, Toa, Where
from tests.lab.topology import Lab
from tests.rig import CGROUP_PROGRAMS, PROGRAMS, REPOSITORY, Ipvsca

ACCEPT = app("c-accept")
RECVFROM = udp_app("c-recvfrom")

RESTORING, COULD, CANNOT = 0, 3, 1
VERDICTS = {
    RESTORING: "Addresses are being restored.",
    COULD: "Addresses could be restored here, but are not: see NO above.",
    CANNOT: "Addresses cannot be restored here as it is: see NO above.",
}
REQUIREMENTS = [
    "permission to load BPF programs",
    "Linux 5.10 or newer",
    "bcc, which compiles the programs",
    "a BPF file system for {pin_path}",
    "cgroup v2",
]


@pytest.fixture(scope="module")
def instance(lab: Lab) -> Iterator[Ipvsca]:
    """One with a cgroup of its own, which tests may take away."""
    cgroup = lab.cgroup.parent / "service"
    cgroup.mkdir()
    with tempfile.TemporaryDirectory(prefix="ipvsca-test-") as folder:
        yield Ipvsca(lab.server, lab.bpffs / "checked", cgroup, Path(folder))
    cgroup.rmdir()


@dataclass(frozen=True)
class Checked:
    """What `check` and `check --json` found; both have ended with this status."""

    status: int
    lines: list[str]
    json: dict[str, Any]

    @property
    def no(self) -> list[str]:
        """Its lines with NO."""
        return [line.removeprefix("  NO    ") for line in self.lines if line.startswith("  NO ")]

    @property
    def traffic(self) -> list[str]:
        """What it says of traffic."""
        return self.lines[self.lines.index("Traffic") + 1 : -1]


Check = Callable[..., Checked]


@pytest.fixture
def check(instance: Ipvsca, capsys: pytest.CaptureFixture[str]) -> Check:
    """Checks, here or behind a `prefix` in a process of its own, and that both forms say the same."""

    def one(prefix: list[str] | None, words: list[str]) -> tuple[str, str, int]:
        if prefix is None:
            with instance.namespace.entered():
                status = cli.main(words)
            return *capsys.readouterr(), status
        argv = [*prefix, sys.executable, "-m", "ipvsca", *words]
        done = instance.namespace.run(argv, check=False, cwd=REPOSITORY)
        return done.stdout, done.stderr, done.returncode

    def run(prefix: list[str] | None = None, config: Path = instance.config) -> Checked:
        text, said, status = one(prefix, ["check", "--config", str(config)])
        as_json, said_too, same = one(prefix, ["check", "--json", "--config", str(config)])
        assert (said, said_too, same) == ("", "", status)
        checked = Checked(status, text.splitlines(), json.loads(as_json))
        assert checked.lines[-1] == VERDICTS[status]
        findings = [*checked.json["requirements"], *checked.json["attachments"]]
        assert checked.no == [f"{each['what']}: {each['remedy']}" for each in findings if not each["ok"]]
        assert checked.json["is_restoring"] == (status == RESTORING)
        assert checked.json["can_restore"] == all(each["ok"] for each in checked.json["requirements"])
        return checked

    return run


def load(instance: Ipvsca) -> None:
    """In this process, which is quicker."""
    with instance.namespace.entered():
        loader.load(settings.read_file(instance.config))


def unload(instance: Ipvsca) -> None:
    with instance.namespace.entered():
        loader.unload(settings.read_file(instance.config).pin_path)


@pytest.fixture(scope="module", autouse=True)
def _unchanged_at_the_end(lab: Lab, instance: Ipvsca) -> Iterator[None]:
    """What the last test has left is taken off, and nothing else is left."""
    before = KernelState.of(lab.server, lab.cgroup, lab.bpffs)
    yield
    unload(instance)
    settles(lambda: KernelState.of(lab.server, lab.cgroup, lab.bpffs), before)


@pytest.fixture
def _unloaded(instance: Ipvsca) -> None:
    unload(instance)


@pytest.fixture
def _loaded(instance: Ipvsca) -> Iterator[None]:
    """Loaded, and no traffic seen. It stays loaded, for compiling takes longer than most of the tests."""
    Path(settings.read_file(instance.config).cgroup).mkdir(exist_ok=True)
    load(instance)
    with bpf.opened(instance.pin_path / "maps" / "counters") as fd:
        for meaning in counters.meanings():
            bpf.update(
                fd, bytes(ctypes.c_uint32(meaning.index)), bytes(ctypes.sizeof(layout.Counter) * possible_cpus())
            )
    yield
    instance.configure()


def count(instance: Ipvsca, name: str, total: int) -> None:
    """Have a counter stand there, on each CPU."""
    counter = layout.Counter(count=total, last_ns=time.monotonic_ns())
    index = next(meaning.index for meaning in counters.meanings() if meaning.name == name)
    with bpf.opened(instance.pin_path / "maps" / "counters") as fd:
        bpf.update(fd, bytes(ctypes.c_uint32(index)), bytes(counter) * possible_cpus())


loaded = pytest.mark.usefixtures("_loaded")
unloaded = pytest.mark.usefixtures("_unloaded")


def attached(instance: Ipvsca) -> list[str]:
    """What all is well looks like."""
    cgroup = settings.read_file(instance.config).cgroup
    return [*(f"{program.name} on {cgroup}: {program.does}" for program in CGROUP_PROGRAMS), "tc ingress of eth0"]


def nothing_is_loaded(instance: Ipvsca) -> str:
    return f"programs are loaded: nothing is loaded at {instance.pin_path}: run `ipvsca load`"


@unloaded
def test_not_loaded(instance: Ipvsca, check: Check) -> None:
    found = check()
    assert found.status == COULD
    assert found.no == [nothing_is_loaded(instance)]
    assert "Traffic" not in found.lines
    assert (found.json["last_option"], found.json["hints"]) == (None, [])
    assert found.json["source"] == {"here": source.digest(PROGRAMS), "loaded": None}
    requirements = [what.format(pin_path=instance.pin_path) for what in REQUIREMENTS]
    assert [each["what"] for each in found.json["requirements"]] == requirements


@loaded
def test_loaded(instance: Ipvsca, check: Check) -> None:
    found = check()
    assert found.status == RESTORING
    assert found.no == []
    whats = [each["what"] for each in found.json["attachments"]]
    digest = source.digest(PROGRAMS)
    assert whats == [f"programs of version {__version__} are loaded, source {digest[:12]}", *attached(instance)]
    assert found.json["source"] == {"here": digest, "loaded": digest}
    assert found.lines == [
        "This machine",
        *(f"  ok    {what.format(pin_path=instance.pin_path)}" for what in REQUIREMENTS),
        "Hooks",
        *(f"  ok    {what}" for what in whats),
        "Traffic",
        "  no client has been told by a trusted director yet",
        VERDICTS[RESTORING],
    ]


@loaded
def test_other_programs_are_still_restoring(monkeypatch: pytest.MonkeyPatch, check: Check) -> None:
    loaded = source.digest(PROGRAMS)
    monkeypatch.setattr(source, "digest", lambda _: "another version")
    found = check()
    assert found.status == RESTORING
    assert found.json["source"] == {"here": "another version", "loaded": loaded}
    suffix = "(not those of this ipvsca and its configuration: `ipvsca load` replaces them)"
    assert (
        found.json["attachments"][0]["what"]
        == f"programs of version {__version__} are loaded, source {loaded[:12]} {suffix}"
    )


def heals(instance: Ipvsca, check: Check) -> None:
    """Another load mends it."""
    load(instance)
    assert check().status == RESTORING


@loaded
@pytest.mark.parametrize("program", CGROUP_PROGRAMS, ids=lambda program: program.name)
def test_a_link_is_gone(instance: Ipvsca, check: Check, program: Program) -> None:
    (instance.pin_path / "links" / program.name).unlink()
    found = check()
    assert found.status == COULD
    cgroup = settings.read_file(instance.config).cgroup
    assert found.no == [f"{program.name} on {cgroup}: {program.does}: not attached there: `ipvsca load`"]
    heals(instance, check)


@loaded
@pytest.mark.parametrize("program", CGROUP_PROGRAMS, ids=lambda program: program.name)
def test_a_link_is_detached_but_still_pinned(instance: Ipvsca, check: Check, program: Program) -> None:
    """As `bpftool link detach` does."""
    with bpf.opened(instance.pin_path / "links" / program.name) as link:
        assert bpf._libbpf().bpf_link_detach(link) == 0
    found = check()
    assert found.status == COULD
    assert len(found.no) == 1
    assert found.no[0].startswith(program.name)
    heals(instance, check)


@loaded
def test_the_filter_is_gone(lab: Lab, instance: Ipvsca, check: Check) -> None:
    """Then nobody knows any more who made the clsact, and it stays."""
    lab.server.run(["tc", "filter", "del", "dev", "eth0", "ingress"])
    found = check()
    assert found.status == COULD
    assert found.no == ["tc ingress of eth0: not attached: `ipvsca load`"]
    heals(instance, check)
    lab.server.run(["tc", "qdisc", "del", "dev", "eth0", "clsact"])


@loaded
def test_the_filter_is_gone_with_its_clsact(lab: Lab, instance: Ipvsca, check: Check) -> None:
    lab.server.run(["tc", "qdisc", "del", "dev", "eth0", "clsact"])
    found = check()
    assert found.status == COULD
    assert found.no == ["tc ingress of eth0: not attached: `ipvsca load`"]
    heals(instance, check)


@contextmanager
def not_pinned(pin: Path) -> Iterator[None]:
    """What is pinned there is so no more inside the block, and again behind it."""
    with bpf.opened(pin) as fd:
        pin.unlink()
        try:
            yield
        finally:
            bpf.pin(fd, pin)


@loaded
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_program_is_not_pinned_any_more(instance: Ipvsca, check: Check, program: Program) -> None:
    """What is attached works on. Without a tc program's pin, its filter cannot be told from another's."""
    with not_pinned(instance.pin_path / "programs" / program.name):
        found = check()
    if program is INGRESS_ETHERNET:
        assert (found.status, found.no) == (COULD, ["tc ingress of eth0: not attached: `ipvsca load`"])
    else:
        assert (found.status, found.no) == (RESTORING, [])


@loaded
@pytest.mark.parametrize("program", [CGROUP_PROGRAMS[0], INGRESS_ETHERNET], ids=lambda program: program.name)
def test_a_program_that_is_not_pinned_is_loaded_anew(instance: Ipvsca, check: Check, program: Program) -> None:
    pin = instance.pin_path / "programs" / program.name
    pin.unlink()
    heals(instance, check)
    assert pin.exists()


@loaded
@pytest.mark.parametrize("name", KEYS_AND_VALUES)
def test_a_map_is_not_pinned_any_more(instance: Ipvsca, check: Check, name: str) -> None:
    with not_pinned(instance.pin_path / "maps" / name):
        found = check()
    assert found.status == COULD
    assert len(found.no) == 1
    assert found.no[0].startswith("programs are loaded: ")


@loaded
def test_a_map_that_is_not_pinned_is_made_anew(instance: Ipvsca, check: Check) -> None:
    (instance.pin_path / "maps" / "clients").unlink()
    unload(instance)
    heals(instance, check)


@loaded
@pytest.mark.parametrize("folder", ["links", "programs", "maps"])
def test_a_whole_folder_is_gone(instance: Ipvsca, check: Check, folder: str) -> None:
    shutil.rmtree(instance.pin_path / folder)
    assert check().status == COULD
    heals(instance, check)


@contextmanager
def interface(lab: Lab, name: str) -> Iterator[None]:
    """Another one; it may be gone at the end."""
    lab.server.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}peer"])
    try:
        yield
    finally:
        lab.server.run(["ip", "link", "delete", name], check=False)


@loaded
def test_an_interface_comes_and_goes(lab: Lab, instance: Ipvsca, check: Check) -> None:
    with interface(lab, "more0"):
        found = check()
        assert found.status == COULD
        assert set(found.no) == {
            f"tc ingress of {name}: not attached: `ipvsca load`" for name in ("more0", "more0peer")
        }
        heals(instance, check)
    assert check().status == RESTORING


@loaded
def test_an_interface_that_the_file_names_is_deleted(lab: Lab, instance: Ipvsca, check: Check) -> None:
    instance.configure(interfaces=["more0"])
    with interface(lab, "more0"):
        load(instance)
        assert check().status == RESTORING
    found = check()
    assert found.status == COULD
    assert found.no == ["tc ingress of more0: there is no such interface (yet)"]
    with interface(lab, "more0"):
        assert check().no == ["tc ingress of more0: not attached: `ipvsca load`"]
        heals(instance, check)


@loaded
def test_the_cgroup_is_gone_and_comes_again(instance: Ipvsca, check: Check) -> None:
    """As that of a service that is restarted: it has the same name, and nothing is attached to it."""
    cgroup = Path(settings.read_file(instance.config).cgroup)
    cgroup.rmdir()
    found = check()
    assert found.status == CANNOT
    missing = f'cgroup {cgroup} does not exist: create it, or set cgroup = "auto"'
    assert found.no == [f"cgroup v2: {missing}", f"the cgroup and interfaces of the settings: {missing}"]
    cgroup.mkdir()
    found = check()
    assert found.status == COULD
    assert found.no == [f"{what}: not attached there: `ipvsca load`" for what in attached(instance)[:-1]]
    heals(instance, check)


@loaded
def test_the_file_names_another_cgroup(lab: Lab, instance: Ipvsca, check: Check) -> None:
    instance.configure(cgroup=str(lab.cgroup))
    found = check()
    assert found.status == COULD
    assert found.no == [f"{what}: not attached there: `ipvsca load`" for what in attached(instance)[:-1]]
    heals(instance, check)


@loaded
def test_a_load_was_interrupted(instance: Ipvsca, check: Check) -> None:
    with bpf.opened(instance.pin_path / "maps" / "build") as build:
        bpf.update(build, bytes(4), bytes(bpf.map_info(build).value_size))
    found = check()
    assert found.status == COULD
    assert found.no == [f"programs are loaded: a load at {instance.pin_path} was interrupted: `ipvsca load`"]
    heals(instance, check)


@pytest.fixture
def without_bcc(tmp_path: Path) -> list[str]:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['bcc'] = None\n")
    return ["env", f"PYTHONPATH={tmp_path}"]


@loaded
def test_bcc_is_gone_while_loaded(check: Check, without_bcc: list[str]) -> None:
    """What is loaded needs it no more."""
    found = check(without_bcc)
    assert found.status == RESTORING
    assert len(found.no) == 1
    assert found.no[0].startswith("bcc, which compiles the programs: bcc's Python binding is not installed")


@unloaded
def test_no_bcc(instance: Ipvsca, check: Check, without_bcc: list[str]) -> None:
    found = check(without_bcc)
    assert found.status == CANNOT
    assert len(found.no) == 2
    assert found.no[1] == nothing_is_loaded(instance)


@unloaded
def test_an_old_kernel(instance: Ipvsca, check: Check) -> None:
    found = check(["setarch", "--uname-2.6"])
    assert found.status == CANNOT
    assert len(found.no) == 2
    assert found.no[0].startswith("Linux 5.10 or newer: kernel 2.6.")
    assert found.no[1] == nothing_is_loaded(instance)


@unloaded
def test_no_permission(instance: Ipvsca, check: Check) -> None:
    found = check(["setpriv", "--bounding-set=-all", "--inh-caps=-all"])
    assert found.status == CANNOT
    assert len(found.no) == 2
    assert found.no[0].startswith(
        "permission to load BPF programs: no permission to load BPF programs (CAP_NET_ADMIN, "
    )


@unloaded
@pytest.mark.parametrize("kind", ["no bpffs", "no parent", "all of a bpffs", "a file above", "too long"])
def test_no_place_for_pins(lab: Lab, instance: Ipvsca, check: Check, tmp_path: Path, kind: str) -> None:
    paths = {
        "no bpffs": tmp_path / "ipvsca",
        "no parent": lab.bpffs / "none" / "ipvsca",
        "all of a bpffs": lab.bpffs,
        "a file above": instance.config / "ipvsca",
        "too long": tmp_path / "short",
    }
    (tmp_path / "short").symlink_to("x" * 300)
    instance.configure(pin_path=str(paths[kind]))
    try:
        found = check()
    finally:
        instance.configure()
    assert found.status == CANNOT
    assert len(found.no) == 2
    assert found.no[0].startswith(f"a BPF file system for {paths[kind]}: ")
    assert found.no[1].startswith("programs are loaded: ")


def serve(traffic: Traffic, instance: Ipvsca, way: Way, toa: Toa) -> None:
    """Four clients, told like this, to a listener in the checked cgroup."""
    cgroup = Path(settings.read_file(instance.config).cgroup)
    with traffic.serving(ACCEPT, way, cgroup=cgroup):
        traffic.direct(way, toa)
        traffic.ask(ACCEPT, way)


LIPS = {4: set(map(str, a.LIPS_V4)), 6: set(map(str, a.LIPS_V6))}


def notes(found: Checked) -> dict[str, str]:
    """Text by counter; the JSON form has all that the text has, and each hint's director is one."""
    hints = found.json["hints"]
    said = [line for line in found.traffic if line.startswith("  note  ")]
    assert len(said) == len(hints)
    for line, hint in zip(said, hints, strict=True):
        assert line.startswith(f"  note  {hint['counter']} {hint['total']}")
        assert line.endswith(f": {hint['text']}")
        assert hint["last_source"] is None or f", last from {hint['last_source']} " in line
    return {hint["counter"]: hint["text"] for hint in hints}


MEANS = {
    Where.ACK: "TCP connections whose client came in the segment that ended the handshake",
    Where.SYN: "TCP connections whose client came in their SYN",
}


@loaded
@pytest.mark.parametrize(("way", "where"), [(IPV4, Where.ACK), (IPV6, Where.SYN)], ids=str)
def test_the_last_option_and_its_director(
    traffic: Traffic, instance: Ipvsca, check: Check, way: Way, where: Where
) -> None:
    serve(traffic, instance, way, Toa(where))
    found = check()
    assert found.status == RESTORING
    assert notes(found) == {}
    assert set(found.json["last_option"]) == {"seconds_ago", "director"}
    assert found.json["last_option"]["director"] in LIPS[way.vip.version]
    assert 0 < found.json["last_option"]["seconds_ago"] < 60
    line, *_ = found.traffic
    assert line.startswith("  last option ")
    assert line.endswith(f" s ago, from director {found.json['last_option']['director']} ({MEANS[where]})")


@loaded
def test_connections_without_an_option(traffic: Traffic, instance: Ipvsca, check: Check) -> None:
    serve(traffic, instance, IPV4, Toa(Where.NONE))
    found = check()
    assert found.status == RESTORING
    assert notes(found) == {"tcp_no_client": NO_OPTION}
    assert found.json["hints"][0]["total"] == CLIENTS_AT_ONCE
    assert found.traffic[0] == "  no client has been told by a trusted director yet"
    serve(traffic, instance, IPV4, Toa(Where.ACK))
    assert notes(check()) == {}, "health checks of a director come without an option"


UNTRUSTED = "a director is missing in `trusted`, or somebody else sends options: they are not believed"
MALFORMED = "a director, or something between, writes broken TCP headers"
LENGTH = "somebody else's option uses a kind of tcpopt_addr; set tcpopt_addr to the kind your directors send"
KIND = "a director announces with an option kind that is not in tcpopt_addr: add it"
CLIENT = "a director sends an address that no client can have"


def broken(where: Where, raw: str) -> Toa:
    return Toa(where, position=Position.LAST, raw=bytes.fromhex(raw))


@loaded
@pytest.mark.parametrize(
    ("toa", "expected"),
    [
        (broken(Where.ACK, "fe00"), {"refused_ack_malformed": MALFORMED}),
        (broken(Where.SYN, "fe00"), {"refused_syn_malformed": MALFORMED}),
        (broken(Where.ACK, "fe07029ac00002"), {"refused_ack_length": LENGTH}),
        (broken(Where.SYN, "fe07029ac00002"), {"refused_syn_length": LENGTH}),
        (broken(Where.ACK, "fe080000c0000242"), {"refused_ack_client": CLIENT}),
        (broken(Where.SYN, "fe08029a7f000001"), {"refused_syn_client": CLIENT}),
    ],
)
def test_a_broken_option(traffic: Traffic, instance: Ipvsca, check: Check, toa: Toa, expected: Any) -> None:
    serve(traffic, instance, IPV4, toa)
    found = check()
    assert found.status == RESTORING
    assert notes(found) == expected
    assert found.json["hints"][0]["total"] == CLIENTS_AT_ONCE
    assert found.json["hints"][0]["last_source"] in LIPS[4]
    assert found.json["last_option"] is None


@loaded
@pytest.mark.parametrize("where", [Where.SYN, Where.ACK], ids=str)
def test_a_director_that_is_not_trusted(traffic: Traffic, instance: Ipvsca, check: Check, where: Where) -> None:
    instance.configure(trusted="192.0.2.0/24")
    load(instance)
    serve(traffic, instance, IPV4, Toa(where))
    found = check()
    assert found.status == RESTORING
    assert notes(found) == {f"refused_{where}_untrusted": UNTRUSTED}
    assert found.json["hints"][0]["last_source"] in LIPS[4]


NARROWER = f"  tip   {cli.module('check')._NARROWER}:"


def proposal(found: Checked) -> set[str] | None:
    """What `trusted` could be: the line for the file, in both forms the same, and accepted there."""
    if found.json["narrower_trust"] is None:
        assert NARROWER not in found.lines
        return None
    tip, line = found.traffic[-2:]
    assert tip == NARROWER
    assert line.strip() == found.json["narrower_trust"]["toml"]
    trusted: list[str] = found.json["narrower_trust"]["trusted"]
    assert tomllib.loads(line) == {"trusted": trusted}
    return set(trusted)


@loaded
def test_a_narrower_trust(traffic: Traffic, instance: Ipvsca, check: Check) -> None:
    """Each LIP through which clients came, long gone ones too; pasted into the file they are believed, and enough."""
    instance.configure(tcp_connect=True)
    load(instance)
    _forget_directors(instance)
    assert proposal(check()) is None, "nobody was seen"
    serve(traffic, instance, IPV4, Toa(Where.ACK))
    assert proposal(check()) == LIPS[4]
    serve(traffic, instance, IPV6, Toa(Where.SYN))
    found = check()
    assert proposal(found) == LIPS[4] | LIPS[6]
    instance.configure(tcp_connect=True, trusted=found.json["narrower_trust"]["trusted"])
    load(instance)
    serve(traffic, instance, IPV4, Toa(Where.ACK))
    again = check()
    assert proposal(again) is None
    assert notes(again) == {}


@loaded
def test_a_narrower_trust_by_flows(datagrams: Datagrams, instance: Ipvsca, check: Check) -> None:
    _forget_directors(instance)
    announce(datagrams, Announce())
    assert proposal(check()) == LIPS[4]


@loaded
def test_who_only_sends_syns_is_no_director(traffic: Traffic, instance: Ipvsca, check: Check) -> None:
    _forget_directors(instance)
    traffic.direct(IPV4, Toa(Where.SYN))
    with pytest.raises(ConnectionRefusedError):
        traffic.connect(Endpoint(IPV4.vip, SERVICE_PORT), IPV4.sources[0])
    assert proposal(check()) is None
    _forget_directors(instance)


def _forget_directors(instance: Ipvsca) -> None:
    with DataPlane(instance.pin_path) as plane:
        for place in plane.table("connects").keys():  # noqa: SIM118
            plane.table("connects").put(place, layout.Director())
        for name in ("replies", "flows"):
            for key in list(plane.table(name).keys()):
                plane.table(name).remove(key)
        plane.forget_handshakes(time.monotonic_ns())


def announce(datagrams: Datagrams, announced: Announce) -> None:
    """The flows of four clients, told like this."""
    with datagrams.serving(RECVFROM, BOUND) as process:
        datagrams.direct(BOUND, announced)
        datagrams.ask(RECVFROM, BOUND, process.directory)


@loaded
def test_the_last_announcement_and_its_director(datagrams: Datagrams, check: Check) -> None:
    announce(datagrams, Announce())
    found = check()
    assert found.status == RESTORING
    assert notes(found) == {}
    assert found.json["last_option"]["director"] in LIPS[4]
    line, *_ = found.traffic
    assert line.startswith("  last option ")
    director = found.json["last_option"]["director"]
    assert line.endswith(f" s ago, from director {director} (announcements that were believed)")


@loaded
@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"trusted": "192.0.2.0/24"}, {"refused_announcement_untrusted": UNTRUSTED}),
        ({"tcpopt_addr": KIND_DPVS}, {"refused_announcement_kind": KIND}),
    ],
    ids=["from where", "of what kind"],
)
def test_an_announcement_that_is_not_expected(
    datagrams: Datagrams, instance: Ipvsca, check: Check, wrong: dict[str, Any], expected: dict[str, str]
) -> None:
    instance.configure(**wrong)
    load(instance)
    announce(datagrams, Announce(kind=KIND_LVS))
    found = check()
    assert found.status == RESTORING
    assert notes(found) == expected
    assert found.json["hints"][0]["total"] == CLIENTS_AT_ONCE
    assert found.json["hints"][0]["last_source"] in LIPS[4]
    assert found.json["last_option"] is None


@loaded
def test_clients_that_cannot_be_shown(traffic: Traffic, instance: Ipvsca, check: Check) -> None:
    serve(traffic, instance, NAT64_ON_IPV4, Toa(Where.ACK))
    found = check()
    assert notes(found) == {
        "getpeername_unshowable": (
            "clients have IPv6, but the application listens on an IPv4 socket: let it listen on [::]"
        )
    }
    assert found.json["last_option"]["director"] in LIPS[4]


@loaded
def test_handshakes_that_take_too_long(traffic: Traffic, instance: Ipvsca, check: Check) -> None:
    """The ACK that ends the handshake gets lost, and the first data comes when the SYN is long past."""
    cgroup = Path(settings.read_file(instance.config).cgroup)
    short = instance.having("tcp_timeout", "1")  # the machine may have started a minute ago
    with short, traffic.serving(ACCEPT, IPV4, cgroup=cgroup), DataPlane(instance.pin_path) as plane:
        traffic.direct(IPV4, Toa(Where.SYN), lose_final_ack=True)
        with traffic.connect(Endpoint(IPV4.vip, SERVICE_PORT), IPV4.sources[0]) as client:
            ((handshake, told),) = plane.handshakes()
            told.learnt_ns = 1
            plane.table("handshakes").put(handshake, told)
            ACCEPT.ask(client)
    found = check()
    assert notes(found)["syn_expired"] == "handshakes take longer than tcp_timeout: raise it"


@loaded
@pytest.mark.parametrize("others", ["syn_learnt", "announcement_learnt", "refused_announcement_kind", "opp_learnt"])
def test_nothing_comes_but_options_in_the_ack(instance: Ipvsca, check: Check, others: str) -> None:
    """Where tc ingress is of no use, that is said; not on the word of a few, and not where anything else comes."""
    count(instance, "tcp_restored_ack", (ENOUGH - 1) // possible_cpus())
    assert notes(check()) == {}
    count(instance, "tcp_restored_ack", ENOUGH)
    assert notes(check()) == {"tcp_restored_ack": ONLY_ACK}
    count(instance, others, 1)
    assert "tcp_restored_ack" not in notes(check())


@loaded
def test_tc_ingress_is_not_used_anyway(instance: Ipvsca, check: Check) -> None:
    instance.configure(interfaces=[])
    load(instance)
    count(instance, "tcp_restored_ack", ENOUGH)
    assert notes(check()) == {}
