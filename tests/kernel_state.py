"""A picture of what is attached, pinned and loaded, to compare before and after. The kernel, tc and procfs are asked.

Not bpftool: Debian 12's can show no cgroup with programs on Linux 5.10.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ipvsca.kernel import bpf
from ipvsca.kernel.programs import AttachType
from tests.lab.namespace import Namespace

KERNEL = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
"""The running kernel's version, as far as it says what it can do: 6, 18."""

TIMEOUT_S = 10.0

SHOW = """\
qdisc show
filter show dev eth0 ingress
filter show dev eth0 egress
"""

MOST_PROGRAMS = 64  # on one hook of a cgroup: the kernel's limit (BPF_CGROUP_MAX_PROGS)

Object = tuple[str, int]
"""`map`, `prog` or `link`, and the kernel's id."""

Hook = tuple[AttachType, tuple[int, ...]]
"""What is attached there: the programs' ids in the order in which they run."""

_libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)


@dataclass(frozen=True)
class KernelState:
    """What is pinned in a bpffs, and what hangs on a cgroup and on the server's interface."""

    pins: frozenset[tuple[str, Object | None]]
    cgroup: tuple[Hook, ...]
    interface: str

    @classmethod
    def of(cls, namespace: Namespace, cgroup: Path, bpffs: Path) -> KernelState:
        pins = ((str(path), _pinned(path)) for path in bpffs.rglob("*") if not path.name.endswith(".debug"))
        interface = namespace.run(["tc", "-force", "-batch", "-"], input=SHOW, check=False).stdout
        return cls(frozenset(pins), tuple(_hooks(cgroup)), interface)

    @property
    def objects(self) -> frozenset[Object]:
        """Every map, program and link in the picture."""
        pinned = {pinned for _, pinned in self.pins if pinned}
        attached = {("prog", number) for _, programs in self.cgroup for number in programs}
        filters = {("prog", int(number)) for number in re.findall(r" id (\d+)", self.interface)}
        return frozenset(pinned | attached | filters)

    def of_kind(self, kind: str) -> frozenset[Object]:
        return frozenset(each for each in self.objects if each[0] == kind)


def wait_until(true: Callable[[], bool]) -> bool:
    """The kernel takes things away a moment after their last user is gone, and offers nothing to wait on."""
    deadline = time.monotonic() + TIMEOUT_S
    while not (now := true()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return now


Pictured = TypeVar("Pictured")


def settles(picture: Callable[[], Pictured], expected: Pictured) -> None:
    """Things come to be as expected, no later than TIMEOUT_S."""
    assert wait_until(lambda: picture() == expected) or picture() == expected


def are_freed(objects: frozenset[Object]) -> None:
    """The kernel knows none of these any more, no later than TIMEOUT_S."""
    wait_until(lambda: not any(map(_exists, objects)))
    assert [each for each in objects if _exists(each)] == []


def _exists(thing: Object) -> bool:
    kind, number = thing
    fd = getattr(_libbpf, f"bpf_{kind}_get_fd_by_id")(ctypes.c_uint32(number))
    if fd >= 0:
        os.close(fd)
    elif ctypes.get_errno() != errno.ENOENT:
        raise OSError(ctypes.get_errno(), f"{kind} {number}")
    return bool(fd >= 0)


def _hooks(cgroup: Path) -> Iterator[Hook]:
    """What is attached to a cgroup itself, on every hook that ipvsca uses; hooks without programs are left out."""
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for attach in AttachType:
            if programs := _attached(directory, attach):
                yield attach, programs
    finally:
        os.close(directory)


def _attached(directory: int, attach: AttachType) -> tuple[int, ...]:
    numbers, count = (ctypes.c_uint32 * MOST_PROGRAMS)(), ctypes.c_uint32(MOST_PROGRAMS)
    if _libbpf.bpf_prog_query(directory, int(attach), 0, None, numbers, ctypes.byref(count)) < 0:
        raise OSError(ctypes.get_errno(), f"{attach.name} of a cgroup")
    return tuple(numbers[: count.value])


def _pinned(path: Path) -> Object | None:
    """What is pinned there; None for a folder."""
    if path.is_dir():
        return None
    with bpf.opened(path) as fd:
        kind, number = re.findall(r"(map|prog|link)_id:\s*(\d+)", Path(f"/proc/self/fdinfo/{fd}").read_text())[0]
    return kind, int(number)
