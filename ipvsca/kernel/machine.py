"""What this machine has to have: asked before anything is changed, and told in one line with what to do."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ipvsca.errors import Problem

OLDEST_KERNEL = (5, 10)
"""The first with the TCP header in sock_ops (bpf_sock_ops.skb_data), the newest thing that we need."""

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_BPF": 39}
_CAP_SYS_ADMIN = 21  # includes CAP_PERFMON and CAP_BPF
_CAP_SYS_RESOURCE = 24

_MEMORY_OF_CGROUP = (5, 11)
"""The first kernel that counts maps as memory of the cgroup. Those before count them against RLIMIT_MEMLOCK."""

_FIRST_CGROUP_NAMESPACE = 0xEFFFFFFB  # PROC_CGROUP_INIT_INO, linux/proc_ns.h

_CONTROLLERS = Path("/proc/cgroups")
_SYMBOLS = Path("/proc/kallsyms")
_MARK_OR_CGROUP = "cgroup_sk_alloc_disable"
"""A function of kernels whose sockets have either a cgroup v2 or the mark of net_cls and net_prio (cgroup v1).

Linux 5.15 did away with it, and some earlier series in an update.
"""

_USUAL_BPFFS = Path("/sys/fs/bpf")
_FIND_BPFFS = "set one that is; `findmnt -t bpf` shows where one is mounted"


INSTALL_BCC = "`apt install python3-bpfcc`, which is for /usr/bin/python3 (`bcc` on PyPI is another project)"


@dataclass(frozen=True)
class Mount:
    point: Path
    kind: str
    root: str
    """Which folder of the file system is mounted: `/` for all of it."""


def mounts() -> list[Mount]:
    """What is mounted where, as this process sees it (proc(5), mountinfo); later entries cover earlier ones."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), point)
        found.append(Mount(Path(point), after.split()[0], root))
    return found


def mount_of(path: Path) -> Mount:
    """The mount that `path` (which need not exist) lies on."""
    covering = [mount for mount in mounts() if path == mount.point or mount.point in path.parents]
    return max(reversed(covering), key=lambda mount: len(mount.point.parts))


def cgroup_path(setting: str) -> Path:
    """The cgroup to attach to: the root of cgroup v2 for "auto". Raises Problem where it is no cgroup v2."""
    if setting != "auto":
        path = Path(setting)
        if not path.is_dir():
            raise Problem(f'cgroup {path} does not exist: create it, or set cgroup = "auto"')
        if mount_of(path.resolve()).kind != "cgroup2":
            raise Problem(f"{path} is not in a cgroup v2 hierarchy: `findmnt -t cgroup2` shows where that is mounted")
        return path
    found = [mount for mount in mounts() if mount.kind == "cgroup2"]
    for mount in [mount for mount in found if mount.root == "/"] or found:
        return mount.point
    raise Problem("no cgroup v2 is mounted: mount it with `mount -t cgroup2 none /sys/fs/cgroup`")


def _reservation(setting: str) -> str:
    """Whose sockets a cgroup does not have, though one would think so."""
    with suppress(OSError):  # a remark, for which nobody has to have all of /proc
        if setting == "auto" and os.stat("/proc/self/ns/cgroup").st_ino != _FIRST_CGROUP_NAMESPACE:
            return " (of this container alone: for others, mount the machine's and name that in `cgroup`)"
        if setting != "auto" and (marking := _marking_controllers()) and _MARK_OR_CGROUP in _SYMBOLS.read_text():
            return f' (where {marking[0]} has marked sockets, new ones count as in the root: set cgroup = "auto")'
    return ""


def _marking_controllers() -> list[str]:
    """Those of net_cls and net_prio that are mounted, and in which somebody has made groups (cgroups(7))."""
    lines = (line.split() for line in _CONTROLLERS.read_text().splitlines()[1:])
    mounted = {name: int(groups) for name, hierarchy, groups, _ in lines if hierarchy != "0"}
    return [name for name in ("net_cls", "net_prio") if mounted.get(name, 0) > 1]


def is_cgroup(setting: str, number: int) -> bool:
    """Whether a setting means the cgroup that has this id in the kernel: its directory's inode number."""
    try:
        return cgroup_path(setting).stat().st_ino == number
    except Problem:
        return False


