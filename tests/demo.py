"""`make demo`: nginx and dnsmasq behind a FULLNAT director, and whom their logs name without and with ipvsca."""

from __future__ import annotations

import itertools
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv6Address
from pathlib import Path
from string import ascii_lowercase

from ipvsca.address import Address, Endpoint
from tests.apps.catalogue import app
from tests.apps.dns import Question, read_answer
from tests.apps.dns_log import queries
from tests.apps.dns_server import DOMAIN, log_of
from tests.apps.runner import NotReady, running
from tests.apps.seen import accesses, answer_http
from tests.apps.udp_catalogue import udp_app
from tests.lab import addresses as a
from tests.lab.control import REPOSITORY, Director
from tests.lab.messages import Announce, Protocol, Service, Uoa, UoaMode
from tests.lab.topology import Lab

TIMEOUT_S = 5.0
WIDTH = 98
BOLD, RED, GREEN, YELLOW, CYAN = 1, 31, 32, 33, 36

SERVER_V4 = Endpoint(a.RIPS_V4[0], 80)
SERVER_V6 = Endpoint(a.RIPS_V6[0], 80)
SERVER_NAT64 = Endpoint(a.RIPS_V4[0], 64)
LISTEN_NAT64 = f"[::]:{SERVER_NAT64.port}"
SERVER_DNS = Endpoint(a.RIPS_V4[0], 53)

IPV4 = Service(Endpoint(a.VIP_V4, 80), (SERVER_V4,))
IPV6 = Service(Endpoint(a.VIP_V6, 80), (SERVER_V6,))
NAT64 = Service(Endpoint(a.VIP_V6, 64), (SERVER_NAT64,))
DNS = Service(Endpoint(a.VIP_V4, 53), (SERVER_DNS,), protocol=Protocol.UDP)
ANNOUNCED = replace(DNS, announce=Announce())
BY_OPTION = replace(DNS, vip=Endpoint(a.VIP_V4, 54), uoa=Uoa(UoaMode.IPO))

VISITORS: tuple[tuple[str, Service, tuple[Address, ...]], ...] = (
    ("IPv4", IPV4, a.CLIENTS_V4[:3]),
    ("IPv6", IPV6, a.CLIENTS_V6[:3]),
    ("NAT64: clients with IPv6, real server with IPv4", NAT64, a.CLIENTS_V6[3:5]),
)
ASKERS: tuple[tuple[str, Service, tuple[Address, ...]], ...] = (
    ("LVS: announced in a ping ahead", ANNOUNCED, a.CLIENTS_V4[:2]),
    ("DPVS: in an option of the question's IP header", BY_OPTION, a.CLIENTS_V4[2:4]),
)

INTRODUCTION = f"""\
ipvsca demo: nginx and dnsmasq behind a FULLNAT load balancer

     clients                       director (FULLNAT)              real server
   +-----------------------+     +-----------------------+     +---------------------------+
   | {f"{a.CLIENTS_V4[0]}, .2 ..":<21} | --> | VIP {a.VIP_V4!s:<17} | --> | nginx   {SERVER_V4!s:<17} |
   | {f"{a.CLIENTS_V6[0]}, ::2 ..":<21} |     |     {a.VIP_V6!s:<17} |     |         {SERVER_V6!s:<17} |
   +-----------------------+     | LIP {f"{a.LIPS_V4[0]}, .3":<17} |     |         {LISTEN_NAT64:<17} |
                                 |     {f"{a.LIPS_V6[0]}, ::3":<17} |     | dnsmasq {SERVER_DNS!s:<17} |
                                 +-----------------------+     +---------------------------+

   The director passes everything on from an address and port of its own, LIP:lport. In TCP it
   names the client in an option, of which a real server's kernel knows nothing. UDP has no
   options: LVS announces a flow in a ping (ICMP echo) ahead of it, with client and LIP:lport in
   it; DPVS writes the client into the IP header of a flow's first datagrams. The kernel only
   echoes the one, and skips the other; ipvsca reads both.

   All three are network namespaces of this machine, made for this demo; packets, nginx and
   dnsmasq are real.
"""

