"""UDP applications see the client that UOA tells, in an IPv4 option or a header of its own; answers go back to it."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from ipvsca.address import Endpoint
from ipvsca.wire.uoa import PROTOCOL_OPP
from tests.apps.datagrams import read_datagram
from tests.apps.udp_catalogue import UdpApp, udp_app
from tests.e2e.datagrams import (
    ANY,
    BY_UOA,
    BY_UOA_OF_TWO_FAMILIES,
    IPV6_ON_DUAL,
    SERVER_PORT,
    SERVICE_PORT,
    Datagrams,
    assert_restored,
    assert_untouched,
    every_udp_app,
)
from tests.e2e.puppet import Puppet, puppet
from tests.e2e.traffic import CLIENTS_AT_ONCE, TIMEOUT_S, Way, own_address
from tests.lab import addresses as a
from tests.lab.capture import Capture
from tests.lab.messages import Protocol, Service, Uoa, UoaMode
from tests.rig import Ipvsca

IPO, OPP = UoaMode.IPO, UoaMode.OPP
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0  # not in Python's socket module
WIDE_MTU, ETHERNET_MTU = 9000, 1500
LARGE = random.Random(0).randbytes(8000)

UNTOUCHED = {"recvmsg_restored": 0, "sendmsg_redirected": 0, "connect_redirected": 0}

_lports = itertools.count(7000)

every_way = pytest.mark.parametrize(("mode", "way"), BY_UOA, ids=str)
one_of_each = pytest.mark.parametrize(("mode", "way"), [(IPO, ANY), (OPP, ANY), (OPP, IPV6_ON_DUAL)], ids=str)
some_udp_apps = pytest.mark.parametrize(
    "app", [udp_app(name) for name in ("c-recvfrom", "c-recvmsg", "c-connect", "asyncio", "dnsmasq")], ids=str
)
both_modes = pytest.mark.parametrize("mode", UoaMode)
of_two_families = pytest.mark.parametrize(("mode", "way"), BY_UOA_OF_TWO_FAMILIES, ids=str)


@pytest.fixture(scope="module", autouse=True)
def _loaded(ipvsca: Ipvsca) -> Iterator[None]:
    with ipvsca.loaded():
        yield


@contextmanager
def wide(datagrams: Datagrams, server_mtu: int = WIDE_MTU) -> Iterator[None]:
    """Links that carry LARGE in one piece, the server's unless told otherwise."""
    lab = datagrams.lab
    try:
        lab.set_client_mtu(WIDE_MTU)
        lab.set_server_mtu(server_mtu)
        yield
    finally:
        lab.set_client_mtu(ETHERNET_MTU)
        lab.set_server_mtu(ETHERNET_MTU)


@contextmanager
def exchange(datagrams: Datagrams, way: Way, tells: Uoa) -> Iterator[tuple[Puppet, socket.socket]]:
    """The server's end, socket `s`, and a client of it."""
    datagrams.direct(way, uoa=tells)
    to = Endpoint(way.vip, SERVICE_PORT)
    with puppet(datagrams.lab) as server, datagrams.socket(way.sources[0], to) as client:
        family = "AF_INET6" if ":" in way.listen else "AF_INET"
        server(f"s = socket({family}, SOCK_DGRAM); s.bind(('{way.listen}', {SERVER_PORT}))")
        yield server, client


def shown(way: Way, endpoint: Endpoint) -> tuple[str, int]:
    """How a socket of this way shows it, without what IPv6 adds."""
    seen = way.shown(endpoint)
    return str(seen.address), seen.port


def receive(server: Puppet) -> tuple[bytes, tuple[str, int]]:
    payload, source = server("s.recvfrom(9999)")
    return payload, source[:2]


def director_of(datagrams: Datagrams, client: socket.socket) -> Endpoint:
    return datagrams.director.connection(own_address(client)).local


@every_udp_app
@every_way
def test_every_application_sees_its_client(
    datagrams: Datagrams, ipvsca: Ipvsca, app: UdpApp, mode: UoaMode, way: Way
) -> None:
    """The first three datagrams of each client tell it, and the last two find what these told."""
    clients = 1 if app.one_client else CLIENTS_AT_ONCE
    datagrams.direct(way, uoa=Uoa(mode))
    counted = {f"{mode}_learnt": 3 * clients, "flows_new": clients, "recvmsg_ambiguous": 0}
    with datagrams.serving(app, way) as process, ipvsca.counted(**counted):
        assert_restored(datagrams.ask(app, way, process.directory, times=5), app, way)


