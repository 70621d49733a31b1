"""UDP applications see the announced client and their answers go back to it; other datagrams are as without ipvsca."""

from __future__ import annotations

import ctypes
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest

from ipvsca.address import Endpoint
from ipvsca.dataplane import NANOSECONDS, DataPlane
from ipvsca.kernel import bpf, layout
from ipvsca.kernel.maps import ONLY, possible_cpus
from ipvsca.wire.toa import KIND_DPVS, KIND_LVS
from tests.apps.catalogue import app
from tests.apps.udp_catalogue import UdpApp, udp_app
from tests.e2e.datagrams import (
    ANNOUNCED,
    ANY,
    SERVER_PORT,
    SERVICE_PORT,
    SHORT,
    UNANNOUNCED,
    UNUSED_NS,
    Datagrams,
    assert_restored,
    assert_untouched,
    every_udp_app,
)
from tests.e2e.puppet import Puppet, puppet
from tests.e2e.traffic import IPV4 as IPV4_TCP
from tests.e2e.traffic import NAT64 as NAT64_TCP
from tests.e2e.traffic import SERVER_PORT as TCP_SERVER_PORT
from tests.e2e.traffic import SERVICE_PORT as TCP_SERVICE_PORT
from tests.e2e.traffic import TIMEOUT_S, Traffic, Way, own_address, syn_destination
from tests.e2e.traffic import assert_restored as assert_tcp_restored
from tests.kernel_state import wait_until
from tests.lab import addresses as a
from tests.lab.capture import Capture
from tests.lab.messages import ALWAYS, Announce, Protocol, Service, Toa, Where
from tests.rig import Ipvsca

RECVFROM = udp_app("c-recvfrom")
LIP = a.LIPS_V4[0]
_lports = itertools.count(7000)
RIP = a.RIPS_V4[0]
OTHER_RIP = a.RIPS_V4[1]
VIP_PORT = (str(a.VIP_V4), SERVICE_PORT)
CLOCK_MONOTONIC_COARSE = 6  # linux/time.h; which the hooks read


@pytest.fixture(scope="module", autouse=True)
def _loaded(ipvsca: Ipvsca) -> Iterator[None]:
    with ipvsca.loaded():
        yield


@pytest.fixture
def lport() -> int:
    """One that no earlier test has used: its flows are remembered."""
    return next(_lports)


def pinched(lport: int, vport: int, *servers: Endpoint) -> Service:
    """A service whose flows all come from LIP:lport, whatever the real server: so one at a time towards each."""
    vip = Endpoint(a.VIP_V4, vport)
    announce = Announce(ALWAYS)
    return Service(
        vip, servers, protocol=Protocol.UDP, announce=announce, local_addresses=(LIP,), local_ports=(lport, lport)
    )


@every_udp_app
@pytest.mark.parametrize("way", ANNOUNCED, ids=str)
def test_every_application_sees_its_client(datagrams: Datagrams, ipvsca: Ipvsca, app: UdpApp, way: Way) -> None:
    for announce in (Announce(), Announce(ALWAYS, KIND_DPVS), Announce(3, KIND_LVS, little_endian=False)):
        with datagrams.serving(app, way) as process, ipvsca.counted(recvmsg_ambiguous=0):
            datagrams.direct(way, announce)
            assert_restored(datagrams.ask(app, way, process.directory), app, way)


@every_udp_app
@pytest.mark.parametrize("way", UNANNOUNCED, ids=str)
def test_without_an_announcement_nothing_changes(datagrams: Datagrams, ipvsca: Ipvsca, app: UdpApp, way: Way) -> None:
    with datagrams.serving(app, way) as process:
        datagrams.direct(way)
        with ipvsca.counted(recvmsg_restored=0, sendmsg_redirected=0, connect_redirected=0):
            assert_untouched(datagrams.ask(app, way, process.directory), app, way)