ROW = "   {:<23}{:<60}{}"


class Failure(Exception):
    """The demo cannot go on, and why."""


@dataclass(frozen=True)
class Visit:
    """One request: who made it, as whom the director passed it on, and the server's line about it."""

    client: Endpoint
    local: Endpoint
    line: str
    logged: Endpoint
    """Whom the line names."""
    as_logged: str
    """And in which words."""


def _of_nginx(client: Endpoint, local: Endpoint, line: str) -> Visit:
    """A dual-stack socket shows an IPv4 address as ::ffff:a.b.c.d."""
    (access,) = accesses(line)
    address, port = access.client.address, access.client.port
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return Visit(client, local, line, Endpoint(mapped or address, port), " ".join(line.split(" ")[:2]))


def _of_dnsmasq(client: Endpoint, local: Endpoint, line: str) -> Visit:
    """Without date, program and process id, which stand before the question's number."""
    (query,) = queries(line)
    short = line.partition("]: ")[2]
    return Visit(client, local, short, query.client, short.split(" ")[1])


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
    """What the demo plays on: a lab in which director, nginx and dnsmasq run."""

    lab: Lab
    director: Director
    access_log: Path
    query_log: Path
    folder: Path
    ports: Iterator[int] = field(default_factory=lambda: itertools.count(40001))
    """For UDP clients: none has one twice, because the director announces new flows only."""

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
        return _of_nginx(client, self.local(service, client), self.access_log.read_text().splitlines()[-1])

    def ask(self, service: Service, sources: Sequence[Address]) -> list[Visit]:
        """All of these clients ask, each for a name of its own, and only then read their answers.

        dnsmasq has logged a question before it answers it. Raises Failure where an answer is missing or another's.
        """
        questions = [Question(f"{letter}.{DOMAIN}") for letter in ascii_lowercase[: len(sources)]]
        with ExitStack() as stack:
            sockets = [
                stack.enter_context(self.asking(service, *pair)) for pair in zip(questions, sources, strict=True)
            ]
            return [self.answered(service, *pair) for pair in zip(questions, sockets, strict=True)]

    @contextmanager
    def asking(self, service: Service, question: Question, source: Address) -> Iterator[socket.socket]:
        """A socket of this client, over which the question has been sent."""
        with self.lab.client.entered():
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with asking:
            asking.settimeout(TIMEOUT_S)
            asking.bind((str(source), next(self.ports)))
            asking.connect((str(service.vip.address), service.vip.port))
            asking.send(bytes(question))
            yield asking

    def answered(self, service: Service, question: Question, asking: socket.socket) -> Visit:
        """The request that was sent over this socket, once its answer has come."""
        client = Endpoint.of(*asking.getsockname())
        try:
            read_answer(question, asking.recv(512))
        except (OSError, ValueError) as error:
            raise Failure(f"{client} has not got the answer to its question: {error}") from None
        lines = [line for line in self.query_log.read_text().splitlines() if f" {question.name} from " in line]
        return _of_dnsmasq(client, self.local(service, client), lines[-1])

    def local(self, service: Service, client: Endpoint) -> Endpoint:
        """LIP:lport under which this client came to the real server."""
        return self.director.locals_towards(service.vip)[client]

    def visits(self, named: Named) -> bool:
        """A table of everybody's request, for either server; whether its log names whom it should in each."""
        print(_coloured(ROW.format("client", "line in nginx's access log", "names"), BOLD))
        right = True
        for title, service, sources in VISITORS:
            print(f"   {title}")
            for source in sources:
                right &= _show(self.visit(service, source), named)
        print()
        print(_coloured(ROW.format("client", "line in dnsmasq's query log, without date", "names"), BOLD))
        for title, service, sources in ASKERS:
            print(f"   {title}")
            for visit in self.ask(service, sources):
                right &= _show(visit, named)
        print("   Each client has got the answer to its own question.\n")
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
    print("Everything is cleaned up: nginx, dnsmasq, director, cgroup, BPF file system, network namespaces.")
    if not right:
        print(_coloured("WRONG: a log named somebody else where it is marked above.", RED))
        return 1
    seconds = time.monotonic() - began
    print(_coloured(f"Every address and every port was right, in TCP and in UDP ({seconds:.1f} s).", GREEN))
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
    director = lab.start_director((IPV4, IPV6, NAT64, ANNOUNCED, BY_OPTION))
    launch = partial(lab.server.popen, cgroup=lab.cgroup)
    more = ("--listen", f"{SERVER_V6} ipv6only=on", "--listen", f"{LISTEN_NAT64} ipv6only=off")
    with (
        running(app("nginx"), str(SERVER_V4.address), SERVER_V4.port, launch, shared=folder, extra=more) as nginx,
        running(udp_app("dnsmasq"), str(SERVER_DNS.address), SERVER_DNS.port, launch, shared=folder) as dnsmasq,
    ):
        stage = Stage(lab, director, nginx.directory / "access.log", log_of(dnsmasq.directory), folder)
        return all([_before(stage), _with_ipvsca(stage), _after(stage)])


