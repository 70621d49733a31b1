"""What is told of this machine that need not keep anybody from loading."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipvsca.kernel import machine

CONTROLLERS = """\
#subsys_name\thierarchy\tnum_cgroups\tenabled
cpu\t3\t70\t1
net_cls\t{controller}\t1
net_prio\t0\t70\t1
"""
SINCE = "0000000000000000 T cgroup_sk_alloc\n0000000000000000 T cgroup_sk_clone\n"
BEFORE = f"{SINCE}0000000000000000 T cgroup_sk_alloc_disable\n"
NOTE = 'cgroup v2 (where net_cls has marked sockets, new ones count as in the root: set cgroup = "auto")'


@pytest.mark.parametrize(
    ("symbols", "cgroup", "controller", "expected"),
    [
        (BEFORE, "/sys/fs/cgroup/web", "4\t2", NOTE),
        (BEFORE, "auto", "4\t2", "cgroup v2"),
        (BEFORE, "/sys/fs/cgroup/web", "4\t1", "cgroup v2"),
        (BEFORE, "/sys/fs/cgroup/web", "0\t70", "cgroup v2"),
        (SINCE, "/sys/fs/cgroup/web", "4\t2", "cgroup v2"),
    ],
)
def test_marks_that_take_the_place_of_cgroups(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    symbols: str,
    cgroup: str,
    controller: str,
    expected: str,
) -> None:
    controllers = tmp_path / "cgroups"
    controllers.write_text(CONTROLLERS.format(controller=controller))
    kallsyms = tmp_path / "kallsyms"
    kallsyms.write_text(symbols)
    monkeypatch.setattr(machine, "_CONTROLLERS", controllers)
    monkeypatch.setattr(machine, "_SYMBOLS", kallsyms)
    *_, (told, _) = machine.requirements(Path("/sys/fs/bpf/ipvsca"), cgroup)
    assert told == expected