def test_an_lport_that_another_client_gets(datagrams: Datagrams, ipvsca: Ipvsca, lport: int) -> None:
    """From its announcement on the application sees the new client, and nothing meant for the old one goes to it."""
    service = pinched(lport, SERVICE_PORT, Endpoint(RIP, SERVER_PORT))
    vip = Endpoint(a.VIP_V4, SERVICE_PORT)
    with puppet(datagrams.lab) as server:
        server(f"s = socket(AF_INET, SOCK_DGRAM); s.bind(('0.0.0.0', {SERVER_PORT}))")
        datagrams.director.serve(service)
        with datagrams.socket(a.CLIENTS_V4[0], vip) as first, datagrams.socket(a.CLIENTS_V4[1], vip) as second:
            first.send(b"one")
            assert server("s.recvfrom(99)") == (b"one", as_tuple(own_address(first)))
            datagrams.director.forget(own_address(first))
            with ipvsca.counted(flows_replaced=1, flows_new=0):
                second.send(b"two")
                assert server("s.recvfrom(99)") == (b"two", as_tuple(own_address(second)))
            with ipvsca.counted(sendmsg_redirected=1):
                server(f"s.sendto(b'for one', {as_tuple(own_address(first))})")
                server(f"s.sendto(b'for two', {as_tuple(own_address(second))})")
            assert second.recv(99) == b"for two"


def as_tuple(endpoint: Endpoint) -> tuple[str, int]:
    return str(endpoint.address), endpoint.port


def test_one_lport_towards_two_ports(datagrams: Datagrams, lport: int) -> None:
    other_port = SERVER_PORT + 1
    datagrams.director.serve(
        pinched(lport, 53, Endpoint(RIP, SERVER_PORT)), pinched(lport, 54, Endpoint(RIP, other_port))
    )
    with (
        puppet(datagrams.lab) as server,
        datagrams.socket(a.CLIENTS_V4[0], Endpoint(a.VIP_V4, 53)) as first,
        datagrams.socket(a.CLIENTS_V4[1], Endpoint(a.VIP_V4, 54)) as second,
    ):
        server(f"s = socket(AF_INET, SOCK_DGRAM); s.bind(('0.0.0.0', {SERVER_PORT}))")
        server(f"t = socket(AF_INET, SOCK_DGRAM); t.bind(('0.0.0.0', {other_port}))")
        for _ in range(2):
            for name, client in (("s", first), ("t", second)):
                client.send(b"?")
                assert server(f"{name}.recvfrom(99)") == (b"?", as_tuple(own_address(client)))
                server(f"{name}.sendto(b'!', {as_tuple(own_address(client))})")
                assert client.recv(99) == b"!"


@contextmanager
def two_addresses(datagrams: Datagrams, lport: int) -> Iterator[tuple[Puppet, dict[str, socket.socket]]]:
    """One lport towards two addresses of the server, where sockets `s` and `t` are bound; and the client of each.

    Each flow is announced once, and received from.
    """
    services = (
        replace(pinched(lport, vport, Endpoint(rip, SERVER_PORT)), announce=Announce())
        for vport, rip in {53: RIP, 54: OTHER_RIP}.items()
    )
    datagrams.director.serve(*services)
    with (
        puppet(datagrams.lab) as server,
        datagrams.socket(a.CLIENTS_V4[0], Endpoint(a.VIP_V4, 53)) as first,
        datagrams.socket(a.CLIENTS_V4[1], Endpoint(a.VIP_V4, 54)) as second,
    ):
        server(f"s = socket(AF_INET, SOCK_DGRAM); s.bind(('{RIP}', {SERVER_PORT}))")
        server(f"t = socket(AF_INET, SOCK_DGRAM); t.bind(('{OTHER_RIP}', {SERVER_PORT}))")
        clients = {"s": first, "t": second}
        for client in clients.values():
            client.send(b"?")
        for name, client in clients.items():
            assert server(f"{name}.recvfrom(99)")[1] in ((str(LIP), lport), as_tuple(own_address(client)))
        yield server, clients


def test_one_lport_towards_two_addresses(datagrams: Datagrams, ipvsca: Ipvsca, lport: int) -> None:
    """A socket bound to an address sees its own client; one bound to none could be shown the wrong one: the LIP."""
    with two_addresses(datagrams, lport) as (server, clients):
        for _ in range(2):
            for name, client in clients.items():
                client.send(b"?")
                assert server(f"{name}.recvfrom(99)") == (b"?", as_tuple(own_address(client)))
                server(f"{name}.sendto(b'!', {as_tuple(own_address(client))})")
                assert client.recv(99) == b"!"
        server("s.close(); t.close()")
        server(f"u = socket(AF_INET, SOCK_DGRAM); u.bind(('0.0.0.0', {SERVER_PORT}))")
        with ipvsca.counted(recvmsg_ambiguous=2, recvmsg_restored=0):
            for client in clients.values():
                client.send(b"?")
                assert server("u.recvfrom(99)") == (b"?", (str(LIP), lport))