def _install(lab: Lab, folder: Path) -> None:
    """The command `ipvsca` of this checkout, and a configuration that keeps it to the lab."""
    environment, python = (shlex.quote(text) for text in (f"PYTHONPATH={REPOSITORY}", sys.executable))
    program = folder / "ipvsca"
    program.write_text(f'#!/bin/sh\nexec env {environment} {python} -m ipvsca "$@"\n')
    program.chmod(0o755)
    (folder / "demo.toml").write_text(f'pin_path = "{lab.bpffs}/ipvsca"\ncgroup = "{lab.cgroup}"\n')


def _before(stage: Stage) -> bool:
    _scene("1. Without ipvsca, nginx and dnsmasq see the director.")
    return stage.visits(DIRECTOR)


def _with_ipvsca(stage: Stage) -> bool:
    _scene("2. With ipvsca, they see the clients. Both run on: not restarted, not reconfigured.")
    stage.shell("cat demo.toml")
    stage.shell("ipvsca load --config demo.toml | sed 's/ on .*applications//'")
    right = stage.visits(CLIENT)
    _scene("3. What ipvsca tells, while two clients are connected in TCP and four have asked in UDP.")
    with stage.connected(IPV4, a.CLIENTS_V4[0]), stage.connected(NAT64, a.CLIENTS_V6[3]):
        stage.shell("ipvsca list --config demo.toml | cut -c 1-49,72-97,99-105,107-113,115-")
        stage.shell("ipvsca stats --config demo.toml | awk '$1 > 0'")
        stage.shell("ipvsca check --config demo.toml | tail -n 3")
    return right


def _after(stage: Stage) -> bool:
    _scene("4. Unloaded, they see the director again.")
    stage.shell("ipvsca unload --config demo.toml | tail -n 1")
    visits = [stage.visit(IPV4, a.CLIENTS_V4[0]), *stage.ask(ANNOUNCED, a.CLIENTS_V4[:1])]
    right = [_show(visit, DIRECTOR) for visit in visits]
    print()
    return all(right)


def _scene(title: str) -> None:
    print(_coloured(title, BOLD), end="\n\n")


def _show(visit: Visit, named: Named) -> bool:
    """A row of the table; whether the line names whom it should."""
    is_right = visit.logged == named.of(visit)
    colour, verdict = (named.colour, named.who) if is_right else (RED, f"WRONG, not {named.of(visit)}")
    line = f"{visit.line:<60}".replace(visit.as_logged, _coloured(visit.as_logged, colour), 1)
    print(ROW.format(str(visit.client), line, _coloured(verdict, colour)))
    return is_right


def _coloured(text: str, code: int) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text


if __name__ == "__main__":
    sys.exit(main())
