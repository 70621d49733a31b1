"""`make demo`: nginx behind a FULLNAT director, and what its access log tells before, with and after ipvsca."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address
from pathlib import Path

from ipvsca.address import Address, Endpoint
from tests.apps.catalogue import app
from tests.apps.runner import NotReady, running
from tests.apps.seen import accesses, answer_http
from tests.lab import addresses as a
from tests.lab.control import REPOSITORY, Director
from tests.lab.messages import Service
from tests.lab.topology import Lab

TIMEOUT_S = 5.0
WIDTH = 98
BOLD, RED, GREEN, YELLOW, CYAN = 1, 31, 32, 33, 36

SERVER_V4 = Endpoint(a.RIPS_V4[0], 80)
SERVER_V6 = Endpoint(a.RIPS_V6[0], 80)
SERVER_NAT64 = Endpoint(a.RIPS_V4[0], 64)
LISTEN_NAT64 = f"[::]:{SERVER_NAT64.port}"

IPV4 = Service(Endpoint(a.VIP_V4, 80), (SERVER_V4,))
IPV6 = Service(Endpoint(a.VIP_V6, 80), (SERVER_V6,))
NAT64 = Service(Endpoint(a.VIP_V6, 64), (SERVER_NAT64,))

VISITORS: tuple[tuple[str, Service, tuple[Address, ...]], ...] = (
    ("IPv4", IPV4, a.CLIENTS_V4[:3]),
    ("IPv6", IPV6, a.CLIENTS_V6[:3]),
    ("NAT64: clients with IPv6, real server with IPv4", NAT64, a.CLIENTS_V6[3:5]),
)

INTRODUCTION = f"""\
ipvsca demo: nginx behind a FULLNAT load balancer

     clients                       director (FULLNAT)              real server
   +-----------------------+     +-----------------------+     +---------------------------+
   | {f"{a.CLIENTS_V4[0]}, .2 ..":<21} | --> | VIP {a.VIP_V4!s:<17} | --> | nginx  {SERVER_V4!s:<18} |
   | {f"{a.CLIENTS_V6[0]}, ::2 ..":<21} |     |     {a.VIP_V6!s:<17} |     |        {SERVER_V6!s:<18} |
   +-----------------------+     | LIP {f"{a.LIPS_V4[0]}, .3":<17} |     |        {LISTEN_NAT64:<18} |
                                 |     {f"{a.LIPS_V6[0]}, ::3":<17} |     +---------------------------+
                                 +-----------------------+

   The director passes each connection on from an address and port of its own, LIP:lport, and
   names the client in a TCP option, of which a real server's kernel knows nothing. All three
   are network namespaces of this machine, made for this demo; the packets and nginx are real.
"""

ROW = "   {:<23}{:<60}{}"


class Failure(Exception):
    """The demo cannot go on, and why."""


@dataclass(frozen=True)
class Visit:
    """One request: who made it, as whom the director passed it on, and nginx's line about it."""

    client: Endpoint
    local: Endpoint
    line: str

    @property
    def logged(self) -> Endpoint:
        """Whom the line names. A dual-stack socket shows an IPv4 address as ::ffff:a.b.c.d."""
        (access,) = accesses(self.line)
        address = access.client.address
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return Endpoint(mapped or address, access.client.port)


@dataclass(frozen=True)
class Named:
    """Whom a line of the log should name, and the colour in which it then does."""

    who: str
    of: Callable[[Visit], Endpoint]
    colour: int


DIRECTOR = Named("the director", lambda visit: visit.local, YELLOW)
CLIENT = Named("the client", lambda visit: visit.client, GREEN)


@dataclass(frozen=True)
class Stage:
    """What the demo plays on: a lab in which director and nginx run."""

    lab: Lab
    director: Director
    log: Path
    folder: Path

    @contextmanager
    def connected(self, service: Service, source: Address) -> Iterator[socket.socket]:
        """A connection of this client."""
        vip = (str(service.vip.address), service.vip.port)
        with self.lab.client.entered():
            connection = socket.create_connection(vip, TIMEOUT_S, source_address=(str(source), 0))
        with connection:
            yield connection

    def visit(self, service: Service, source: Address) -> Visit:
        """One request of this client. nginx has logged it by the time that the connection ends."""
        with self.connected(service, source) as connection:
            client = Endpoint.of(*connection.getsockname()[:2])
            answer_http(connection)
        return Visit(client, self.director.connection(client).local, self.log.read_text().splitlines()[-1])

    def visits(self, named: Named) -> bool:
        """A table of everybody's request; whether nginx's log names whom it should in each."""
        print(_coloured(ROW.format("client", "line in nginx's access log", "names"), BOLD))
        right = True
        for title, service, sources in VISITORS:
            print(f"   {title}")
            for source in sources:
                right &= _show(self.visit(service, source), named)
        print()
        return right

    def shell(self, command: str) -> None:
        """Run a command on the real server and show both. Raises Failure where it fails."""
        print(f"   {_coloured('server#', CYAN)} {_coloured(command, BOLD)}")
        done = self.lab.server.run(
            ["bash", "-o", "pipefail", "-c", command],
            check=False,
            capture_output=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=os.environ | {"PATH": f"{self.folder}:{os.environ['PATH']}"},
        )
        for line in done.stdout.splitlines():
            indent = " " * (len(line) - len(line.lstrip()) + 7)
            print(textwrap.fill(line, WIDTH, initial_indent=" " * 3, subsequent_indent=indent))
        print()
        if done.returncode:
            raise Failure(f"`{command}` ended with status {done.returncode}")


