"""`udp_restore = false`, switched while an application runs: it sees directors, and clients are kept all the same."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ipvsca.address import Endpoint
from ipvsca.dataplane import DataPlane
from tests.e2e.datagrams import SERVER_PORT, SERVICE_PORT, SHORT, UNUSED_NS, Datagrams
from tests.e2e.puppet import Puppet, puppet
from tests.e2e.traffic import own_address
from tests.lab import addresses as a
from tests.lab.messages import Announce, Protocol, Service
from tests.rig import Ipvsca

VIP = Endpoint(a.VIP_V4, SERVICE_PORT)
OFF = ("udp_restore", "false")
CLOCK_MONOTONIC_COARSE = 6  # linux/time.h; which the hooks read


@pytest.fixture(scope="module", autouse=True)
def _loaded(ipvsca: Ipvsca) -> Iterator[None]:
    with ipvsca.loaded():
        yield


@contextmanager
def exchange(datagrams: Datagrams) -> Iterator[tuple[Puppet, socket.socket, tuple[str, int], tuple[str, int]]]:
    """The server's end, socket `s`, a client that it has received from, and how client and director are shown."""
    datagrams.director.forget_all()
    server_end = Endpoint(a.RIPS_V4[0], SERVER_PORT)
    datagrams.director.serve(Service(VIP, (server_end,), protocol=Protocol.UDP, announce=Announce()))
    with puppet(datagrams.lab) as server, datagrams.socket(a.CLIENTS_V4[0], VIP) as client:
        server(f"s = socket(AF_INET, SOCK_DGRAM); s.bind(('0.0.0.0', {SERVER_PORT}))")
        client.send(b"first")
        seen = as_tuple(own_address(client))
        assert server("s.recvfrom(99)") == (b"first", seen)
        (lip,) = (known.local for known in datagrams.director.connections() if known.client == own_address(client))
        yield server, client, seen, as_tuple(lip)


def as_tuple(endpoint: Endpoint) -> tuple[str, int]:
    return str(endpoint.address), endpoint.port


def test_what_is_received_comes_from_the_director(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    with exchange(datagrams) as (server, client, seen, lip):
        with ipvsca.having(*OFF), ipvsca.counted(recvmsg_restored=0):
            client.send(b"second")
            assert server("s.recvfrom(99)") == (b"second", lip)
            server(f"s.sendto(b'answer', {lip})")
            assert client.recv(99) == b"answer"
        client.send(b"third")
        assert server("s.recvfrom(99)") == (b"third", seen)


def test_what_is_sent_to_a_client_goes_there(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    """Though a way back is known from before."""
    with (
        exchange(datagrams) as (server, _, seen, _),
        ipvsca.having(*OFF),
        ipvsca.counted(sendmsg_redirected=0, connect_redirected=0),
    ):
        server(f"s.sendto(b'to the client itself', {seen})")
        server(f"s.connect({seen})")


def test_switched_back_on_a_way_back_is_known_again(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    with exchange(datagrams) as (server, client, seen, _):
        with ipvsca.having(*OFF):
            pass
        with ipvsca.counted(sendmsg_redirected=1, connect_redirected=1):
            server(f"s.sendto(b'answer', {seen})")
            server(f"s.connect({seen})")
        assert client.recv(99) == b"answer"


def test_receiving_keeps_a_flow_alive(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    with (
        exchange(datagrams) as (server, client, _, lip),
        ipvsca.having(*OFF),
        ipvsca.having(*SHORT),
        DataPlane(ipvsca.pin_path) as plane,
    ):
        table = plane.table("flows")
        ((key, known),) = [item for item in plane.flows() if as_tuple(item[0].director) == lip]
        known.used_ns -= UNUSED_NS
        table.put(key, known)
        begun_ns = time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE)
        client.send(b"again")
        assert server("s.recvfrom(99)") == (b"again", lip)
        assert table.get(key).used_ns >= begun_ns
