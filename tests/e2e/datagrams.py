"""UDP flows through the lab's director to real applications: what each client is, and what was seen of it."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from ipvsca.address import Address, Endpoint
from ipvsca.kernel.clock import NANOSECONDS
from tests.apps.datagrams import SeenDatagram
from tests.apps.program import Program
from tests.apps.runner import Running, running
from tests.apps.udp_catalogue import UDP_APPS, UdpApp
from tests.definitions import defined
from tests.e2e.traffic import CLIENTS_AT_ONCE, TIMEOUT_S, Tally, Way, continuously, own_address
from tests.lab import addresses as a
from tests.lab.control import Director
from tests.lab.messages import Announce, Protocol, Service, Uoa, UoaMode
from tests.lab.topology import Lab

SERVICE_PORT = 53
SERVER_PORT = 5300

SHORT_S = 48
SHORT = ("udp_timeout", str(SHORT_S))
UNUSED_NS = ((SHORT_S >> defined("REFRESH_SHIFT")) + 1) * NANOSECONDS
"""With this timeout a flow not used for so long is written again (bpf/flows.h). With the default one it would have to
be older than some machines have run."""

BOUND = Way("bound", a.VIP_V4, a.RIPS_V4[0], str(a.RIPS_V4[0]))
ANY = Way("any", a.VIP_V4, a.RIPS_V4[0], "0.0.0.0")
DUAL = Way("dual-stack", a.VIP_V4, a.RIPS_V4[0], "::", shows_v4_as_mapped=True)
IPV6 = Way("ipv6", a.VIP_V6, a.RIPS_V6[0], str(a.RIPS_V6[0]), v6only=True)
IPV6_ON_DUAL = Way("ipv6-on-dual", a.VIP_V6, a.RIPS_V6[0], "::", shows_v4_as_mapped=True)
NAT64 = Way("nat64", a.VIP_V6, a.RIPS_V4[0], "0.0.0.0")
NAT64_ON_DUAL = Way("nat64-on-dual", a.VIP_V6, a.RIPS_V4[0], "::", shows_v4_as_mapped=True)
NAT46 = Way("nat46", a.VIP_V4, a.RIPS_V6[0], "::", shows_v4_as_mapped=True)

ANNOUNCED = (BOUND, ANY, DUAL)
UNANNOUNCED = (*ANNOUNCED, IPV6, IPV6_ON_DUAL)
OF_TWO_FAMILIES = (NAT64, NAT64_ON_DUAL, NAT46)

BY_UOA = tuple((mode, way) for mode, ways in ((UoaMode.IPO, ANNOUNCED), (UoaMode.OPP, UNANNOUNCED)) for way in ways)
BY_UOA_OF_TWO_FAMILIES = tuple(
    (mode, way) for mode in UoaMode for way in OF_TWO_FAMILIES if way.rip.version == 4 or mode is UoaMode.OPP
)
"""An IPv4 option cannot go to an IPv6 server."""

_names = itertools.count()


@dataclass(frozen=True)
class Exchange:
    """What one client is, what the director made of it, what it sent, and what the application saw."""

    client: Endpoint
    director: Endpoint
    payload: bytes
    seen: SeenDatagram


@dataclass(frozen=True)
class Datagrams:
    """The lab's clients, director and real server, put to work."""

    lab: Lab
    director: Director
    built: Path

    @contextmanager
    def serving(self, app: Program, way: Way) -> Iterator[Running]:
        """The application on the real server, in the cgroup whose services are restored."""
        if missing := app.missing():
            pytest.skip(missing)
        launch = partial(self.lab.server.popen, cgroup=self.lab.cgroup)
        with running(app, way.listen, SERVER_PORT, launch, shared=self.built, v6only=way.v6only) as process:
            yield process

    def direct(self, way: Way, announce: Announce | None = None, uoa: Uoa | None = None) -> None:
        """Have the director serve a way, and tell clients like this."""
        # A client that gets the port of an earlier one would otherwise go on with that one's flow.
        self.director.forget_all()
        vip, server = Endpoint(way.vip, SERVICE_PORT), Endpoint(way.rip, SERVER_PORT)
        self.director.serve(Service(vip, (server,), protocol=Protocol.UDP, announce=announce, uoa=uoa))

    def socket(self, source: Address, to: Endpoint | None = None, port: int = 0) -> socket.socket:
        """A client's socket; connected, where `to` says to what."""
        family = socket.AF_INET if source.version == 4 else socket.AF_INET6
        with self.lab.client.entered():
            client = socket.socket(family, socket.SOCK_DGRAM)
        client.settimeout(TIMEOUT_S)
        client.bind((str(source), port))
        if to:
            client.connect((str(to.address), to.port))
        return client

    def ask(self, app: UdpApp, way: Way, own: Path, times: int = 1) -> list[Exchange]:
        """Several clients at once, if the application can; each has an address, and fails where it gets no answer."""
        to = Endpoint(way.vip, SERVICE_PORT)
        sources = way.sources[: 1 if app.one_client else CLIENTS_AT_ONCE]
        with ExitStack() as stack:
            sockets = [stack.enter_context(self.socket(source, to)) for source in sources]
            exchanges = []
            for _ in range(times):
                payloads = [f"ask-{next(_names)}".encode() for _ in sockets]
                with ThreadPoolExecutor(1 if app.in_turn else len(sockets)) as pool:
                    seen = list(pool.map(app.ask, sockets, payloads, [own] * len(sockets)))
                exchanges += list(zip(map(own_address, sockets), payloads, seen, strict=True))
        local = self.director.locals_towards(to)
        return [Exchange(client, local[client], payload, seen) for client, payload, seen in exchanges]

    @contextmanager
    def continuous(self, app: UdpApp, way: Way, own: Path) -> Iterator[Tally]:
        """New flows and one that lasts, of two clients, while the block is executed; afterwards none was seen wrong."""
        to, server = Endpoint(way.vip, SERVICE_PORT), way.shown(Endpoint(way.rip, SERVER_PORT)).address
        sources = way.sources[:2]
        with ExitStack() as stack:
            lasting = {source: stack.enter_context(self.socket(source, to)) for source in sources}

            def ask_once(source: Address, tally: Tally) -> None:
                with self.socket(source, to) as new:
                    for client in (new, lasting[source]):
                        payload = f"ask-{next(_names)}".encode()
                        expected = app.sees(way.shown(own_address(client)), server, payload)
                        tally.add(own_address(client), expected, app.ask(client, payload, own))

            yield stack.enter_context(continuously(ask_once, sources))


def assert_restored(exchanges: list[Exchange], app: UdpApp, way: Way) -> None:
    """Each datagram was seen as its client's, by every call the application makes."""
    assert [each.seen for each in exchanges] == [_expected(each, each.client, app, way) for each in exchanges]


def assert_untouched(exchanges: list[Exchange], app: UdpApp, way: Way) -> None:
    """What was seen is what anyone sees without ipvsca."""
    assert [each.seen for each in exchanges] == [_expected(each, each.director, app, way) for each in exchanges]


def _expected(exchange: Exchange, peer: Endpoint, app: UdpApp, way: Way) -> SeenDatagram:
    server = way.shown(Endpoint(way.rip, SERVER_PORT)).address
    return app.sees(way.shown(peer), server, exchange.payload)


every_udp_app = pytest.mark.parametrize("app", UDP_APPS, ids=str)
