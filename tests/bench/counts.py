"""`make bench-count`: what restoring costs in instructions, counted by qemu in a Debian kernel.

In a guest whose time stamp counter counts instructions (tests/kernels/guest.py), one process writes packets to a TAP
device and makes a server's calls (instructions.c). A figure is exact, and the same on every machine; caches and branch
prediction are not in it. It belongs to one kernel and one compiler, so what is compared with the recorded table is how
many instructions are *added*, in the same boot.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench import programs
from tests.bench.records import REPOSITORY
from tests.bench.table import Table
from tests.bench.targets import TARGETS

RECORDED = REPOSITORY / "docs/performance/instructions.json"
BUILT = REPOSITORY / "dist"  # seen by the guest, unlike /tmp
LOG = BUILT / "bench-count.log"
TIMEOUT_S = 900.0
TIMES = 500
SUITE = "bookworm"

NOT_LOADED = "not loaded"
EMPTY_FILTER = "empty tc filter"
NO_INTERFACES = "in ACK, no interfaces"
VARIANTS = {
    NOT_LOADED: ("ack", "not"),
    EMPTY_FILTER: ("ack", "not"),
    "no option": ("none", "not"),
    "option in ACK": ("ack", "restored"),
    "option in SYN": ("syn", "restored"),
    NO_INTERFACES: ("ack", "restored"),
}
"""By name: where the option is, and whether clients are to be seen. Announcements come where there are options.

