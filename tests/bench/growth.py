"""What grows with the number of flows and connections: time of the hooks and of the sweep, the kernel's memory."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Event
from urllib.request import urlopen

from ipvsca import ageing
from ipvsca.dataplane import NANOSECONDS, DataPlane
from ipvsca.kernel import bpf
from ipvsca.settings import DEFAULTS
from tests.bench import applications as apps
from tests.bench.hooks import COST, HIT, MEASURE_S, MISS, Meter, answered, met
from tests.bench.programs import Where, run_time_kept
from tests.bench.records import Judged
from tests.bench.run import Bench
from tests.bench.stage import LIPS, RIP
from tests.bench.storms import announce
from tests.kernel_state import wait_until

FLOWS_PART, CONNECTIONS_PART = "flows", "connections"
FLOWS = (1_000, 10_000, 100_000, 1_000_000)
CONNECTIONS = (1_000, 10_000, 100_000, 200_000)
OPENINGS = 3  # of each number of connections, with ipvsca and without
CALLS = 100_000  # that a figure of getpeername is made of at the least
PER_PROCESS = 15_000  # of 20,000 files that a process often may have at the most
MAPS_OF_A_FLOW = ("flows", "replies")
FEWEST_FLOWS = 1024  # that `max_flows` takes
WARM_UP_RATE = 150_000  # flows a second that are answered at the least, so that each has been once before it counts
FAR_S = 24 * 3600
HIT_WHILE_SWEPT = "recvmsg: hit, while flows are swept"
MEGABYTE = 1e6


def run(bench: Bench) -> None:
    """UDP flows, then TCP connections, in growing numbers."""
    for flows in FLOWS:
        _measure_flows(bench, flows)
    for connections in CONNECTIONS:
        _measure_connections(bench, connections)


def _measure_flows(bench: Bench, flows: int) -> None:
    """The table has a quarter more room than there are flows: towards its end the kernel begins to drop some."""
    room = max(flows * 5 // 4, FEWEST_FLOWS)

    def keep(what: str, unit: str, samples: Sequence[float]) -> None:
        bench.keep(FLOWS_PART, what, unit, {str(flows): samples})

    with bench.stage.restored(max_flows=room, udp_timeout=FAR_S, metrics=str(DEFAULTS.metrics)) as ipvsca:
        announce(bench.stage, flows)
        with run_time_kept(), Meter(bench) as meter:
            met(bench, FLOWS_PART, flows, max(MEASURE_S, flows // WARM_UP_RATE), HIT)
            for lip, words in ((HIT, "hit"), (MISS, "miss")):
                drive = partial(answered, bench, FLOWS_PART, flows, MEASURE_S, lip)
                names = {f"recvmsg: {words}": "ipvsca_recv4", f"sendmsg: {words}": "ipvsca_send4"}
                for what, samples in meter.by_run(names, drive).items():
                    keep(what, "ns", samples[COST])
            with _sweeping(ipvsca.pin_path):
                drive = partial(answered, bench, FLOWS_PART, flows, MEASURE_S, HIT)
                costs = meter.by_run({HIT_WHILE_SWEPT: "ipvsca_recv4"}, drive)
                keep(HIT_WHILE_SWEPT, "ns", costs[HIT_WHILE_SWEPT][COST])
        keep("kernel's memory, a flow", "bytes", [_map_memory(ipvsca.pin_path) / room])
        keep("daemon's memory", "MB", [_daemon_memory(bench)])
        with DataPlane(ipvsca.pin_path) as plane:
            keep("sweep", "s CPU", [_sweep(plane, 0) for _ in range(bench.rounds)])
            keep("sweep that takes out all", "s CPU", [_sweep(plane, 2 * FAR_S)])


def _measure_connections(bench: Bench, connections: int) -> None:
    """All is opened anew for each figure: what is allocated first, and where, makes a difference that stays."""
    samples: dict[tuple[str, str], list[float]] = {}
    for _ in range(min(OPENINGS, bench.rounds)):
        for restored in (False, True):
            bench.stage.restoring(restored)
            for what, unit, figure in _opened(bench, connections, restored):
                samples.setdefault((what, unit), []).append(figure)
    for (what, unit), figures in samples.items():
        bench.keep(CONNECTIONS_PART, what, unit, {str(connections): figures})


def _opened(bench: Bench, connections: int, restored: bool) -> Iterator[tuple[str, str, float]]:
    """Open them, and say what was measured, in which unit, and how much that is; the server has asked once before."""
    words = "restored" if restored else "not loaded"
    before = _slab()
    with bench.stage.naming_clients(Where.ACK), _kept(bench, connections, restored) as ask:
        yield f"kernel's memory, a connection, {words}", "bytes", (_slab() - before) / connections
        ask()
        yield f"getpeername, the whole call, {words}", "ns", ask()
        if restored:
            with run_time_kept(), Meter(bench) as meter:
                ask()
                costs = meter.by_run({"getpeername: hit": "ipvsca_peer4"}, ask)
                yield "getpeername: hit", "ns", statistics.median(costs["getpeername: hit"][COST])


@contextmanager
def _kept(bench: Bench, connections: int, restored: bool) -> Iterator[Callable[[], float]]:
    """So many connections, all open inside the block.

    Gives a function that has the servers ask for each one's peer and says how many nanoseconds a call takes.
    """
    times = max(CALLS // connections, 1)
    sizes = [min(PER_PROCESS, connections - at) for at in range(0, connections, PER_PROCESS)]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(_kept_at(bench, apps.BARE_PORT + number, size, restored))
            for number, size in enumerate(sizes)
        ]
        yield lambda: sum(size * _ask(server, times) for size, server in zip(sizes, servers, strict=True)) / connections


@contextmanager
def _kept_at(bench: Bench, port: int, connections: int, restored: bool) -> Iterator[Popen[str]]:
    """As many of them as one process can have; gives the server."""
    stage = bench.stage
    server_argv: list[str | Path] = [stage.program("accept_loop"), str(RIP), str(port), str(connections)]
    end = [str(RIP), str(port), "restored" if restored else "not"]
    client_argv: list[str | Path] = [stage.program("connections"), *end, "keep", str(connections), *map(str, LIPS)]
    with (
        stage.serving(server_argv) as server,
        stage.client.popen(client_argv, cgroup=stage.client_cgroup, stdin=PIPE, stdout=PIPE, text=True) as client,
    ):
        assert client.stdout is not None
        judged = map(int, client.stdout.readline().split()[:4])
        bench.results.judge(CONNECTIONS_PART, Judged(*judged))
        yield server
        client.communicate()


def _ask(server: Popen[str], times: int) -> float:
    """Nanoseconds that a getpeername takes this server, which asks about each of its connections so many times."""
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write("?" * times)
    server.stdin.flush()
    return statistics.mean(float(server.stdout.readline()) for _ in range(times))


def _daemon_memory(bench: Bench) -> float:
    """The most that the daemon has had resident until it has swept and was scraped once."""
    with bench.stage.ipvsca.daemon() as daemon:
        status = Path(f"/proc/{daemon.pid}/status")
        if not wait_until(lambda: "sigtimedwait" in Path(f"/proc/{daemon.pid}/wchan").read_text()):
            raise RuntimeError("the daemon does not end its first sweep")
        with bench.stage.server.entered():
            urlopen(f"http://{DEFAULTS.metrics}/metrics").read()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) * 1024 / MEGABYTE


def _map_memory(pin_path: Path) -> int:
    """Bytes that the kernel accounts for the maps that hold flows."""
    taken = 0
    for name in MAPS_OF_A_FLOW:
        with bpf.opened(pin_path / "maps" / name) as fd:
            taken += int(re.findall(r"memlock:\s+(\d+)", Path(f"/proc/self/fdinfo/{fd}").read_text())[0])
    return taken


def _slab() -> int:
    """Bytes of all objects that the kernel has allocated, for whomever."""
    return int(re.findall(r"Slab:\s+(\d+) kB", Path("/proc/meminfo").read_text())[0]) * 1024


def _sweep(plane: DataPlane, later_s: int) -> float:
    """Seconds of CPU time for one sweep, as if it were so much later."""
    began = time.thread_time()
    ageing.sweep(plane, time.monotonic_ns() + later_s * NANOSECONDS)
    return time.thread_time() - began


@contextmanager
def _sweeping(pin_path: Path) -> Iterator[None]:
    """Inside the block one sweep follows the other, none of which finds anything to take out."""
    over = Event()

    def sweep() -> None:
        with DataPlane(pin_path) as plane:
            while not over.is_set():
                _sweep(plane, 0)

    with ThreadPoolExecutor(1) as pool:
        sweeps = pool.submit(sweep)
        try:
            yield
        finally:
            over.set()
        sweeps.result()
