"""What a hook's cost is made of: programs that do one of its things each (parts.c), measured at the same calls.

Each has a table of its own, as large as ipvsca's, so that it finds its memory as far away as ipvsca does. Together they
come to more than the hook: what one has brought near serves the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from ipvsca.kernel import bpf, compiler, source
from ipvsca.kernel.maps import open_table
from ipvsca.kernel.programs import AttachType, Program, ProgramType
from ipvsca.settings import DEFAULTS
from tests.bench.hooks import FLOWS, MEASURE_S, MISS, WARM_UP_S, Meter, answered, connecting, keep, met
from tests.bench.programs import HERE, Where, run_time_kept
from tests.bench.run import Bench

Content = dict[bytes, bytes]
"""Of a table: keys and values."""

PART = "parts"
FILE = "parts.c"
CONNECTION, PEER, DATAGRAM, ANSWER = "sock_ops", "getpeername", "recvmsg", "sendmsg"


def _at_connection(name: str, does: str) -> Program:
    return Program(f"part_{name}", FILE, ProgramType.SOCK_OPS, AttachType.CGROUP_SOCK_OPS, does)


def _at_call(name: str, attach: AttachType, does: str) -> Program:
    return Program(f"part_{name}", FILE, ProgramType.CGROUP_SOCK_ADDR, attach, does)


AT_A_CONNECTION = (
    _at_connection("walk", "settings, and the walk over the options"),
    _at_connection("trust", "is LIP in `trusted`"),
    _at_connection("handshake", "look for a handshake, which there is not"),
    _at_connection("storage", "make the socket's storage"),
    _at_connection("way", "write the way of a TCP connect"),
    _at_connection("count", "count"),
)
STORED = _at_call("stored", AttachType.CGROUP_INET4_GETPEERNAME, "read the socket's storage")
FLOW = _at_call("flow", AttachType.CGROUP_UDP4_RECVMSG, "look a flow up")
WAY_BACK = _at_call("reply", AttachType.CGROUP_UDP4_SENDMSG, "look a way back up")


def run(bench: Bench) -> None:
    """What is done at a connection, at getpeername, and at a datagram and its answer; ipvsca itself is not loaded."""
    with bench.stage.restored() as ipvsca:
        tables = {name: _content(ipvsca.pin_path / "maps", name) for name in ("settings", "trusted")}
    with run_time_kept(), Meter(bench) as meter:
        with _watched(meter, tables), connecting(bench, PART, Where.ACK, restored=False) as connect:
            names = {f"{CONNECTION}: {part.does}": part.name for part in AT_A_CONNECTION}
            keep(bench, PART, meter.by_connection(names, connect))
            keep(bench, PART, meter.by_run({f"{PEER}: {STORED.does}": STORED.name}, connect))
        with _watched(meter, tables):
            met(bench, PART, FLOWS, WARM_UP_S, MISS)
            names = {f"{DATAGRAM}: {FLOW.does}": FLOW.name, f"{ANSWER}: {WAY_BACK.does}": WAY_BACK.name}
            keep(bench, PART, meter.by_run(names, partial(answered, bench, PART, FLOWS, MEASURE_S, MISS)))


@contextmanager
def _watched(meter: Meter, tables: Mapping[str, Content]) -> Iterator[None]:
    """All programs of parts.c, attached and measured inside the block."""
    with ExitStack() as stack:
        module = stack.enter_context(compiler.compiled(source.join(HERE / FILE), HERE, DEFAULTS.max_flows))
        for name, content in tables.items():
            for key, value in content.items():
                bpf.update(module[name].map_fd, key, value)
        for part in (*AT_A_CONNECTION, STORED, FLOW, WAY_BACK):
            stack.enter_context(meter.watching(part, compiler.load(module, part)))
        yield


def _content(maps: Path, name: str) -> Content:
    """What a table of ipvsca has."""
    table = open_table(maps, name)
    try:
        return {bytes(key): bytes(value) for key, value in table.items()}
    finally:
        table.close()
