"""What is missing is said in one line with what to do, and nothing is left half attached. Nor is anything touched."""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from ipvsca import cli, loader, settings
from ipvsca.dataplane import DataPlane
from ipvsca.kernel import bpf, compiler, layout
from ipvsca.kernel.interfaces import Interfaces
from ipvsca.kernel.maps import KEYS_AND_VALUES
from ipvsca.kernel.programs import Program
from tests.e2e.privilege import MAPS_ARE_LOCKED_MEMORY, MEMORY, with_capabilities
from tests.kernel_state import KernelState, settles
from tests.lab import sandbox, tuntap
from tests.lab.topology import Lab
from tests.rig import CGROUP_PROGRAMS, REPOSITORY, Ipvsca

Picture = Callable[[], KernelState]

NOBODY = ["setpriv", "--reuid=65534", "--clear-groups"]
NO_PERMISSION = "no permission to load BPF programs (CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF missing): run as root (sudo)"


@pytest.fixture(scope="module")
def instance(lab: Lab) -> Iterator[Ipvsca]:
    """One whose configuration everybody may read."""
    with tempfile.TemporaryDirectory(prefix="ipvsca-test-") as folder:
        Path(folder).chmod(0o755)
        yield Ipvsca(lab.server, lab.bpffs / "missing", lab.cgroup, Path(folder))


@pytest.fixture(autouse=True)
def _file_again(instance: Ipvsca) -> Iterator[None]:
    yield
    instance.configure()


@contextmanager
def loaded(instance: Ipvsca) -> Iterator[None]:
    """Loaded and unloaded in this process, which is quicker."""
    wanted = settings.read_file(instance.config)
    with instance.namespace.entered():
        loader.load(wanted)
    try:
        yield
    finally:
        with instance.namespace.entered():
            loader.unload(wanted.pin_path)


@pytest.fixture
def picture(lab: Lab) -> Picture:
    return partial(KernelState.of, lab.server, lab.cgroup, lab.bpffs)


@dataclass(frozen=True)
class Said:
    """What a verb that could not do its work said, and ended with."""

    message: str
    status: int


Run = Callable[..., Said]


