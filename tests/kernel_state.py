"""A picture of what is attached, pinned and loaded, to compare before and after. bpftool, tc and procfs are asked."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipvsca.kernel import bpf
from tests.lab.namespace import Namespace

TIMEOUT_S = 10.0

Object = tuple[str, int]
"""`map`, `prog` or `link`, and the kernel's id."""


@dataclass(frozen=True)
class KernelState:
    """What is pinned in a bpffs, and what hangs on a cgroup and on the server's interface."""

    pins: frozenset[tuple[str, Object | None]]
    cgroup: str
    interface: str

    @classmethod
    def of(cls, namespace: Namespace, cgroup: Path, bpffs: Path) -> KernelState:
        pins = ((str(path), _pinned(path)) for path in bpffs.rglob("*") if not path.name.endswith(".debug"))
        show = ["tc qdisc show", "tc filter show dev eth0 ingress", "tc filter show dev eth0 egress"]
        return cls(
            frozenset(pins),
            json.dumps(_bpftool("cgroup", "show", str(cgroup))),
            "".join(namespace.run(line.split(), check=False).stdout for line in show),
        )

    @property
    def objects(self) -> frozenset[Object]:
        """Every map, program and link in the picture."""
        pinned = {pinned for _, pinned in self.pins if pinned}
        attached = {("prog", int(number)) for number in re.findall(r'"id": (\d+)', self.cgroup)}
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


def settles(picture: Callable[[], KernelState], expected: KernelState) -> None:
    """Things come to be as expected, no later than TIMEOUT_S."""
    wait_until(lambda: picture() == expected)
    assert picture() == expected


def are_freed(objects: frozenset[Object]) -> None:
    """The kernel knows none of these any more, no later than TIMEOUT_S."""
    wait_until(lambda: not objects & _existing())
    assert not objects & _existing()


def _existing() -> frozenset[Object]:
    return frozenset((kind, entry["id"]) for kind in ("map", "prog", "link") for entry in _bpftool(kind, "show"))


def _pinned(path: Path) -> Object | None:
    """What is pinned there; None for a folder."""
    if path.is_dir():
        return None
    with bpf.opened(path) as fd:
        kind, number = re.findall(r"(map|prog|link)_id:\s*(\d+)", Path(f"/proc/self/fdinfo/{fd}").read_text())[0]
    return kind, int(number)


def _bpftool(*arguments: str) -> Any:
    done = subprocess.run(["bpftool", "--json", *arguments], capture_output=True, check=True, text=True)
    return json.loads(done.stdout.strip() or "[]")
