"""What the bench plays on: a client and a real server, joined by a veth pair, with no director in between.

    client                                                        server
    eth0 10.80.0.1 ────────────────────────────────────── eth0 10.80.0.10
         LIPs 10.90.0.1 to .4

The director's part is played by a sock_ops program on the client's cgroup that writes the option (option.c), so that
connections come at the kernel's full speed, and by storms of packets from LIPs of 10.91.0.0/16 that nobody has.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path

from tests.bench import programs
from tests.bench.empties import Empties
from tests.bench.programs import Where
from tests.kernel_state import wait_until
from tests.lab import sandbox
from tests.lab.built import Built
from tests.lab.namespace import Namespace
from tests.rig import Ipvsca

CLIENT = IPv4Address("10.80.0.1")
RIP = IPv4Address("10.80.0.10")
LIPS = tuple(IPv4Address("10.90.0.0") + n for n in range(1, 5))
LIP_NETWORK = "10.90.0.0/16"
STORM_NETWORK = "10.91.0.0/16"
STRANGERS = "198.18.0.0/16"
"""Storms from there are not trusted by default."""

SYSCTLS = {
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/ip_local_port_range": "1024 65535",
    "core/somaxconn": "65535",
    "ipv4/tcp_max_syn_backlog": "65535",
}
END_TIMEOUT_S = 30.0


class Attached(Enum):
    """What is attached to the server's hooks."""

    NOTHING = "without"
    EMPTIES = "empty programs"
    IPVSCA = "with"


class Stage(Built):
    """Two namespaces, a cgroup for the applications and one for the client, a bpffs. A context manager."""

    client: Namespace
    server: Namespace
    ipvsca: Ipvsca
    cgroup: Path
    """Of the applications; ipvsca restores for them alone."""
    client_cgroup: Path
    bpffs: Path
    folder: Path
    """For files of this run."""

    empties: Empties

    def __init__(self) -> None:
        super().__init__()
        self._attached = Attached.NOTHING
        self._empties_attached = ExitStack()

    def restoring(self, is_wanted: bool) -> None:
        """Load ipvsca, or unload it."""
        self.have(Attached.IPVSCA if is_wanted else Attached.NOTHING)

    def have(self, wanted: Attached) -> None:
        """Attach this and nothing else; as long as it is so already, nothing happens."""
        if wanted is self._attached:
            return
        if self._attached is Attached.IPVSCA:
            self.ipvsca.run("unload")
        self._empties_attached.close()
        if wanted is Attached.IPVSCA:
            self.ipvsca.run("load")
        elif wanted is Attached.EMPTIES:
            self._empties_attached.enter_context(self.empties.attached())
        self._attached = wanted

    @contextmanager
    def restored(self, **settings: object) -> Iterator[Ipvsca]:
        """Loaded inside the block, with these settings."""
        self.restoring(False)
        with self.ipvsca.loaded(**settings):
            yield self.ipvsca

    @contextmanager
    def naming_clients(self, where: Where, until_answered: bool = False) -> Iterator[None]:
        """The client's connections carry the option inside the block; see programs.option()."""
        with programs.option(where, self.client_cgroup, until_answered):
            yield

    @contextmanager
    def serving(self, argv: Sequence[str | Path], port: int | None = None) -> Iterator[subprocess.Popen[str]]:
        """An application on the real server, ready inside the block.

        It is ready when it listens on this TCP port, or where none is named, when it says `ready`. Raises RuntimeError
        where it does not come to that.
        """
        log = self.folder / f"{Path(argv[0]).name}.log"
        with log.open("w") as messages:
            process: subprocess.Popen[str] = self.server.popen(
                argv, cgroup=self.cgroup, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages, text=True
            )
        assert process.stdout is not None
        try:
            if not (wait_until(lambda: self._listens(port)) if port else process.stdout.readline() == "ready\n"):
                raise RuntimeError(f"{argv[0]} has not started: {log.read_text()}")
            yield process
        finally:
            process.terminate()
            process.wait(timeout=END_TIMEOUT_S)

    def ask(self, argv: Sequence[str | Path], seconds: float = 0) -> str:
        """Run a program of the client's side to its end and return what it said; it may take so long and some more."""
        return self.client.run(argv, cgroup=self.client_cgroup, timeout=seconds + 60).stdout

    def program(self, name: str) -> Path:
        """One of this folder's C programs, compiled."""
        return programs.build(name, self.folder)

    def _listens(self, port: int) -> bool:
        rows = Path(f"/proc/{self.server.pid}/net/tcp").read_text().splitlines()[1:]
        return any(local.endswith(f":{port:04X}") and state == "0A" for _, local, _, state, *_ in map(str.split, rows))

    def _build(self, stack: ExitStack) -> None:
        self.bpffs = stack.enter_context(sandbox.bpffs())
        everything = stack.enter_context(sandbox.cgroup())
        self.cgroup, self.client_cgroup = everything / "applications", everything / "client"
        self.cgroup.mkdir()
        self.client_cgroup.mkdir()
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ipvsca-bench-")))
        self.client, self.server = (stack.enter_context(Namespace(everything)) for _ in range(2))
        self._link()
        self.ipvsca = Ipvsca(self.server, self.bpffs / "ipvsca", self.cgroup, self.folder)
        self.empties = stack.enter_context(Empties(self.server, self.cgroup))
        stack.callback(self.restoring, False)

    def _link(self) -> None:
        for namespace in (self.client, self.server):
            with namespace.entered():
                for name, value in SYSCTLS.items():
                    Path("/proc/sys/net", name).write_text(value)
        _ip(self.client, [f"link add eth0 type veth peer name eth0 netns {self.server.pid}"])
        both = ["link set lo up", "link set eth0 up"]
        _ip(self.client, [*both, f"address add {CLIENT}/24 dev eth0", *(f"address add {lip} dev lo" for lip in LIPS)])
        _ip(
            self.server,
            [
                *both,
                f"address add {RIP}/24 dev eth0",
                *(f"route add {network} via {CLIENT}" for network in (LIP_NETWORK, STORM_NETWORK, STRANGERS)),
            ],
        )


def _ip(namespace: Namespace, lines: list[str]) -> None:
    namespace.run(["ip", "-batch", "-"], input="\n".join(lines))
