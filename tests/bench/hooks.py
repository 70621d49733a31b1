"""What each hook costs by the kernel's own account of how long a BPF program runs, without what that account costs.

An empty program is attached beside each of ipvsca's and runs for the same packets and calls. What the kernel says it
took is the price of measuring, and is taken off. Not in these figures is what the kernel does to get to a program at
all; the comparisons of whole requests have that in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from ipvsca.kernel import bpf
from ipvsca.kernel.programs import Program
from tests.bench import applications as apps
from tests.bench.empties import BESIDE
from tests.bench.programs import Runs, Where, attached, run_time_kept
from tests.bench.rounds import Samples
from tests.bench.run import Bench
from tests.bench.storms import KNOWN_LIP, UDP_PORT, UNKNOWN_LIP, Kind, announce, flood, storm
from tests.lab.built import Built

PART = "hooks"
FLOWS = 10_000
WARM_UP_S = 1
MEASURE_S = 1  # a program runs some hundred thousand times in it
HIT, MISS = KNOWN_LIP, UNKNOWN_LIP
COST, MEASURING = "cost", "measuring"

Costs = dict[str, Samples]
"""By what was measured: what it costs, and what measuring it costs, which is taken off already."""
GETSOCKOPTS = 100_000  # of each option that getsockopt.c asks for

PACKETS = {
    Kind.SEGMENT: "established TCP segment",
    Kind.SYN: "SYN without option",
    Kind.SYN_WITH_OPTION: "SYN with option",
    Kind.ANNOUNCEMENT: "announcement",
    Kind.DATAGRAM: "UDP datagram",
}
CONNECTIONS = {
    Where.NOWHERE: "no option",
    Where.ACK: "option in the ACK",
    Where.SYN: "option in the SYN",
}
"""In this order: where a SYN has named a client before, the program looks for that at each connection."""


class Meter(Built):
    """Reads how long programs have run. A context manager: the empty programs are attached inside its block."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self._bench = bench
        self._fds: dict[str, int] = {}
        self._beside = {name: empty.name for name, empty in BESIDE.items()}

    def by_run(self, names: Mapping[str, str], drive: Callable[[], object]) -> Costs:
        """Nanoseconds a run of some programs (by what to call that) while `drive` makes them run."""
        return self._measure(names, drive, lambda runs, empty, _: runs.mean - empty.mean)

    def by_connection(self, names: Mapping[str, str], drive: Callable[[], int]) -> Costs:
        """Nanoseconds that all runs of some programs take for one connection, of which `drive` gives the number."""
        return self._measure(
            names,
            drive,
            lambda runs, empty, connections: (runs.nanoseconds - runs.count * empty.mean) / connections,
        )

    @contextmanager
    def watching(self, program: Program, fd: int) -> Iterator[None]:
        """Measure one more program, attached to the applications' cgroup inside the block."""
        assert program.attach is not None
        (empty,) = (empty.name for empty in BESIDE.values() if empty.attach is program.attach)
        self._fds[program.name], self._beside[program.name] = fd, empty
        try:
            with attached(fd, self._bench.stage.cgroup, program.attach):
                yield
        finally:
            del self._fds[program.name], self._beside[program.name]

    def _measure(
        self, names: Mapping[str, str], drive: Callable[[], Any], cost: Callable[[Runs, Runs, Any], float]
    ) -> Costs:
        costs: Costs = {what: {COST: [], MEASURING: []} for what in names}
        for _ in range(self._bench.rounds):
            before = self._read()
            driven = drive()
            grown = {name: runs.since(before[name]) for name, runs in self._read().items()}
            for what, name in names.items():
                empty = grown[self._beside[name]]
                costs[what][COST].append(cost(grown[name], empty, driven))
                costs[what][MEASURING].append(empty.mean)
        return costs

    def _read(self) -> dict[str, Runs]:
        return {name: Runs.of(fd) for name, fd in self._fds.items()}

    def _build(self, stack: ExitStack) -> None:
        stage = self._bench.stage
        for name in BESIDE:
            pin = stage.ipvsca.pin_path / "programs" / name
            if pin.exists():  # loaded, and asked for by the settings
                self._fds[name] = stack.enter_context(bpf.opened(pin))
        self._fds |= stage.empties.fds
        stack.enter_context(stage.empties.attached())