def test_a_flow_that_is_forgotten_beside_one_to_another_address(
    datagrams: Datagrams, ipvsca: Ipvsca, lport: int
) -> None:
    """A doubt that is not seen: the other flow's client is shown, where the socket is bound to no address."""
    with two_addresses(datagrams, lport) as (server, clients), DataPlane(ipvsca.pin_path) as plane:
        table = plane.table("flows")
        for key in [key for key, _ in table.items() if key.director == Endpoint(LIP, lport)]:
            table.remove(key)
        other = own_address(clients["t"])
        datagrams.director.forget(other)
        clients["t"].send(b"announced anew")
        assert server("t.recvfrom(99)") == (b"announced anew", as_tuple(other))
        clients["s"].send(b"?")
        assert server("s.recvfrom(99)") == (b"?", (str(LIP), lport))
        server("s.close(); t.close()")
        server(f"u = socket(AF_INET, SOCK_DGRAM); u.bind(('0.0.0.0', {SERVER_PORT}))")
        clients["s"].send(b"?")
        assert server("u.recvfrom(99)") == (b"?", as_tuple(other))


def test_doubt_lasts_as_long_as_datagrams_come_to_one_of_two_addresses(
    datagrams: Datagrams, ipvsca: Ipvsca, lport: int
) -> None:
    """Though their socket is in no doubt: otherwise a flow that is in use is not found one day."""
    with (
        two_addresses(datagrams, lport) as (server, clients),
        ipvsca.having(*SHORT),
        DataPlane(ipvsca.pin_path) as plane,
    ):
        table = plane.table("flows")
        keys = [key for key, _ in table.items() if key.director == Endpoint(LIP, lport)]
        for key in keys:
            entry = table.get(key)
            entry.used_ns -= UNUSED_NS
            table.put(key, entry)
        begun_ns = time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE)
        clients["s"].send(b"?")
        assert server("s.recvfrom(99)") == (b"?", as_tuple(own_address(clients["s"])))
        used = [entry for entry in map(table.get, keys) if entry.used_ns >= begun_ns]
        assert {(bool(entry.client.is_ambiguous), entry.rip.address) for entry in used} >= {(False, RIP)}
        assert sorted(entry.client.is_ambiguous for entry in used) == [0, 1]


def test_two_addresses_with_the_same_mark(datagrams: Datagrams, ipvsca: Ipvsca, lport: int) -> None:
    """Then they share an entry: whom it does not belong to is shown the director."""
    with two_addresses(datagrams, lport) as (server, clients), DataPlane(ipvsca.pin_path) as plane:
        table = plane.table("flows")
        (own,) = [
            key
            for key, entry in table.items()
            if key.director == Endpoint(LIP, lport) and any(key.rip_mark) and entry.rip.address == RIP
        ]
        entry = table.get(own)
        entry.rip = layout.PackedAddress.of(OTHER_RIP)
        table.put(own, entry)
        with ipvsca.counted(recvmsg_restored=0, sendmsg_redirected=0):
            server(f"s.sendto(b'!', {as_tuple(own_address(clients['s']))})")
            clients["s"].send(b"?")
            assert server("s.recvfrom(99)") == (b"?", (str(LIP), lport))


@pytest.mark.parametrize("binds", [(str(RIP), "0.0.0.0"), ("0.0.0.0", str(RIP))], ids=" then ".join)
def test_a_service_that_is_bound_otherwise_than_before(datagrams: Datagrams, binds: tuple[str, str]) -> None:
    """Restarted with another address in its configuration, it answers the flow that goes on."""
    datagrams.direct(ANY, Announce())
    with puppet(datagrams.lab) as server, datagrams.socket(a.CLIENTS_V4[0]) as client:
        for bound_to in binds:
            server(f"s = socket(AF_INET, SOCK_DGRAM); s.bind(('{bound_to}', {SERVER_PORT}))")
            client.sendto(b"?", VIP_PORT)
            assert server("s.recvfrom(99)") == (b"?", as_tuple(own_address(client)))
            server(f"s.sendto(b'!', {as_tuple(own_address(client))})")
            assert client.recvfrom(99) == (b"!", VIP_PORT)
            server("s.close()")