@pytest.fixture
def run(instance: Ipvsca, picture: Picture, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a verb that cannot do its work, here or behind a `prefix` in a process of its own."""

    def run_it(*words: str, prefix: list[str] | None = None) -> Said:
        before = picture()
        if prefix is None:
            with instance.namespace.entered():
                status = cli.main([*words, "--config", str(instance.config)])
            printed, said = capsys.readouterr()
        else:
            argv = [*prefix, *instance.command(*words)]
            done = instance.namespace.run(argv, check=False, cwd=REPOSITORY)
            printed, said, status = done.stdout, done.stderr, done.returncode
        assert picture() == before
        assert printed == ""
        assert re.fullmatch(r"ipvsca: .+\n", said), said
        return Said(said.removeprefix("ipvsca: ").removesuffix("\n"), status)

    return run_it


WORDS = {verb: [verb, "tcp_timeout=60"] if verb == "set" else [verb] for verb in cli.VERBS}
CHANGING = ("load", "run", "unload")
READING = ("stats", "list", "get", "set")


@pytest.fixture(scope="module")
def nobody(instance: Ipvsca) -> list[str]:
    """A prefix for who is not root and may do nothing, but can read the source."""
    argv = [*NOBODY, sys.executable, "-m", "ipvsca", "--version"]
    if instance.namespace.run(argv, check=False, cwd=REPOSITORY).returncode:
        pytest.skip(f"needs: {REPOSITORY} readable by everybody")
    return NOBODY


@pytest.mark.parametrize("verb", CHANGING)
def test_without_root_nothing_is_changed(run: Run, nobody: list[str], verb: str) -> None:
    assert run(verb, prefix=nobody) == Said(NO_PERMISSION, 1)


@pytest.mark.parametrize("verb", READING)
def test_without_root_it_can_be_seen_that_nothing_is_loaded(
    instance: Ipvsca, run: Run, nobody: list[str], verb: str
) -> None:
    expected = Said(f"nothing is loaded at {instance.pin_path}: run `ipvsca load`", 1)
    assert run(*WORDS[verb], prefix=nobody) == expected


def test_without_root_nothing_can_be_read_or_set(instance: Ipvsca, run: Run, nobody: list[str]) -> None:
    first_map = {"stats": "counters", "list": "clients", "get": "settings", "set": "settings"}
    with loaded(instance):
        assert run("unload", prefix=nobody) == Said(NO_PERMISSION, 1)
        for verb in READING:
            path = instance.pin_path / "maps" / first_map[verb]
            assert run(*WORDS[verb], prefix=nobody) == Said(f"{path} cannot be opened: run as root (sudo)", 1)
        with DataPlane(instance.pin_path) as plane:
            assert plane.settings().tcp_timeout == 90
        done = instance.namespace.run([*nobody, *instance.command("check")], check=False, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (1, "")
    path = instance.pin_path / "maps" / "build"
    assert [line.strip() for line in done.stdout.splitlines() if line.startswith("  NO ")] == [
        f"NO    permission to load BPF programs: {NO_PERMISSION}",
        f"NO    programs are loaded: {path} cannot be opened: run as root (sudo)",
    ]
    assert "director" not in done.stdout, "what was not read is not known"


def test_a_file_that_only_root_may_read(instance: Ipvsca, run: Run, nobody: list[str]) -> None:
    instance.config.chmod(0o600)
    try:
        expected = Said(f"{instance.config}: cannot be read: Permission denied", 2)
        assert run("stats", prefix=nobody) == expected
    finally:
        instance.config.chmod(0o644)


@pytest.mark.parametrize(
    ("kept", "missing"),
    [
        ("", "CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF"),
        ("sys_admin", "CAP_NET_ADMIN"),
        ("net_admin", "CAP_PERFMON, CAP_BPF"),
        ("net_admin bpf", "CAP_PERFMON"),
        ("net_admin perfmon", "CAP_BPF"),
        ("perfmon bpf", "CAP_NET_ADMIN"),
    ],
)
def test_a_capability_is_missing(run: Run, kept: str, missing: str) -> None:
    prefix = with_capabilities(*kept.split())
    assert run("load", prefix=prefix) == Said(
        f"no permission to load BPF programs ({missing} missing): run as root (sudo)", 1
    )


@pytest.mark.parametrize("kept", ["net_admin sys_admin", "net_admin perfmon bpf"])
def test_more_capabilities_are_not_needed(instance: Ipvsca, picture: Picture, kept: str) -> None:
    """To load, to look and to set; replacing what is loaded takes CAP_SYS_ADMIN, by which bcc opens maps."""
    before = picture()
    prefix = [*MEMORY, *with_capabilities(*kept.split())]
    try:
        for verb in ("load", "list", "set", "unload"):
            instance.namespace.run([*prefix, *instance.command(*WORDS[verb])], cwd=REPOSITORY)
        settles(picture, before)
    finally:
        instance.run("unload")


def test_memory_that_may_not_be_locked(instance: Ipvsca, picture: Picture) -> None:
    before = picture()
    prefix = ["prlimit", "--memlock=65536", *with_capabilities("net_admin", "perfmon", "bpf")]
    try:
        done = instance.namespace.run([*prefix, *instance.command("load")], check=False, cwd=REPOSITORY)
        told = "counts maps as locked memory, of which 65536 bytes are allowed" in done.stderr
        assert (done.returncode, told) == ((1, True) if MAPS_ARE_LOCKED_MEMORY else (0, False))
    finally:
        instance.run("unload")
    settles(picture, before)


@pytest.mark.parametrize("verb", ["load", "run"])
def test_an_old_kernel(run: Run, verb: str) -> None:
    said = run(verb, prefix=["setarch", "--uname-2.6"])
    assert re.fullmatch(r"kernel 2\.6\.\S+ is too old: ipvsca needs 5\.10 or newer", said.message)
    assert said.status == 1


@contextmanager
def mounted(path: Path, kind: str) -> Iterator[Path]:
    path.mkdir()
    subprocess.run(["mount", "-t", kind, kind, path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)
        path.rmdir()


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_pin_path_in_another_file_system(instance: Ipvsca, run: Run, tmp_path: Path, verb: str) -> None:
    with mounted(tmp_path / "other", "tmpfs") as other:
        path = other / "ipvsca"
        instance.configure(pin_path=str(path))
        remedy = "set one that is; `findmnt -t bpf` shows where one is mounted"
        assert run(verb) == Said(f"pin_path {path} is not in a BPF file system: {remedy}", 1)
        assert list(other.iterdir()) == []


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_no_bpf_file_system_where_one_usually_is(run: Run, instance: Ipvsca, verb: str) -> None:
    """A tmpfs is mounted over /sys/fs/bpf, for this process alone."""
    instance.configure(pin_path="/sys/fs/bpf/ipvsca")
    hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/fs/bpf && exec "$0" "$@"']
    expected = "pin_path /sys/fs/bpf/ipvsca is not in a BPF file system: mount one with `mount -t bpf bpf /sys/fs/bpf`"
    assert run(verb, prefix=hidden) == Said(expected, 1)


WRONG_PIN_PATHS = {
    "no folder above": ("none/ipvsca", "{bpffs}/none does not exist: create it, or set another pin_path"),
    "all of it": ("", "pin_path {bpffs} is all of a BPF file system: name a folder in it, {bpffs}/ipvsca"),
    "all of it, by a detour": ("x/..", "pin_path {bpffs}/x/.. is all of a BPF file system: name a folder in it, "),
    "a dot in the name": (
        "ipvsca.1",
        "pin_path {bpffs}/ipvsca.1: a BPF file system takes no dots in names: set another",
    ),
    "a pinned map": ("map", "pin_path {bpffs}/map is no folder: set another pin_path"),
    "below a pinned map": ("map/x", "{bpffs}/map does not exist: create it, or set another pin_path"),
}


@pytest.mark.parametrize("verb", ["load", "unload"])
@pytest.mark.parametrize(("name", "expected"), WRONG_PIN_PATHS.values(), ids=WRONG_PIN_PATHS)
def test_a_wrong_pin_path(instance: Ipvsca, run: Run, verb: str, name: str, expected: str) -> None:
    """What others have pinned there stays: `unload` removes a whole folder."""
    bpffs = instance.pin_path.parent
    instance.configure(pin_path=f"{bpffs}/{name}".rstrip("/"))
    with pinned_map(bpffs / "map"):
        said = run(verb)
    assert said.message.startswith(expected.format(bpffs=bpffs))
    assert said.status == 1


@contextmanager
def pinned_map(path: Path, *, kind: str = "hash", key: int = 4, value: int = 4) -> Iterator[None]:
    """Somebody else's map; its pin is taken away at the end, if it is still there."""
    options = f"type {kind} key {key} value {value} entries 16 name other"
    subprocess.run(["bpftool", "map", "create", path, *options.split()], check=True)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def test_no_such_cgroup(lab: Lab, instance: Ipvsca, run: Run) -> None:
    for path in (lab.cgroup / "none", lab.cgroup / "cgroup.procs"):
        instance.configure(cgroup=str(path))
        assert run("load") == Said(f'cgroup {path} does not exist: create it, or set cgroup = "auto"', 1)


def test_a_folder_that_is_no_cgroup(instance: Ipvsca, run: Run, tmp_path: Path) -> None:
    instance.configure(cgroup=str(tmp_path))
    assert run("load") == Said(
        f"{tmp_path} is not in a cgroup v2 hierarchy: `findmnt -t cgroup2` shows where that is mounted", 1
    )


def test_no_cgroup_v2(instance: Ipvsca, run: Run) -> None:
    instance.configure(cgroup="auto")
    hidden = ["unshare", "--mount", "sh", "-c", f'umount --lazy {sandbox.cgroup2_mount()} && exec "$0" "$@"']
    expected = "no cgroup v2 is mounted: mount it with `mount -t cgroup2 none /sys/fs/cgroup`"
    assert run("load", prefix=hidden) == Said(expected, 1)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Everything that is installed beside prometheus_client, but bcc."""
    spec = importlib.util.find_spec("prometheus_client")
    assert spec
    assert spec.origin
    for path in Path(spec.origin).parent.parent.iterdir():
        if not path.name.startswith("bcc"):
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


@pytest.mark.parametrize("another", [False, True], ids=["none", "another project's"])
@pytest.mark.parametrize("verb", ["load", "run"])
def test_no_bcc(instance: Ipvsca, packages: Path, picture: Picture, verb: str, another: bool) -> None:
    if another:
        (packages / "bcc").mkdir()
        (packages / "bcc" / "__init__.py").touch()
    before = picture()
    _, *rest = instance.command(verb)
    environment = os.environ | {"PYTHONPATH": str(packages)}
    done = instance.namespace.run([sys.executable, "-S", *rest], check=False, cwd=REPOSITORY, env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"ipvsca: bcc's Python binding is not installed for {sys.executable}: `apt install python3-bpfcc`, which is for"
        " /usr/bin/python3 (`bcc` on PyPI is another project)\n"
    )
    assert picture() == before


@pytest.mark.parametrize("names", [["none0"], ["eth0", "none0"], "none0"], ids=str)
def test_no_such_interface(instance: Ipvsca, names: object) -> None:
    """It may come later: everything else is loaded."""
    expected = (
        "ipvsca: interface none0 does not exist: `ipvsca run` attaches to it when it comes, as does `ipvsca load`\n"
    )
    instance.configure(interfaces=names)
    try:
        assert instance.run("load").stderr == expected
        not_ok = [finding for finding in instance.json("check", status=3)["attachments"] if not finding["ok"]]
        assert not_ok == [{"what": "tc ingress of none0", "ok": False, "remedy": "there is no such interface (yet)"}]
    finally:
        instance.run("unload")


TUNSETLINK = 0x400454CD
ARPHRD_CAN = 280


@contextmanager
def can_device(lab: Lab, name: str) -> Iterator[None]:
    """A device that carries no IP: a TAP device that says it is a CAN bus."""
    lab.server.run(["ip", "tuntap", "add", "dev", name, "mode", "tap"])
    try:
        with lab.server.entered():
            tap = tuntap.open_device(name, tuntap.TAP)
        fcntl.ioctl(tap, TUNSETLINK, ARPHRD_CAN)
        os.close(tap)
        yield
    finally:
        lab.server.run(["ip", "link", "delete", name])


def test_an_interface_without_ip(lab: Lab, instance: Ipvsca, run: Run) -> None:
    instance.configure(interfaces=["eth0", "can0"])
    with can_device(lab, "can0"):
        assert run("load") == Said("interface can0 (hardware type 280) carries no IP that we can read", 1)
        with lab.server.entered(), Interfaces() as interfaces:
            assert [interface.name for interface in interfaces.select("auto")] == ["eth0"]


HOOKS = {program.name: program for program in CGROUP_PROGRAMS}
PEER6, SOCK_OPS = HOOKS["ipvsca_peer6"], HOOKS["ipvsca_sockops"]

EXCLUSIVE, OVERRIDABLE = 0, 1  # 0 and BPF_F_ALLOW_OVERRIDE of linux/bpf.h

OTHERS = """
int other_ops(struct bpf_sock_ops *ops) { return 1; }
int other_peer(struct bpf_sock_addr *call) { return 1; }
"""


@contextmanager
def held(lab: Lab, hook: Program, cgroup: Path, flags: int) -> Iterator[None]:
    """Another program, attached to a hook of ours the old way: not beside others."""
    name = "other_ops" if hook is SOCK_OPS else "other_peer"
    other = Program(name, "", hook.type, hook.attach, "nothing")
    libbpf = ctypes.CDLL("libbpf.so.1")
    folder = os.open(cgroup, os.O_RDONLY)
    try:
        with compiler.compiled(OTHERS, lab.bpffs, 1024) as module:
            program = compiler.load(module, other)
            assert hook.attach is not None
            assert libbpf.bpf_prog_attach(program, folder, int(hook.attach), flags) == 0
            try:
                yield
            finally:
                assert libbpf.bpf_prog_detach2(program, folder, int(hook.attach)) == 0
    finally:
        os.close(folder)


def is_held(hook: Program, cgroup: Path) -> Said:
    return Said(
        f"{hook.name} ({hook.does}) cannot be attached to {cgroup}: another program holds this hook alone, there or in"
        " a cgroup above: `bpftool cgroup tree` shows it, without the word `multi`; detach it, or set another cgroup",
        1,
    )


@pytest.mark.parametrize(
    ("hook", "flags"),
    [(CGROUP_PROGRAMS[0], EXCLUSIVE), (SOCK_OPS, EXCLUSIVE), (CGROUP_PROGRAMS[-1], EXCLUSIVE), (SOCK_OPS, OVERRIDABLE)],
    ids=lambda value: value.name if isinstance(value, Program) else ("exclusive", "overridable")[value],
)
def test_a_hook_that_another_program_holds_alone(lab: Lab, run: Run, hook: Program, flags: int) -> None:
    with held(lab, hook, lab.cgroup, flags):
        assert run("load") == is_held(hook, lab.cgroup)


def test_a_hook_that_is_held_in_a_cgroup_above(lab: Lab, run: Run) -> None:
    with held(lab, PEER6, lab.cgroup.parent, EXCLUSIVE):
        assert run("load") == is_held(PEER6, lab.cgroup)


def test_a_hook_is_held_where_a_loaded_one_is_to_move(lab: Lab, instance: Ipvsca, run: Run) -> None:
    """Those before it have moved already, and move back."""
    other = lab.cgroup.parent / "other"
    other.mkdir()
    try:
        with loaded(instance), held(lab, PEER6, other, EXCLUSIVE):
            instance.configure(cgroup=str(other))
            assert run("load") == is_held(PEER6, other)
    finally:
        other.rmdir()


def test_a_hook_is_held_where_a_link_was_lost(lab: Lab, instance: Ipvsca, run: Run) -> None:
    """The link that could be made anew before is taken off again."""
    with loaded(instance):
        for program in (PEER6, SOCK_OPS):
            (instance.pin_path / "links" / program.name).unlink()
        with held(lab, SOCK_OPS, lab.cgroup, EXCLUSIVE):
            assert run("load") == is_held(SOCK_OPS, lab.cgroup)


def refused(interface: str, reason: str) -> Said:
    return Said(
        f"tc ingress of {interface}: the kernel refuses our filter ({reason}): `tc qdisc show dev {interface}` shows"
        " what is there; `interfaces` in the file can leave it out",
        1,
    )


@contextmanager
def shared_block(lab: Lab) -> Iterator[None]:
    """An interface, more0, whose ingress takes filters only through a block that interfaces share."""
    lab.server.run(["ip", "link", "add", "more0", "type", "veth", "peer", "name", "more1"])
    try:
        lab.server.run(["tc", "qdisc", "add", "dev", "more0", "ingress_block", "7", "clsact"])
        yield
    finally:
        lab.server.run(["ip", "link", "delete", "more0"])


def test_an_interface_that_refuses_filters(lab: Lab, instance: Ipvsca, run: Run) -> None:
    """What was attached to others before it is taken off again; without it all is well."""
    with shared_block(lab):
        instance.configure(interfaces=["eth0", "more0"])
        assert run("load") == refused("more0", "Operation not supported")
        instance.configure(interfaces=["eth0"])
        with loaded(instance):
            instance.configure(interfaces=["eth0", "more0"])
            assert run("load") == refused("more0", "Operation not supported")


def test_a_clsact_made_for_a_refused_filter_goes_with_it(lab: Lab, instance: Ipvsca, run: Run, tmp_path: Path) -> None:
    """A filter's name, in which ours says where its programs are pinned, has at most 255 bytes."""
    (tmp_path / "short").symlink_to(lab.bpffs / ("x" * 250))
    instance.configure(pin_path=str(tmp_path / "short"))
    assert "clsact" not in lab.server.run(["tc", "qdisc", "show", "dev", "eth0"]).stdout
    assert run("load") == refused("eth0", "Invalid argument")


OTHER_MAPS = {
    "a longer key": {"kind": "lru_hash", "key": 44, "value": 32},
    "a shorter value": {"kind": "lru_hash", "key": 40, "value": 8},
    "a longer value": {"kind": "lru_hash", "key": 40, "value": 64},
}


@contextmanager
def empty_maps_of_another_version(instance: Ipvsca, name: str, **options: object) -> Iterator[Path]:
    """A pin folder with one map, which is given."""
    folder = instance.pin_path / "maps"
    folder.mkdir(parents=True)
    try:
        with pinned_map(folder / name, **options):  # type: ignore[arg-type]
            for empty in ("programs", "links"):
                (instance.pin_path / empty).mkdir()
            yield folder / name
    finally:
        instance.run("unload")


@contextmanager
def maps_of_another_version(instance: Ipvsca, name: str, **options: object) -> Iterator[bytes]:
    """A pin folder with one map, with an entry in it; gives the entry's key."""
    with empty_maps_of_another_version(instance, name, **options) as path:
        with bpf.opened(path) as fd:
            info = bpf.map_info(fd)
            key = b"k" * info.key_size
            bpf.update(fd, key, b"v" * info.value_size)
        yield key


@pytest.mark.parametrize("options", OTHER_MAPS.values(), ids=OTHER_MAPS)
def test_maps_of_another_version(instance: Ipvsca, run: Run, options: dict[str, object]) -> None:
    """They are refused and left as they are, with what is in them."""
    path = instance.pin_path / "maps" / "handshakes"
    with maps_of_another_version(instance, "handshakes", **options) as key:
        said = run("load")
        with bpf.opened(path) as fd:
            assert bpf.lookup(fd, key, bpf.map_info(fd).value_size) == b"v" * bpf.map_info(fd).value_size
    assert said.status == 1
    if options["key"] == 44:
        assert said.message == (
            f"{instance.pin_path} holds maps of another version or max_flows (handshakes: key and value of (44, 32)"
            " bytes, not (40, 32)): `ipvsca unload`, then load again; clients known until then are lost"
        )


def test_after_unload_there_is_room_for_maps_of_another_version(instance: Ipvsca, run: Run) -> None:
    with maps_of_another_version(instance, "handshakes", **OTHER_MAPS["a longer key"]):
        assert run("load").status == 1
        instance.run("unload")
        with loaded(instance):
            pass


SIZES = {
    "counters": (layout.Counter, 128),
    "flows": (layout.Learnt, 131072),
    "replies": (layout.PackedEndpoint, 131072),
}
KINDS = {"counters": "percpu_array", "flows": "lru_hash", "replies": "lru_hash"}


@pytest.mark.parametrize("name", SIZES)
def test_maps_with_another_number_of_entries(instance: Ipvsca, run: Run, name: str) -> None:
    """Those of another version, with room for fewer counters, or of another max_flows."""
    (value, entries), (key, _) = SIZES[name], KEYS_AND_VALUES[name]
    sizes = {"key": ctypes.sizeof(key), "value": ctypes.sizeof(value)}
    with empty_maps_of_another_version(instance, name, kind=KINDS[name], **sizes):
        assert run("load") == Said(
            f"{instance.pin_path} holds maps of another version or max_flows ({name}: 16 entries, not {entries}):"
            " `ipvsca unload`, then load again; clients known until then are lost",
            1,
        )


@pytest.mark.parametrize("verb", [*READING])
def test_nothing_is_loaded(instance: Ipvsca, run: Run, verb: str) -> None:
    assert run(*WORDS[verb]) == Said(f"nothing is loaded at {instance.pin_path}: run `ipvsca load`", 1)