def run(bench: Bench) -> None:
    """Everything, with and without what is looked for."""
    with run_time_kept(), bench.stage.restored(lookup_calls=True), Meter(bench) as meter:
        for traffic in TRAFFICS:
            traffic(bench, meter)


def packets(bench: Bench, meter: Meter) -> None:
    """tc ingress, by kind of packet."""
    for kind, what in PACKETS.items():
        drive = partial(storm, bench.stage, kind, FLOWS, MEASURE_S)
        keep(bench, PART, meter.by_run({f"tc: {what}": "ipvsca_eth"}, drive))


def connections(bench: Bench, meter: Meter) -> None:
    """TCP connections, by where their option is."""
    for where, what in CONNECTIONS.items():
        with connecting(bench, PART, where, restored=where is not Where.NOWHERE) as connect:
            keep(bench, PART, meter.by_connection({f"sock_ops, a connection: {what}": "ipvsca_sockops"}, connect))
            keep(bench, PART, meter.by_run({f"getpeername: {what}": "ipvsca_peer4"}, connect))


@contextmanager
def connecting(bench: Bench, part: str, where: Where, *, restored: bool) -> Iterator[Callable[[], int]]:
    """Gives a function that makes connections for MEASURE_S, and says how many there were.

    They are judged by whether the server has to see their clients.
    """

    def connect() -> int:
        _, judged = apps.new_connections(bench.stage, apps.BARE_PORT, MEASURE_S, restored)
        bench.results.judge(part, judged)
        return judged.right

    with bench.stage.naming_clients(where), apps.accept_loop(bench.stage):
        yield connect


def datagrams(bench: Bench, meter: Meter) -> None:
    """UDP, received and answered: of flows that are known, and of others."""
    announce(bench.stage, FLOWS)
    met(bench, PART, FLOWS, WARM_UP_S, HIT)
    for lip, words in ((HIT, "hit"), (MISS, "miss")):
        drive = partial(answered, bench, PART, FLOWS, MEASURE_S, lip)
        keep(
            bench, PART, meter.by_run({f"recvmsg: {words}": "ipvsca_recv4", f"sendmsg: {words}": "ipvsca_send4"}, drive)
        )


def answered(bench: Bench, part: str, flows: int, seconds: int, lip: IPv4Address) -> None:
    """Datagrams of so many flows, each answered; all of them known (`lip` is HIT) or none (MISS)."""
    with apps.udp_echo(bench.stage, lip == HIT, lambda judged: bench.results.judge(part, judged)):
        storm(bench.stage, Kind.DATAGRAM, flows, seconds, lip)


def met(bench: Bench, part: str, flows: int, seconds: int, lip: IPv4Address) -> None:
    """The same, ahead of what is measured: a flow's first datagram writes its way back.

    These come one flow behind the other, so that ways do not lie in memory in the order in which they are asked for.
    """
    with apps.udp_echo(bench.stage, lip == HIT, lambda judged: bench.results.judge(part, judged)):
        flood(bench.stage, Kind.DATAGRAM, flows, lip, UDP_PORT)
        storm(bench.stage, Kind.DATAGRAM, flows, seconds, lip)


def keep(bench: Bench, part: str, costs: Costs) -> None:
    """Each thing's cost, in nanoseconds."""
    for what, samples in costs.items():
        bench.keep(part, what, "ns", samples)


def questions(bench: Bench, meter: Meter) -> None:
    """getsockopt, of options that are none of ours."""
    argv: list[str | Path] = [bench.stage.program("getsockopt"), str(GETSOCKOPTS)]

    def ask() -> None:
        bench.stage.server.run(argv, cgroup=bench.stage.cgroup, input="\n")

    keep(bench, PART, meter.by_run({"getsockopt: not for ipvsca": "ipvsca_lookup"}, ask))


TRAFFICS = (connections, packets, datagrams, questions)
"""What makes programs run, and keeps what that costs. Another hook is one more here, and in BESIDE."""
