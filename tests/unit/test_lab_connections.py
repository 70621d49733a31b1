"""The connection table: found from both sides, bounded, with a port pool a real server, and forgetful on time."""

from __future__ import annotations

import itertools

import pytest

from ipvsca.address import Endpoint
from tests.lab import addresses as a
from tests.lab.connections import Entry, Path, Table
from tests.lab.ip import Dropped
from tests.lab.messages import Connection, Protocol, Service
from tests.lab.states import State

VIP = Endpoint(a.VIP_V4, 80)
SERVERS = tuple(Endpoint(rip, 8000) for rip in a.RIPS_V4)
OTHER_PORT = Endpoint(a.RIPS_V4[0], 8001)
START, END = 100.0, 110.0  # an entry's life

client_ports = itertools.count(40000)


def service(*, lips: int = 1, ports: tuple[int, int] = (7000, 7000)) -> Service:
    return Service(VIP, SERVERS, local_addresses=a.LIPS_V4[:lips] + a.LIPS_V6, local_ports=ports)


def add(table: Table, served: Service, server: Endpoint = SERVERS[0], now: float = START) -> Entry:
    """One more client's connection."""
    outside = Path.between(Endpoint(a.CLIENTS_V4[0], next(client_ports)), VIP)
    entry = Entry(outside, table.free_path(served, server, now), served, State.SYN_RECV, END)
    table.add(entry, now)
    return entry


def test_an_entry_is_found_from_either_side_and_no_other() -> None:
    table = Table(10)
    entry = add(table, service())
    assert table.from_client(entry.outside, START) is entry
    assert table.from_server(entry.inside.back, START) is entry
    for other in (entry.outside.back, entry.inside):
        assert table.from_client(other, START) is None
        assert table.from_server(other, START) is None


def test_an_entry_describes_itself() -> None:
    entry = Entry(
        Path.between(Endpoint(a.CLIENTS_V6[0], 40000), Endpoint(a.VIP_V6, 80)),
        Path.between(Endpoint(a.LIPS_V4[0], 7000), SERVERS[0]),
        service(),
        State.CLOSE,
        END,
    )
    assert entry.describe() == Connection(
        protocol=Protocol.TCP,
        client=Endpoint.parse("[2001:db8:c::1]:40000"),
        vip=Endpoint.parse("[2001:db8:a::10]:80"),
        local=Endpoint.parse("10.90.0.2:7000"),
        real=Endpoint.parse("10.80.0.10:8000"),
        state=State.CLOSE,
    )


def test_local_addresses_take_turns_through_the_range_of_ports() -> None:
    table, served = Table(10), service(lips=2, ports=(7000, 7001))
    taken = [str(add(table, served).describe().local) for _ in range(4)]
    assert taken == ["10.90.0.2:7000", "10.90.0.3:7000", "10.90.0.2:7001", "10.90.0.3:7001"]
    with pytest.raises(Dropped, match="no_local_port"):
        add(table, served)


def test_local_addresses_are_of_the_servers_family() -> None:
    local = add(Table(10), service(), Endpoint(a.RIPS_V6[0], 8000)).describe().local
    assert local == Endpoint(a.LIPS_V6[0], 7000)


def test_each_real_server_and_port_has_a_pool_of_its_own() -> None:
    table = Table(10)
    entries = [add(table, service(), server) for server in (*SERVERS, OTHER_PORT)]
    assert {entry.describe().local for entry in entries} == {Endpoint(a.LIPS_V4[0], 7000)}
    assert all(table.from_server(entry.inside.back, START) is entry for entry in entries)


def test_a_free_port_in_the_middle_is_found() -> None:
    table, served = Table(10), service(ports=(7000, 7002))
    entries = [add(table, served) for _ in range(3)]
    table.remove(entries[1])
    assert add(table, served).describe().local.port == 7001


def test_a_removed_entry_is_found_no_more() -> None:
    table = Table(10)
    entry = add(table, service())
    table.remove(entry)
    assert table.from_client(entry.outside, START) is None
    assert table.from_server(entry.inside.back, START) is None
    assert list(table) == []


@pytest.mark.parametrize("side", ["client", "server"])
def test_an_entry_past_its_time_is_dead_though_nobody_swept(side: str) -> None:
    table = Table(10)
    entry = add(table, service())

    def found(now: float) -> Entry | None:
        if side == "client":
            return table.from_client(entry.outside, now)
        return table.from_server(entry.inside.back, now)

    assert found(END - 0.001) is entry
    assert found(END) is None
    assert list(table) == []


def test_an_expired_entry_frees_its_port() -> None:
    table = Table(10)
    first = add(table, service())
    with pytest.raises(Dropped, match="no_local_port"):
        add(table, service())
    second = add(table, service(), now=END)
    assert second.describe().local == first.describe().local


def test_sweeping_keeps_the_living() -> None:
    table, served = Table(10), service(ports=(7000, 7001))
    dead, alive = add(table, served), add(table, served)
    alive.expires = END + 1
    table.sweep(END)
    assert list(table) == [alive]
    assert dead not in table


def test_a_full_table_takes_a_new_entry_only_for_a_dead_one() -> None:
    table, served = Table(2), service(ports=(7000, 7009))
    add(table, served)
    add(table, served)
    with pytest.raises(Dropped, match="table_full"):
        add(table, served)
    last = add(table, served, now=END)
    assert list(table) == [last]