ipvsca is loaded in all but the first two. The second has a filter that does nothing: what tc itself takes. In the last
one `interfaces` is empty, and of UDP the flows are known that were announced before.
"""

WHOLE = "whole connection, 6 requests"
RATIO = "its ratio to not loaded"

Counts = dict[str, dict[str, int]]
"""Instructions, by step and variant; medians."""


@dataclass(frozen=True)
class Run:
    """What one boot has counted."""

    kernel: str
    counts: Counts


TOLERATED_GROWTH = 0.02
TOLERATED_INSTRUCTIONS = 20  # boots differ by some: hashes have another seed in each

NETWORK = """\
tuntap add dev tap0 mode tap
link set tap0 up address 02:00:00:00:00:01
address add 10.80.0.10/24 dev tap0
neighbour add 10.80.0.1 lladdr 02:00:00:00:00:00 dev tap0
route add 10.90.0.0/16 via 10.80.0.1
"""
CGROUP = Path("/sys/fs/cgroup/bench")
CONFIGURATION = f'cgroup = "{CGROUP}"\ninterfaces = ["tap0"]\n'
CONFIG = Path("/tmp/bench.toml")
CONFIG_NO_INTERFACES = Path("/tmp/bench-no-interfaces.toml")
DO_NOTHING = "1,6 0 0 0"  # classic BPF: return 0, no match
SET_UP = {
    EMPTY_FILTER: [
        ["tc", "qdisc", "add", "dev", "tap0", "clsact"],
        ["tc", "filter", "add", "dev", "tap0", "ingress", "bpf", "bytecode", DO_NOTHING],
    ],
    "no option": [
        ["tc", "qdisc", "del", "dev", "tap0", "clsact"],
        [sys.executable, "-m", "ipvsca", "load", "--config", str(CONFIG)],
    ],
    NO_INTERFACES: [[sys.executable, "-m", "ipvsca", "load", "--config", str(CONFIG_NO_INTERFACES)]],
}
"""Commands ahead of a variant; what they do stays."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, print, and compare with what is recorded, or record it.

    1 where it has grown on the same kernel (another one is Debian's change, and only told), 2 where it failed.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.bench.counts", description=__doc__)
    parser.add_argument("--record", action="store_true", help=f"write {RECORDED.relative_to(REPOSITORY)}")
    parser.add_argument("--in-guest", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.in_guest:
        print(json.dumps(asdict(Run(os.uname().release, _counted()))))
        return 0
    try:
        found = _in_a_guest()
    except RuntimeError as failure:
        print(f"FAILED: {failure}")
        return 2
    print(table(found).as_text())
    if options.record:
        RECORDED.write_text(json.dumps(asdict(found), indent=1) + "\n")
        return 0
    before = recorded()
    grown = list(growth(before.counts, found.counts))
    print("\n".join(grown) or f"nothing has grown since {RECORDED.name} was recorded (kernel {before.kernel})")
    return 1 if grown and found.kernel == before.kernel else 0


def added(counts: Counts) -> Iterator[tuple[str, str, int]]:
    """What being loaded adds to each step: step, variant, instructions."""
    for step, by_variant in counts.items():
        for variant, count in by_variant.items():
            if variant != NOT_LOADED and NOT_LOADED in by_variant:
                yield step, variant, count - by_variant[NOT_LOADED]


def growth(known: Counts, found: Counts) -> Iterator[str]:
    """A line for each step to which more is added than was recorded and tolerated, and for each that is gone."""
    now = {(step, variant): count for step, variant, count in added(found)}
    for step, variant, was in added(known):
        count = now.get((step, variant))
        if count is None:
            yield f"GONE: {step}, {variant}: it was recorded, and is not counted any more"
        elif count > was + max(TOLERATED_INSTRUCTIONS, abs(was) * TOLERATED_GROWTH):
            yield f"GROWN: {step}, {variant}: {count} instructions added, not {was}"


def table(run: Run) -> Table:
    """What is counted with nothing loaded, and what each variant adds."""
    rows = [
        [step, *(_cell(by_variant, variant) for variant in VARIANTS), TARGETS.get(step, "")]
        for step, by_variant in run.counts.items()
    ]
    rows.append([RATIO, *(_ratio(run.counts[WHOLE], variant) for variant in VARIANTS), TARGETS[RATIO]])
    return Table(f"Instructions, kernel {run.kernel}", ["", *VARIANTS, "target"], rows)


def _cell(by_variant: Mapping[str, int], variant: str) -> str:
    if variant not in by_variant:
        return ""
    if variant == NOT_LOADED or NOT_LOADED not in by_variant:
        return f"{by_variant[variant]:,}"
    return f"{by_variant[variant] - by_variant[NOT_LOADED]:+,}"


def _ratio(by_variant: Mapping[str, int], variant: str) -> str:
    return f"{by_variant[variant] / by_variant[NOT_LOADED]:.3f}" if variant in by_variant else ""


def recorded() -> Run:
    """The run in the repository."""
    return Run(**json.loads(RECORDED.read_text()))


def _in_a_guest() -> Run:
    """Boot and count. Raises RuntimeError where there is no kernel, or it does not come to an end."""
    from tests.kernels import debian, guest
    from tests.kernels.__main__ import CACHE

    BUILT.mkdir(exist_ok=True)
    (BUILT / "instructions").unlink(missing_ok=True)
    programs.build("instructions", BUILT)
    suite = next(suite for suite in debian.SUITES if suite.name == SUITE)
    try:
        kernel = debian.newest(suite, CACHE)
    except debian.Unavailable as missing:
        raise RuntimeError(f"the kernel of {SUITE} cannot be had: {missing}") from missing
    ended = guest.run(kernel, [sys.executable, "-m", "tests.bench.counts", "--in-guest"], LOG, TIMEOUT_S)
    if ended.status != 0:
        raise RuntimeError(f"the guest ended with status {ended.status}: see {LOG}")
    return Run(**json.loads(next(line for line in LOG.read_text().splitlines() if line.startswith("{"))))


def _counted() -> Counts:
    """In the guest: every variant."""
    subprocess.run(["ip", "-batch", "-"], input=NETWORK, text=True, check=True)
    Path("/proc/sys/net/ipv6/conf/tap0/disable_ipv6").write_text("1")
    CGROUP.mkdir()
    CONFIG.write_text(CONFIGURATION)
    CONFIG_NO_INTERFACES.write_text(CONFIGURATION.replace('["tap0"]', "[]"))
    counts: Counts = {}
    for variant, arguments in VARIANTS.items():
        for command in SET_UP.get(variant, []):
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for step, count in _run(arguments):
            counts.setdefault(step, {})[variant] = count
    return counts


def _run(arguments: Sequence[str]) -> Iterator[tuple[str, int]]:
    command: list[str | Path] = [
        "sh",
        "-c",
        'echo $$ >"$0/cgroup.procs" && exec "$@"',
        CGROUP,
        BUILT / "instructions",
        str(TIMES),
    ]
    said = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True).stdout
    for line in said.splitlines():
        step, _, count = line.partition("\t")
        yield step, int(count)


if __name__ == "__main__":
    sys.exit(main())