def cgroup_by_id(number: int) -> str | None:
    """The path of the cgroup with this id; None where there is none (any more)."""
    for path, _, _ in os.walk(cgroup_path("auto")):
        if os.stat(path).st_ino == number:
            return path
    return None


def require_privilege() -> None:
    """Raises Problem without the capabilities that loading needs."""
    effective = _capabilities()
    needed = {"CAP_NET_ADMIN": 12} if effective >> _CAP_SYS_ADMIN & 1 else _CAPABILITIES
    missing = [name for name, bit in needed.items() if not effective >> bit & 1]
    if missing:
        raise Problem(f"no permission to load BPF programs ({', '.join(missing)} missing): run as root (sudo)")


def require_kernel() -> None:
    """Raises Problem where the kernel is older than OLDEST_KERNEL, or would not give the memory for maps."""
    if _kernel_version() < OLDEST_KERNEL:
        oldest = ".".join(map(str, OLDEST_KERNEL))
        raise Problem(f"kernel {os.uname().release} is too old: ipvsca needs {oldest} or newer")
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    unlimited = limit == resource.RLIM_INFINITY or _capabilities() >> _CAP_SYS_RESOURCE & 1  # libbpf raises it
    if not unlimited and _kernel_version() < _MEMORY_OF_CGROUP:
        raise Problem(
            f"kernel {os.uname().release} counts maps as locked memory, of which {limit} bytes are allowed:"
            " run as root (sudo), or after `ulimit -l unlimited` (systemd: LimitMEMLOCK=infinity)"
        )


def _capabilities() -> int:
    """Those in effect, as bits (capabilities(7))."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"CapEff:\s*(\w+)", status)[1], 16)  # type: ignore[index]


def _kernel_version() -> tuple[int, ...]:
    """Its first two numbers."""
    return tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])


def require_bpffs(pin_path: Path) -> None:
    """Raises Problem where `pin_path` cannot be a folder in a BPF file system."""
    path = pin_path.resolve()
    mount = mount_of(path)
    if mount.kind != "bpf":
        below_usual = _USUAL_BPFFS in path.parents  # anywhere else a mount would hide what is there
        remedy = f"mount one with `mount -t bpf bpf {_USUAL_BPFFS}`" if below_usual else _FIND_BPFFS
        raise Problem(f"pin_path {pin_path} is not in a BPF file system: {remedy}")
    if path == mount.point:
        raise Problem(f"pin_path {pin_path} is all of a BPF file system: name a folder in it, {pin_path / 'ipvsca'}")
    if "." in str(path.relative_to(mount.point)):
        raise Problem(f"pin_path {pin_path}: a BPF file system takes no dots in names: set another pin_path")
    if not os.path.isdir(path.parent):
        raise Problem(f"{pin_path.parent} does not exist: create it, or set another pin_path")
    if os.path.exists(path) and not os.path.isdir(path):  # these raise nothing where we may not look
        raise Problem(f"pin_path {pin_path} is no folder: set another pin_path")


def require_bcc() -> None:
    """Raises Problem where the compiler's binding is not installed; does not import it."""
    spec = importlib.util.find_spec("bcc")
    folders = spec.submodule_search_locations if spec else None
    if not any(Path(folder, "libbcc.py").exists() for folder in folders or ()):
        raise Problem(f"bcc's Python binding is not installed for {sys.executable}: {INSTALL_BCC}")


def requirements(pin_path: Path, cgroup: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is needed, in words, and the function that raises Problem where it is missing."""
    yield "permission to load BPF programs", require_privilege
    yield f"Linux {'.'.join(map(str, OLDEST_KERNEL))} or newer", require_kernel
    yield "bcc, which compiles the programs", require_bcc
    yield f"a BPF file system for {pin_path}", lambda: require_bpffs(pin_path)
    yield f"cgroup v2{_reservation(cgroup)}", lambda: cgroup_path(cgroup)


def require(pin_path: Path, cgroup: str) -> None:
    """Raises Problem for the first thing that is missing."""
    for _, ask in requirements(pin_path, cgroup):
        ask()
