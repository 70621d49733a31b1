"""TCP connections through the lab's director to real applications: what each client is, and what was seen of it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from threading import Condition, Event

import pytest
from scapy.layers.inet import IP, TCP

from ipvsca.address import Address, Endpoint
from tests.apps.catalogue import APPS, App
from tests.apps.program import Program
from tests.apps.runner import Running, running
from tests.apps.seen import Seen, v4_mapped
from tests.lab import addresses as a
from tests.lab.capture import Capture
from tests.lab.control import Director
from tests.lab.messages import Service, Toa
from tests.lab.topology import Lab

SERVICE_PORT = 80
SERVER_PORT = 8000
TIMEOUT_S = 10.0
CLIENTS_AT_ONCE = 4


@dataclass(frozen=True)
class Way:
    """From a virtual address to a listener: which families lie on the way."""

    name: str
    vip: Address
    rip: Address
    listen: str
    v6only: bool = False
    shows_v4_as_mapped: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def sources(self) -> tuple[Address, ...]:
        clients: tuple[Address, ...] = a.CLIENTS_V4 if self.vip.version == 4 else a.CLIENTS_V6
        return clients[:CLIENTS_AT_ONCE]

    def shown(self, peer: Endpoint) -> Endpoint:
        """How this listener's sockets show a client, or a director."""
        return v4_mapped(peer) if self.shows_v4_as_mapped and isinstance(peer.address, IPv4Address) else peer


IPV4 = Way("ipv4", a.VIP_V4, a.RIPS_V4[0], str(a.RIPS_V4[0]))
IPV6 = Way("ipv6", a.VIP_V6, a.RIPS_V6[0], str(a.RIPS_V6[0]), v6only=True)
DUAL_V4 = Way("ipv4-on-dual", a.VIP_V4, a.RIPS_V4[0], "::", shows_v4_as_mapped=True)
DUAL_V6 = Way("ipv6-on-dual", a.VIP_V6, a.RIPS_V6[0], "::", shows_v4_as_mapped=True)
NAT64 = Way("nat64-on-dual", a.VIP_V6, a.RIPS_V4[0], "::", shows_v4_as_mapped=True)
NAT46 = Way("nat46", a.VIP_V4, a.RIPS_V6[0], str(a.RIPS_V6[0]), v6only=True, shows_v4_as_mapped=True)
NAT64_ON_IPV4 = Way("nat64-on-ipv4", a.VIP_V6, a.RIPS_V4[0], str(a.RIPS_V4[0]))
"""Here an IPv6 client cannot be shown."""

WAYS = (IPV4, IPV6, DUAL_V4, DUAL_V6, NAT64, NAT46)

every_way = pytest.mark.parametrize("way", WAYS, ids=str)
every_app = pytest.mark.parametrize("app", APPS, ids=str)


@dataclass(frozen=True)
class Answer:
    """What one client is, what the director made of it, and what the application saw."""

    client: Endpoint
    director: Endpoint
    """LIP:lport; the client itself where no director was on the way."""
    seen: Seen


class Tally:
    """How many clients were seen as themselves, and which were not."""

    def __init__(self) -> None:
        self.enough = Event()
        self.right = 0
        self.wrong: list[tuple[Endpoint, object]] = []
        self._more = Condition()

    def add(self, client: Endpoint, expected: object, seen: object) -> None:
        with self._more:
            if seen == expected:
                self.right += 1
            else:
                self.wrong.append((client, seen))
            self._more.notify_all()

    def wait_for(self, more: int) -> None:
        """Until so many more clients were answered."""
        with self._more:
            target = self.right + len(self.wrong) + more
            assert self._more.wait_for(lambda: self.right + len(self.wrong) >= target, TIMEOUT_S)