def main() -> int:
    """Show everything, clean up whatever happens, and return 0 if every address was right."""
    if os.geteuid():
        print("demo: run it as root (sudo make demo): it makes network namespaces and loads BPF programs")
        return 1
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    began = time.monotonic()
    try:
        right = _in_a_lab(_play)
    except KeyboardInterrupt:
        print("\ninterrupted; everything is cleaned up")
        return 128 + signal.SIGINT
    except (Failure, NotReady, RuntimeError) as failure:
        print(_coloured(f"FAILED: {failure}", RED))
        return 1
    print("Everything is cleaned up: nginx, director, cgroup, BPF file system and network namespaces.")
    if not right:
        print(_coloured("WRONG: nginx's log named somebody else where it is marked above.", RED))
        return 1
    seconds = time.monotonic() - began
    print(_coloured(f"Every address and every port was right, for IPv4, IPv6 and NAT64 ({seconds:.1f} s).", GREEN))
    return 0


def _in_a_lab(play: Callable[[Lab, Path], bool]) -> bool:
    """What `play` returns. Raises Failure where the lab leaves anything behind."""
    with Lab() as lab, tempfile.TemporaryDirectory(prefix="ipvsca-demo-") as folder:
        namespaces = (lab.client, lab.director, lab.server)
        made = (Path(folder), lab.bpffs, lab.cgroup.parent, *(namespace.path for namespace in namespaces))
        right = play(lab, Path(folder))
    left = [str(path) for path in made if path.exists()]
    if left:
        raise Failure(f"left behind: {', '.join(left)}")
    return right


def _play(lab: Lab, folder: Path) -> bool:
    """Every scene in turn; whether the log named whom it should in all of them."""
    print(INTRODUCTION)
    _install(lab, folder)
    director = lab.start_director((IPV4, IPV6, NAT64))
    launch = partial(lab.server.popen, cgroup=lab.cgroup)
    more = ("--listen", f"{SERVER_V6} ipv6only=on", "--listen", f"{LISTEN_NAT64} ipv6only=off")
    with running(app("nginx"), str(SERVER_V4.address), SERVER_V4.port, launch, shared=folder, extra=more) as nginx:
        stage = Stage(lab, director, nginx.directory / "access.log", folder)
        return all([_before(stage), _with_ipvsca(stage), _after(stage)])


def _install(lab: Lab, folder: Path) -> None:
    """The command `ipvsca` of this checkout, and a configuration that keeps it to the lab."""
    environment, python = (shlex.quote(text) for text in (f"PYTHONPATH={REPOSITORY}", sys.executable))
    program = folder / "ipvsca"
    program.write_text(f'#!/bin/sh\nexec env {environment} {python} -m ipvsca "$@"\n')
    program.chmod(0o755)
    (folder / "demo.toml").write_text(f'pin_path = "{lab.bpffs}/ipvsca"\ncgroup = "{lab.cgroup}"\n')


def _before(stage: Stage) -> bool:
    _scene("1. Without ipvsca, nginx sees the director.")
    return stage.visits(DIRECTOR)


def _with_ipvsca(stage: Stage) -> bool:
    _scene("2. With ipvsca, it sees the clients. nginx runs on: not restarted, not reconfigured.")
    stage.shell("cat demo.toml")
    stage.shell("ipvsca load --config demo.toml")
    right = stage.visits(CLIENT)
    _scene("3. What ipvsca tells, while two clients are connected.")
    with stage.connected(IPV4, a.CLIENTS_V4[0]), stage.connected(NAT64, a.CLIENTS_V6[3]):
        stage.shell("ipvsca list --config demo.toml | tr -s ' '")
        stage.shell("ipvsca stats --config demo.toml | awk '$1 > 0'")
        stage.shell("ipvsca check --config demo.toml | tail -n 3")
    return right


def _after(stage: Stage) -> bool:
    _scene("4. Unloaded, nginx sees the director again.")
    stage.shell("ipvsca unload --config demo.toml")
    right = _show(stage.visit(IPV4, a.CLIENTS_V4[0]), DIRECTOR)
    print()
    return right


def _scene(title: str) -> None:
    print(_coloured(title, BOLD), end="\n\n")


def _show(visit: Visit, named: Named) -> bool:
    """A row of the table; whether the line names whom it should."""
    is_right = visit.logged == named.of(visit)
    colour, verdict = (named.colour, named.who) if is_right else (RED, f"WRONG, not {named.of(visit)}")
    address, port, _ = visit.line.split(" ", 2)
    line = f"{visit.line:<60}".replace(f"{address} {port}", _coloured(f"{address} {port}", colour), 1)
    print(ROW.format(str(visit.client), line, _coloured(verdict, colour)))
    return is_right


def _coloured(text: str, code: int) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text


if __name__ == "__main__":
    sys.exit(main())
