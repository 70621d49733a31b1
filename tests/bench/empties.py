"""Programs that do nothing, at the hooks that ipvsca has: what the kernel takes to get to a program at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ipvsca.kernel import bpf, compiler, source
from ipvsca.kernel.interfaces import Interfaces
from ipvsca.kernel.programs import AttachType, Program, ProgramType
from tests.bench.programs import HERE, attached
from tests.lab.built import Built
from tests.lab.namespace import Namespace

FILE = "empty.c"
FILTER = Path("/bench")
"""By which the filter of EMPTY_TC is found again."""


def _empty(name: str, attach: AttachType) -> Program:
    return Program(name, FILE, ProgramType.CGROUP_SOCK_ADDR, attach, "nothing")


EMPTY_TC = Program("empty_tc", FILE, ProgramType.SCHED_CLS, None, "nothing")
BESIDE = {
    "ipvsca_eth": EMPTY_TC,
    "ipvsca_sockops": Program("empty_sockops", FILE, ProgramType.SOCK_OPS, AttachType.CGROUP_SOCK_OPS, "nothing"),
    "ipvsca_peer4": _empty("empty_peer4", AttachType.CGROUP_INET4_GETPEERNAME),
    "ipvsca_recv4": _empty("empty_recv4", AttachType.CGROUP_UDP4_RECVMSG),
    "ipvsca_send4": _empty("empty_send4", AttachType.CGROUP_UDP4_SENDMSG),
    "ipvsca_lookup": Program("empty_lookup", FILE, ProgramType.CGROUP_SOCKOPT, AttachType.CGROUP_GETSOCKOPT, "nothing"),
}
"""The empty program for each of ipvsca's that the bench's traffic meets."""


class Empties(Built):
    """Loaded inside the block, for the applications of this cgroup and eth0 of this namespace."""

    fds: dict[str, int]
    """Their descriptors by name."""

    def __init__(self, server: Namespace, cgroup: Path) -> None:
        super().__init__()
        self._server = server
        self._cgroup = cgroup

    @contextmanager
    def attached(self) -> Iterator[None]:
        """All of them, inside the block."""
        with ExitStack() as stack:
            for empty in BESIDE.values():
                if empty.attach is not None:
                    stack.enter_context(attached(self.fds[empty.name], self._cgroup, empty.attach))
            stack.enter_context(self._at_ingress())
            yield

    def _build(self, stack: ExitStack) -> None:
        module = stack.enter_context(compiler.compiled(source.join(HERE / FILE), HERE, 1))
        self.fds = {empty.name: compiler.load(module, empty) for empty in BESIDE.values()}

    @contextmanager
    def _at_ingress(self) -> Iterator[None]:
        program = self.fds[EMPTY_TC.name]
        with self._server.entered():
            interfaces = Interfaces()
        with interfaces:
            (eth0,) = interfaces.select(("eth0",))
            interfaces.attach(eth0, program, bpf.program_id(program), FILTER)
            try:
                yield
            finally:
                interfaces.detach(eth0, FILTER)