@pytest.mark.parametrize("server", ["dnsmasq", "unbound"])
@one_of_each
def test_a_name_server_does_not_mind_carriers(
    datagrams: Datagrams, ipvsca: Ipvsca, server: str, mode: UoaMode, way: Way
) -> None:
    app = udp_app(server)
    datagrams.direct(way, uoa=Uoa(mode, always_by_carrier=True))
    counted = {f"{mode}_learnt": 2 * CLIENTS_AT_ONCE, "flows_new": CLIENTS_AT_ONCE}
    with datagrams.serving(app, way) as process, ipvsca.counted(**counted):
        assert_restored(datagrams.ask(app, way, process.directory, times=2), app, way)


@one_of_each
def test_a_carrier_is_an_empty_datagram_of_the_client(
    datagrams: Datagrams, ipvsca: Ipvsca, mode: UoaMode, way: Way
) -> None:
    with exchange(datagrams, way, Uoa(mode, datagrams=1, always_by_carrier=True)) as (server, client):
        source = shown(way, own_address(client))
        with ipvsca.counted(**{f"{mode}_learnt": 1}, recvmsg_restored=2, sendmsg_redirected=1):
            client.send(b"question")
            assert [receive(server), receive(server)] == [(b"", source), (b"question", source)]
            server(f"s.sendto(b'answer', {source})")
            assert client.recv(99) == b"answer"


@pytest.mark.parametrize("payload", [b"", b"1", LARGE[:1400], LARGE], ids=len)
@one_of_each
def test_a_payload_arrives_intact(
    datagrams: Datagrams, ipvsca: Ipvsca, mode: UoaMode, way: Way, payload: bytes
) -> None:
    with wide(datagrams), exchange(datagrams, way, Uoa(mode, mtu=WIDE_MTU)) as (server, client):
        source = shown(way, own_address(client))
        with ipvsca.counted(**{f"{mode}_learnt": 3}, recvmsg_restored=4, sendmsg_redirected=4):
            for _ in range(4):
                client.send(payload)
                assert receive(server) == (payload, source)
                server(f"s.sendto({payload!r}, {source})")
                assert client.recv(9999) == payload


@contextmanager
def opp_sockets(datagrams: Datagrams) -> Iterator[socket.socket]:
    """Receives whole packets of opp's protocol that reach the server's IP layer with that header."""
    with datagrams.lab.server.entered():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL_OPP)
    with raw:
        raw.settimeout(TIMEOUT_S)
        yield raw