@dataclass(frozen=True)
class Traffic:
    """The lab's clients, director and real server, put to work."""

    lab: Lab
    director: Director
    built: Path
    """Where applications are compiled to."""

    @contextmanager
    def serving(self, app: Program, way: Way, *extra: str, cgroup: Path | None = None) -> Iterator[Running]:
        """The application on the real server, in the cgroup whose connections are restored (or in another one)."""
        if missing := app.missing():
            pytest.skip(missing)
        launch = partial(self.lab.server.popen, cgroup=cgroup or self.lab.cgroup)
        with running(
            app, way.listen, SERVER_PORT, launch, shared=self.built, v6only=way.v6only, extra=extra
        ) as process:
            yield process

    def direct(self, way: Way, toa: Toa, *, lose_final_ack: bool = False) -> None:
        """Have the director serve a way, and tell clients like this."""
        vip, server = Endpoint(way.vip, SERVICE_PORT), Endpoint(way.rip, SERVER_PORT)
        self.director.serve(Service(vip, (server,), toa, lose_final_ack=lose_final_ack))

    def connect(self, to: Endpoint, source: Address) -> socket.socket:
        with self.lab.client.entered():
            return socket.create_connection((str(to.address), to.port), TIMEOUT_S, source_address=(str(source), 0))

    def ask(self, app: App, way: Way) -> list[Answer]:
        """Several clients at once, each from an address of its own, all connected before the first one speaks."""
        return self._ask(app, way, Endpoint(way.vip, SERVICE_PORT), way.sources)

    def ask_without_director(self, app: App, way: Way) -> list[Answer]:
        """The same, straight to the real server."""
        sources = a.CLIENTS_V4 if way.rip.version == 4 else a.CLIENTS_V6
        return self._ask(app, way, Endpoint(way.rip, SERVER_PORT), sources[:CLIENTS_AT_ONCE])

    @contextmanager
    def continuous(self, app: App, way: Way) -> Iterator[Tally]:
        """One client after the other, in two threads, as long as the block lasts; afterwards nobody was seen wrong."""

        def ask_once(source: Address, tally: Tally) -> None:
            with self.connect(Endpoint(way.vip, SERVICE_PORT), source) as client:
                tally.add(own_address(client), app.sees(way.shown(own_address(client))), app.ask(client))

        with continuously(ask_once, way.sources[:2]) as tally:
            yield tally

    def _ask(self, app: App, way: Way, to: Endpoint, sources: tuple[Address, ...]) -> list[Answer]:
        with ExitStack() as stack:
            sockets = [stack.enter_context(self.connect(to, source)) for source in sources]
            clients = [own_address(client) for client in sockets]
            local = self.director.locals_towards(to)
            with ThreadPoolExecutor(len(sockets)) as pool:
                seen = list(pool.map(app.ask, sockets))
        return [Answer(client, local.get(client, client), sees) for client, sees in zip(clients, seen, strict=True)]


@contextmanager
def continuously(ask_once: Callable[[Address, Tally], None], sources: tuple[Address, ...]) -> Iterator[Tally]:
    """Ask again and again, a thread for each source, as long as the block lasts; afterwards nobody was seen wrong."""
    tally = Tally()

    def keep_asking(source: Address) -> None:
        while not tally.enough.is_set():
            ask_once(source, tally)

    with ThreadPoolExecutor(len(sources)) as pool:
        workers = [pool.submit(keep_asking, source) for source in sources]
        try:
            yield tally
        finally:
            tally.enough.set()
        for worker in workers:
            worker.result()
    assert not tally.wrong, tally.wrong


def syn_destination(capture: Capture) -> Endpoint:
    """Where the first SYN went, over IPv4, that the captured namespace sent."""
    for seen in capture.packets():
        segment = IP(seen.packet)
        if not seen.incoming and segment.version == 4 and TCP in segment and segment[TCP].flags == "S":
            return Endpoint.of(segment.dst, segment[TCP].dport)
    raise AssertionError("no SYN was sent")


def own_address(client: socket.socket) -> Endpoint:
    host, port, *_ = client.getsockname()
    return Endpoint.of(host, port)


def assert_restored(answers: list[Answer], app: App, way: Way) -> None:
    """Each client was seen as itself, by every call the application makes."""
    assert [answer.seen for answer in answers] == [app.sees(way.shown(answer.client)) for answer in answers]


def assert_untouched(answers: list[Answer], app: App, way: Way) -> None:
    """What was seen is what anyone sees without ipvsca."""
    assert [answer.seen for answer in answers] == [app.sees(way.shown(answer.director)) for answer in answers]