@contextmanager
def one_client(datagrams: Datagrams) -> Iterator[tuple[Puppet, tuple[str, int], socket.socket]]:
    """A flow of one client to a server's socket `s`: the server's end, the client's address, and its socket."""
    datagrams.direct(ANY, Announce())
    with (
        puppet(datagrams.lab) as server,
        datagrams.socket(a.CLIENTS_V4[0]) as client,
    ):
        server("s = socket(AF_INET, SOCK_DGRAM); s.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)")
        server(f"s.bind(('0.0.0.0', {SERVER_PORT}))")
        client.sendto(b"?", (str(a.VIP_V4), SERVICE_PORT))
        address = as_tuple(own_address(client))
        assert server("s.recvfrom(99)") == (b"?", address)
        yield server, address, client


def test_a_socket_of_another_port_is_none_of_our_business(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    """The client has an address of its own, to which this host may send whatever it likes."""
    with one_client(datagrams) as (server, address, client):
        server("t = socket(AF_INET, SOCK_DGRAM)")
        server(f"t.bind(('0.0.0.0', {SERVER_PORT + 1}))")
        with ipvsca.counted(sendmsg_redirected=0):
            server(f"t.sendto(b'direct', {address})")
            assert client.recvfrom(99) == (b"direct", (str(RIP), SERVER_PORT + 1))
        with ipvsca.counted(sendmsg_redirected=1):
            server(f"s.sendto(b'back', {address})")
            assert client.recvfrom(99) == (b"back", VIP_PORT)


def test_tables_are_left_alone_where_no_director_told_anything(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    """That is what most datagrams of most servers cost."""
    with one_client(datagrams) as (server, address, client), DataPlane(ipvsca.pin_path) as plane:
        plane.table("hints").put(ONLY, layout.Hints())
        with ipvsca.counted(recvmsg_restored=0, sendmsg_redirected=0, connect_redirected=0):
            server(f"s.sendto(b'direct', {address})")
            client.sendto(b"?", VIP_PORT)
            assert server("s.recvfrom(99)") == (b"?", as_tuple(datagrams.director.connections()[0].local))
            server(f"s.connect({address})")


def test_hints_newer_than_the_ways_back(datagrams: Datagrams, ipvsca: Ipvsca, lport: int) -> None:
    """As after somebody took a pinned map away: a way that is known is found once its client is announced anew."""
    datagrams.director.serve(pinched(lport, SERVICE_PORT, Endpoint(RIP, SERVER_PORT)))
    vip = Endpoint(a.VIP_V4, SERVICE_PORT)
    with (
        puppet(datagrams.lab) as server,
        datagrams.socket(a.CLIENTS_V4[0], vip) as client,
        datagrams.socket(a.CLIENTS_V4[1], vip) as other,
        DataPlane(ipvsca.pin_path) as plane,
    ):
        server(f"s = socket(AF_INET, SOCK_DGRAM); s.bind(('0.0.0.0', {SERVER_PORT}))")
        for sender in (client, other, client):
            plane.table("hints").put(ONLY, layout.Hints())
            sender.send(b"?")
            assert server("s.recvfrom(99)") == (b"?", as_tuple(own_address(sender)))
            datagrams.director.forget(own_address(sender))
        with ipvsca.counted(sendmsg_redirected=1):
            server(f"s.sendto(b'!', {as_tuple(own_address(client))})")


@pytest.mark.parametrize("bound_to", ["0.0.0.0", str(RIP)])
def test_a_connected_socket(datagrams: Datagrams, ipvsca: Ipvsca, bound_to: str) -> None:
    """It is connected to the director, shows the client, and no longer does once it is connected elsewhere."""
    with one_client(datagrams) as (server, address, client):
        server("t = socket(AF_INET, SOCK_DGRAM); t.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)")
        server(f"t.bind(('{bound_to}', {SERVER_PORT}))")
        with ipvsca.counted(connect_redirected=1):
            server(f"t.connect({address})")
        assert server("t.getpeername()") == address
        server("t.send(b'connected')")
        assert client.recvfrom(99) == (b"connected", VIP_PORT)
        client.sendto(b"to it", VIP_PORT)
        assert server("t.recvfrom(99)") == (b"to it", address)
        server("t.connect(('10.80.0.254', 9))")
        assert server("t.getpeername()") == ("10.80.0.254", 9)


def test_one_client_on_two_services(datagrams: Datagrams, lport: int) -> None:
    """The same address and port of a client, two services of this host: each answer goes back the way its flow came."""
    ports = {53: SERVER_PORT, 54: SERVER_PORT + 1}
    datagrams.director.serve(*(pinched(lport, vport, Endpoint(RIP, rport)) for vport, rport in ports.items()))
    with puppet(datagrams.lab) as server, datagrams.socket(a.CLIENTS_V4[0]) as client:
        address = as_tuple(own_address(client))
        for vport, rport in ports.items():
            server(f"s{vport} = socket(AF_INET, SOCK_DGRAM); s{vport}.bind(('0.0.0.0', {rport}))")
            client.sendto(b"?", (str(a.VIP_V4), vport))
            assert server(f"s{vport}.recvfrom(99)") == (b"?", address)
        for vport in (54, 53, 54):
            server(f"s{vport}.sendto(b'!', {address})")
            assert client.recvfrom(99) == (b"!", (str(a.VIP_V4), vport))


@contextmanager
def client_of_two_directors(datagrams: Datagrams, lport: int) -> Iterator[tuple[Puppet, socket.socket]]:
    """The server's end, socket `s`, and a client that reaches it at the ports 53 and 54, each by a LIP of its own."""
    services = [
        replace(pinched(lport, vport, Endpoint(RIP, SERVER_PORT)), local_addresses=(lip,))
        for vport, lip in zip((53, 54), a.LIPS_V4, strict=True)
    ]
    datagrams.director.serve(*services)
    with puppet(datagrams.lab) as server, datagrams.socket(a.CLIENTS_V4[0]) as client:
        server(f"s = socket(AF_INET, SOCK_DGRAM); s.bind(('0.0.0.0', {SERVER_PORT}))")
        yield server, client


def test_one_client_through_two_directors(datagrams: Datagrams, lport: int) -> None:
    """The same client on the same service, but two ways: an answer takes the way of the datagram received before it."""
    with client_of_two_directors(datagrams, lport) as (server, client):
        for vport in (53, 54, 53, 53, 54):
            client.sendto(b"?", (str(a.VIP_V4), vport))
            assert server("s.recvfrom(99)") == (b"?", as_tuple(own_address(client)))
            server(f"s.sendto(b'!', {as_tuple(own_address(client))})")
            assert client.recvfrom(99) == (b"!", (str(a.VIP_V4), vport))


def have_received_last(ipvsca: Ipvsca, client: tuple[str, int], way: Endpoint) -> None:
    """As if each CPU had received a datagram of this client through this LIP:lport last, at a socket bound to none."""
    kept = layout.WayBack(
        layout.Reply(packed(client[0]), socket.htons(client[1]), socket.htons(SERVER_PORT)),
        layout.PackedEndpoint(packed(str(way.address)), socket.htons(way.port)),
    )
    with bpf.opened(ipvsca.pin_path / "maps/latest") as fd:
        bpf.update(fd, bytes(ONLY), bytes(kept).ljust(-(-ctypes.sizeof(kept) // 8) * 8, b"\0") * possible_cpus())


def packed(address: str) -> layout.PackedAddress:
    return layout.PackedAddress.of(ip_address(address))


def test_the_datagram_received_last_tells_the_way(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    """`replies` is not asked, by a server that stays on its CPU."""
    cpu = min(os.sched_getaffinity(0))
    with DataPlane(ipvsca.pin_path) as plane:
        forget(plane, "flows")  # where one has had this client before, both are shared, and only `replies` is believed
    with one_client(datagrams) as (server, address, client), DataPlane(ipvsca.pin_path) as plane:
        server(f"__import__('os').sched_setaffinity(0, [{cpu}])")
        client.sendto(b"?", VIP_PORT)
        server("s.recvfrom(99)")
        forget(plane, "replies")
        with ipvsca.counted(sendmsg_redirected=1):
            server(f"s.sendto(b'!', {address})")
            assert client.recvfrom(99) == (b"!", VIP_PORT)


def forget(plane: DataPlane, table: str) -> None:
    for key in list(plane.table(table).keys()):
        plane.table(table).remove(key)


@pytest.mark.parametrize("whose", ["another client's", "nobody's"])
def test_a_way_received_last_that_is_not_this_client_s(datagrams: Datagrams, ipvsca: Ipvsca, whose: str) -> None:
    """Half written, or older than what other CPUs know: the answer goes the way that `replies` tells."""
    with one_client(datagrams) as (server, address, client), datagrams.socket(a.CLIENTS_V4[1]) as other:
        other.sendto(b"?", VIP_PORT)
        server("s.recvfrom(99)")
        local = {known.client: known.local for known in datagrams.director.connections()}[own_address(other)]
        have_received_last(ipvsca, address, local if whose == "another client's" else replace(local, port=9))
        with ipvsca.counted(sendmsg_redirected=1):
            server(f"s.sendto(b'!', {address})")
            assert client.recvfrom(99) == (b"!", VIP_PORT)


def test_a_way_received_last_on_another_cpu(datagrams: Datagrams, ipvsca: Ipvsca, lport: int) -> None:
    """Where one client comes two ways, what this CPU received last may be older than what the socket did."""
    with client_of_two_directors(datagrams, lport) as (server, client):
        for vport in (53, 54):
            client.sendto(b"?", (str(a.VIP_V4), vport))
            server("s.recvfrom(99)")
        have_received_last(ipvsca, as_tuple(own_address(client)), Endpoint(a.LIPS_V4[0], lport))
        server(f"s.sendto(b'!', {as_tuple(own_address(client))})")
        assert client.recvfrom(99) == (b"!", (str(a.VIP_V4), 54))


@pytest.mark.parametrize("switch", ["true", "false"])
@pytest.mark.parametrize("where", [Where.SYN, Where.ACK], ids=str)
def test_a_tcp_connect_to_a_client(traffic: Traffic, ipvsca: Ipvsca, where: Where, switch: str) -> None:
    """As ip_vs_ca has it: it goes to the director, where that is switched on."""
    traffic.direct(IPV4_TCP, Toa(where))
    with ipvsca.having("tcp_connect", switch), puppet(traffic.lab) as server, Capture(traffic.lab.server) as capture:
        server(f"l = create_server(('0.0.0.0', {TCP_SERVER_PORT}))")
        with traffic.connect(Endpoint(a.VIP_V4, TCP_SERVICE_PORT), a.CLIENTS_V4[5]) as client:
            address, known = own_address(client), traffic.director.connection(own_address(client))
            assert server("l.accept()[1]") == as_tuple(address)
            server("c = socket(AF_INET, SOCK_STREAM); c.setblocking(False)")
            server(f"c.connect_ex({as_tuple(address)})")
        expected = known.local if switch == "true" else address
        assert syn_destination(capture) == expected


def test_a_tcp_connect_to_a_client_of_nat64(traffic: Traffic, ipvsca: Ipvsca) -> None:
    """A known limit: its director's address is an IPv4 one, which no socket of IPv6 alone can connect to."""
    traffic.direct(NAT64_TCP, Toa(Where.ACK))
    with ipvsca.having("tcp_connect", "true"), puppet(traffic.lab) as server:
        server(f"l = create_server(('::', {TCP_SERVER_PORT}), family=AF_INET6, dualstack_ipv6=True)")
        with traffic.connect(Endpoint(a.VIP_V6, TCP_SERVICE_PORT), a.CLIENTS_V6[5]) as client:
            address = as_tuple(own_address(client))
            assert server("l.accept()[1][:2]") == address
            server("c = socket(AF_INET6, SOCK_STREAM); c.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)")
            with pytest.raises(RuntimeError, match="Network is unreachable"):
                server(f"c.connect({address})")


def learnt_long_ago(director: layout.Director, plane: DataPlane) -> None:
    director.learnt_ns -= (plane.settings().tcp_timeout + 1) * NANOSECONDS


def is_of_another_client(director: layout.Director, plane: DataPlane) -> None:
    director.client.port ^= 1


@pytest.mark.parametrize("change", [learnt_long_ago, is_of_another_client])
def test_a_tcp_connect_to_a_client_of_whom_nothing_is_known_any_more(
    traffic: Traffic, ipvsca: Ipvsca, change: Callable[[layout.Director, DataPlane], None]
) -> None:
    """It goes where the application says."""
    traffic.direct(IPV4_TCP, Toa(Where.ACK))
    with (
        ipvsca.having("tcp_connect", "true"),
        puppet(traffic.lab) as server,
        Capture(traffic.lab.server) as capture,
        DataPlane(ipvsca.pin_path) as plane,
    ):
        server(f"l = create_server(('0.0.0.0', {TCP_SERVER_PORT}))")
        with traffic.connect(Endpoint(a.VIP_V4, TCP_SERVICE_PORT), a.CLIENTS_V4[5]) as client:
            address = own_address(client)
            assert server("l.accept()[1]") == as_tuple(address)
            table = plane.table("connects")
            known = [(key, director) for key, director in table.batched_items() if director.client.port]
            assert socket.htons(own_address(client).port) in [director.client.port for _, director in known]
            for key, director in known:
                change(director, plane)
                table.put(key, director)
            server(f"c = socket(AF_INET, SOCK_STREAM); c.setblocking(False); c.connect_ex({as_tuple(address)})")
        assert syn_destination(capture) == address


def test_a_tcp_connection_that_was_announced(traffic: Traffic, ipvsca: Ipvsca) -> None:
    """It carries no option; the announcement serves this connection, and not the next one on the same ports."""
    app_ = app("c-accept")
    vip, server = Endpoint(a.VIP_V4, TCP_SERVICE_PORT), Endpoint(RIP, TCP_SERVER_PORT)
    with traffic.serving(app_, IPV4_TCP):
        traffic.director.serve(Service(vip, (server,), Toa(Where.NONE), announce=Announce()))
        with ipvsca.counted(tcp_restored_announcement=4, flows_taken_over=4, announcement_learnt=4):
            assert_tcp_restored(traffic.ask(app_, IPV4_TCP), app_, IPV4_TCP)
        assert [row for row in ipvsca.json("list") if row["state"] == "flow" and row["proto"] == "tcp"] == []


@contextmanager
def two_clients(datagrams: Datagrams) -> Iterator[tuple[Puppet, socket.socket, socket.socket]]:
    """The server's end, socket `s`, and two clients that it has seen as themselves."""
    datagrams.direct(ANY, Announce())
    vip = Endpoint(a.VIP_V4, SERVICE_PORT)
    with (
        puppet(datagrams.lab) as server,
        datagrams.socket(a.CLIENTS_V4[0], vip) as idle,
        datagrams.socket(a.CLIENTS_V4[1], vip) as busy,
    ):
        server(f"s = socket(AF_INET, SOCK_DGRAM); s.bind(('0.0.0.0', {SERVER_PORT}))")
        for client in (idle, busy):
            client.send(b"?")
            assert server("s.recvfrom(99)") == (b"?", as_tuple(own_address(client)))
        yield server, idle, busy


def keep_busy_until_forgotten(ipvsca: Ipvsca, server: Puppet, idle: socket.socket, busy: socket.socket) -> None:
    """One client goes on, and is seen as itself each time, until the other one is no longer listed."""
    deadline = time.monotonic() + TIMEOUT_S
    while str(own_address(idle)) in [row["client"] for row in ipvsca.json("list")]:
        assert time.monotonic() < deadline
        busy.send(b"still here")
        assert server("s.recvfrom(99)") == (b"still here", as_tuple(own_address(busy)))


def test_an_idle_flow_is_forgotten_and_one_in_use_is_not(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    """With no daemon at all: the programs judge an entry's age themselves, by the timeout in force."""
    with ipvsca.having("udp_timeout", "2"), two_clients(datagrams) as (server, idle, busy):
        keep_busy_until_forgotten(ipvsca, server, idle, busy)
        with ipvsca.counted(recvmsg_restored=0):
            idle.send(b"anyone?")
            known = datagrams.director.connection(own_address(idle))
            assert server("s.recvfrom(99)") == (b"anyone?", as_tuple(known.local))


def test_the_daemon_sweeps_what_is_forgotten(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    ipvsca.configure(udp_timeout=2)
    before = ipvsca.counts()
    with ipvsca.daemon(), two_clients(datagrams) as (server, idle, busy):
        keep_busy_until_forgotten(ipvsca, server, idle, busy)
        assert wait_until(lambda: accounted(ipvsca))
        assert ipvsca.counts()["flows_expired"] > before["flows_expired"]


def accounted(ipvsca: Ipvsca) -> bool:
    """`stats` agrees with `list`: what came and has not gone is there."""
    counts = ipvsca.counts()
    gone = sum(counts[name] for name in ("flows_expired", "flows_evicted", "flows_taken_over"))
    with DataPlane(ipvsca.pin_path) as plane:
        return counts["flows_new"] - gone == sum(1 for _ in plane.flows())