def test_opp_in_fragments_is_left_as_it_is(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    """The kernel puts the packet together with its header, for which it knows no use; the next datagram is plain."""
    with (
        wide(datagrams, ETHERNET_MTU),
        opp_sockets(datagrams) as raw,
        exchange(datagrams, ANY, Uoa(OPP, datagrams=1, mtu=WIDE_MTU)) as (server, client),
    ):
        client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        with ipvsca.counted(refused_opp_fragment=6, opp_learnt=0, recvmsg_restored=0):
            client.send(LARGE)
            assert raw.recv(9999).endswith(LARGE)
            client.send(b"plain")
            assert receive(server) == (b"plain", shown(ANY, director_of(datagrams, client)))


@both_modes
def test_fragments_behind_a_carrier_are_the_client_s(datagrams: Datagrams, ipvsca: Ipvsca, mode: UoaMode) -> None:
    """There is no room for the option, so it comes ahead; the datagram itself is plain and larger than the link."""
    with wide(datagrams, ETHERNET_MTU), exchange(datagrams, ANY, Uoa(mode)) as (server, client):
        client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        source = shown(ANY, own_address(client))
        with ipvsca.counted(**{f"{mode}_learnt": 1}, recvmsg_restored=2):
            client.send(LARGE)
            assert [receive(server), receive(server)] == [(b"", source), (LARGE, source)]


def test_ipo_is_read_in_the_first_fragment(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    with wide(datagrams, ETHERNET_MTU), exchange(datagrams, ANY, Uoa(IPO, mtu=WIDE_MTU)) as (server, client):
        client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        with ipvsca.counted(ipo_learnt=1, recvmsg_restored=1):
            client.send(LARGE)
            assert receive(server) == (LARGE, shown(ANY, own_address(client)))


@one_of_each
def test_many_clients_at_once(datagrams: Datagrams, ipvsca: Ipvsca, mode: UoaMode, way: Way) -> None:
    app, number, rounds = udp_app("c-recvmmsg"), 160, 5
    to = Endpoint(way.vip, SERVICE_PORT)
    sources = a.CLIENTS_V4 if way.vip.version == 4 else a.CLIENTS_V6
    datagrams.direct(way, uoa=Uoa(mode))
    with datagrams.serving(app, way), ExitStack() as stack:
        clients = [stack.enter_context(datagrams.socket(sources[n % len(sources)], to)) for n in range(number)]
        expected = [app.sees(way.shown(own_address(client)), way.rip, b"hello") for client in clients]
        counted = {f"{mode}_learnt": 3 * number, "flows_new": number, "recvmsg_restored": rounds * number}
        with ipvsca.counted(**counted, sendmsg_redirected=rounds * number):
            for _ in range(rounds):
                for client in clients:
                    client.send(b"hello")
                assert [read_datagram(client.recv(999)) for client in clients] == expected


@one_of_each
def test_an_lport_that_another_client_gets(datagrams: Datagrams, ipvsca: Ipvsca, mode: UoaMode, way: Way) -> None:
    """From its first datagram on the application sees the new client, and nothing meant for the old one goes to it."""
    lip = (a.LIPS_V4 if way.rip.version == 4 else a.LIPS_V6)[0]
    lport = next(_lports)
    to = Endpoint(way.vip, SERVICE_PORT)
    with exchange(datagrams, way, Uoa(mode)) as (server, first), datagrams.socket(way.sources[1], to) as second:
        service = Service(to, (Endpoint(way.rip, SERVER_PORT),), protocol=Protocol.UDP, uoa=Uoa(mode))
        datagrams.director.serve(replace(service, local_addresses=(lip,), local_ports=(lport, lport)))
        old, new = (shown(way, own_address(client)) for client in (first, second))
        first.send(b"one")
        assert receive(server) == (b"one", old)
        datagrams.director.forget(own_address(first))
        with ipvsca.counted(flows_replaced=1, flows_new=0):
            second.send(b"two")
            assert receive(server) == (b"two", new)
        with ipvsca.counted(sendmsg_redirected=1):
            server(f"s.sendto(b'for one', {old})")
            server(f"s.sendto(b'for two', {new})")
        assert second.recv(99) == b"for two"


@some_udp_apps
@of_two_families
def test_a_client_of_another_family_is_not_shown(
    datagrams: Datagrams, ipvsca: Ipvsca, app: UdpApp, mode: UoaMode, way: Way
) -> None:
    """The director stays, and is answered: a dual-stack socket could be shown the client, but could not answer it."""
    datagrams.direct(way, uoa=Uoa(mode))
    counted = {f"{mode}_learnt": CLIENTS_AT_ONCE, "recvmsg_unshowable": CLIENTS_AT_ONCE}
    with datagrams.serving(app, way) as process, ipvsca.counted(**counted, **UNTOUCHED):
        assert_untouched(datagrams.ask(app, way, process.directory), app, way)


@some_udp_apps
@one_of_each
def test_what_is_not_to_be_restored_is_not(
    datagrams: Datagrams, ipvsca: Ipvsca, app: UdpApp, mode: UoaMode, way: Way
) -> None:
    datagrams.direct(way, uoa=Uoa(mode))
    with (
        ipvsca.having("udp_restore", "false"),
        datagrams.serving(app, way) as process,
        ipvsca.counted(**{f"{mode}_learnt": 2 * CLIENTS_AT_ONCE}, **UNTOUCHED),
    ):
        assert_untouched(datagrams.ask(app, way, process.directory, times=2), app, way)


def test_ipo_of_a_stranger_names_nobody(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    with (
        ipvsca.having("trusted", "192.0.2.0/24"),
        exchange(datagrams, ANY, Uoa(IPO)) as (server, client),
        ipvsca.counted(refused_ipo_untrusted=1, ipo_learnt=0),
    ):
        client.send(b"question")
        assert receive(server) == (b"question", shown(ANY, director_of(datagrams, client)))


def test_opp_of_a_stranger_is_left_as_it_is(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    with (
        ipvsca.having("trusted", "192.0.2.0/24"),
        opp_sockets(datagrams) as raw,
        Capture(datagrams.lab.server) as capture,
        exchange(datagrams, ANY, Uoa(OPP, datagrams=1)) as (server, client),
    ):
        with ipvsca.counted(refused_opp_untrusted=1, opp_learnt=0):
            client.send(b"question")
            seen = raw.recv(9999)
        client.send(b"plain")
        assert receive(server) == (b"plain", shown(ANY, director_of(datagrams, client)))
    assert [packet for packet in capture.incoming() if packet[9] == PROTOCOL_OPP] == [seen]
