"""Sweeps of real maps: what is past its time goes, all else stays, and every flow is accounted for."""

from __future__ import annotations

import ctypes
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from ipvsca import ageing, counters
from ipvsca.address import Endpoint
from ipvsca.dataplane import NANOSECONDS, DataPlane
from ipvsca.kernel import bpf, compiler, layout, source
from ipvsca.kernel.layout import LearntFrom, PackedAddress
from ipvsca.kernel.maps import ONLY, possible_cpus
from ipvsca.kernel.programs import INGRESS_ETHERNET, Program
from ipvsca.settings import DEFAULTS
from ipvsca.wire.announcement import Announcement
from ipvsca.wire.internet import PROTOCOL_TCP, PROTOCOL_UDP
from tests.bpf import flows
from tests.bpf.announced_packets import EXAMPLE, framed
from tests.bpf.flows import AMBIGUOUS, Key, Told, key_for, told_by
from tests.bpf.ingress import Ingress

NOW = 10**15
"""A moment (CLOCK_MONOTONIC) that tests of given ages take for the present."""

TIMEOUTS = {PROTOCOL_UDP: DEFAULTS.udp_timeout * NANOSECONDS, PROTOCOL_TCP: DEFAULTS.tcp_timeout * NANOSECONDS}
MANY = 100_000


@pytest.fixture
def fresh(plane: DataPlane) -> DataPlane:
    """As after a first load: nothing known, nothing counted."""
    flows.forget(plane)
    plane.forget_handshakes(2**63)
    table = plane.table("counters")
    for meaning in counters.meanings():
        nothing = bytes(ctypes.sizeof(layout.Counter) * possible_cpus())
        bpf.update(table.fd, bytes(ctypes.c_uint32(meaning.index)), nothing)
    plane.table("swept").put(ONLY, layout.Swept())
    return plane


@pytest.fixture
def ingress(programs: Mapping[Program, int], fresh: DataPlane) -> Ingress:
    return Ingress(programs[INGRESS_ETHERNET], fresh)


@pytest.fixture(scope="module")
def large(pins: Path) -> Iterator[DataPlane]:
    """Maps of the size that they have by default."""
    folder = pins.with_name("large")
    (folder / "maps").mkdir(parents=True)
    with compiler.compiled(source.text(), folder / "maps", DEFAULTS.max_flows), DataPlane(folder) as plane:
        plane.apply(DEFAULTS)
        yield plane


def put(plane: DataPlane, key: Key, used_ns: int, told: Told | None = None) -> None:
    told = told or replace(told_by(EXAMPLE), rip=key.rip or EXAMPLE.server.address)
    plane.table("flows").put(flows.packed(key), flows.learnt(key, told, used_ns))


def numbered(number: int, protocol: int = PROTOCOL_UDP) -> Announcement:
    director = Endpoint(IPv4Address("10.90.0.2") + number // 50_000, 1 + number % 50_000)
    return replace(EXAMPLE, director=director, protocol=protocol)


def keys(plane: DataPlane) -> set[Key]:
    return {key for key, _ in flows.stored(plane)}


def accounts(plane: DataPlane) -> Counter[str]:
    """Where the flows are that became known: in the table, or gone in one of three ways."""
    counts = plane.counts()
    gone = {name: counts[f"flows_{name}"].total for name in ("expired", "evicted", "taken_over")}
    return Counter({"present": len(list(plane.flows())), **gone})


def known(plane: DataPlane) -> int:
    return plane.counts()["flows_new"].total


def take_over(plane: DataPlane, key: Key) -> None:
    """As a TCP connection does."""
    (index,) = (meaning.index for meaning in counters.meanings() if meaning.name == "flows_taken_over")
    counter_key = ctypes.c_uint32(index)
    values = plane.table("counters").get_per_cpu(counter_key)
    values[-1].count += plane.table("flows").remove(flows.packed(key))
    bpf.update(plane.table("counters").fd, bytes(counter_key), b"".join(map(bytes, values)))


@pytest.mark.parametrize("protocol", TIMEOUTS, ids=["UDP", "TCP"])
def test_what_is_past_its_time_goes_to_the_nanosecond(fresh: DataPlane, protocol: int) -> None:
    """As the programs see it: a flow lives as long as its age is below the timeout."""
    ages = {TIMEOUTS[protocol] + offset for offset in (-10, -1, 0, 1, 10, 10**12)} | {0, 1, -1, -(10**9)}
    key_of = {age: key_for(numbered(number, protocol)) for number, age in enumerate(ages)}
    for age, key in key_of.items():
        put(fresh, key, NOW - age)
    ageing.sweep(fresh, NOW)
    assert keys(fresh) == {key for age, key in key_of.items() if age < TIMEOUTS[protocol]}
    assert fresh.swept().expired == sum(age >= TIMEOUTS[protocol] for age in ages)


def test_each_protocol_has_a_timeout(fresh: DataPlane) -> None:
    fresh.apply(replace(DEFAULTS, tcp_timeout=20, udp_timeout=10))
    stay: list[Key] = []
    go: list[Key] = []
    for number, (protocol, age) in enumerate([(17, 9), (17, 10), (17, 15), (6, 9), (6, 15), (6, 19), (6, 20), (6, 25)]):
        key = key_for(numbered(number, protocol))
        (stay if age < {17: 10, 6: 20}[protocol] else go).append(key)
        put(fresh, key, NOW - age * NANOSECONDS)
    ageing.sweep(fresh, NOW)
    assert keys(fresh) == set(stay)
    assert fresh.swept().expired == len(go)


@pytest.mark.parametrize(("tcp", "udp"), [(10, 20), (20, 10)], ids=["TCP is shorter", "UDP is shorter"])
@pytest.mark.parametrize("protocol", TIMEOUTS, ids=["UDP", "TCP"])
def test_a_lone_flow_of_an_age_between_the_timeouts(fresh: DataPlane, tcp: int, udp: int, protocol: int) -> None:
    fresh.apply(replace(DEFAULTS, tcp_timeout=tcp, udp_timeout=udp))
    put(fresh, key_for(numbered(0, protocol)), NOW - 15 * NANOSECONDS)
    ageing.sweep(fresh, NOW)
    assert len(keys(fresh)) == ({PROTOCOL_TCP: tcp, PROTOCOL_UDP: udp}[protocol] > 15)


def test_what_is_alive_stays_as_it_is(fresh: DataPlane) -> None:
    alive = [key_for(numbered(number)) for number in range(50)]
    for number, key in enumerate(alive):
        put(fresh, key, NOW - number)
    before = {key: bytes(entry) for key, entry in flows.stored(fresh)}
    for dead in range(50, 100):
        put(fresh, key_for(numbered(dead)), NOW - 2 * TIMEOUTS[PROTOCOL_UDP])
    ageing.sweep(fresh, NOW)
    assert {key: bytes(entry) for key, entry in flows.stored(fresh)} == before


def test_an_entry_that_only_tells_of_several_is_no_flow(fresh: DataPlane) -> None:
    """It goes in its time like any other, but nobody counts it."""
    dead, alive = key_for(EXAMPLE), key_for(numbered(1))
    put(fresh, dead, NOW - TIMEOUTS[PROTOCOL_UDP], AMBIGUOUS)
    put(fresh, alive, NOW, AMBIGUOUS)
    own = {rip: replace(key, rip=IPv4Address(rip)) for key, rip in ((dead, "10.80.0.10"), (alive, "10.80.0.11"))}
    put(fresh, own["10.80.0.10"], NOW - TIMEOUTS[PROTOCOL_UDP])
    put(fresh, own["10.80.0.11"], NOW)
    ageing.sweep(fresh, NOW)
    assert keys(fresh) == {alive, own["10.80.0.11"]}
    assert fresh.swept().expired == 1
    assert [flow.director for flow, _ in fresh.flows()] == [alive.director]


def test_nothing_is_swept_from_an_empty_table(fresh: DataPlane) -> None:
    ageing.sweep(fresh, NOW)
    assert accounts(fresh) == Counter(present=0, expired=0, evicted=0, taken_over=0)


def test_expired_flows_are_a_counter(fresh: DataPlane) -> None:
    for times in range(1, 4):
        put(fresh, key_for(EXAMPLE), NOW - TIMEOUTS[PROTOCOL_UDP])
        ageing.sweep(fresh, NOW)
        assert fresh.counts()["flows_expired"].total == times
        assert sum(fresh.counts()["flows_expired"].per_cpu) == times


def test_handshakes_go_too(fresh: DataPlane) -> None:
    timeout = TIMEOUTS[PROTOCOL_TCP]
    ages = {1: 0, 2: timeout - 1, 3: timeout + 1, 4: 10 * timeout}
    for isn, age in ages.items():
        handshake = layout.Handshake(
            lip=PackedAddress.of(EXAMPLE.director.address), rip=PackedAddress.of(EXAMPLE.server.address), isn=isn
        )
        client = layout.Client(
            address=PackedAddress.of(EXAMPLE.client.address),
            port=socket.htons(EXAMPLE.client.port),
            learnt_from=LearntFrom.SYN,
            learnt_ns=NOW - age,
        )
        fresh.table("handshakes").put(handshake, client)
    ageing.sweep(fresh, NOW)
    assert {handshake.isn for handshake, _ in fresh.handshakes()} == {1, 2}
    assert fresh.swept().expired == 0


@pytest.mark.parametrize("is_removed", [False, True], ids=["announced anew", "taken over"])
def test_what_changes_during_a_sweep(fresh: DataPlane, monkeypatch: pytest.MonkeyPatch, is_removed: bool) -> None:
    """Between the scan and the removal."""
    table = fresh.table("flows")
    batches = table.batches

    def overtaken() -> Iterator[tuple[bytes, bytes]]:
        for batch in list(batches()):
            if is_removed:
                table.remove(flows.packed(key_for(EXAMPLE)))
            else:
                put(fresh, key_for(EXAMPLE), NOW)
            yield batch

    put(fresh, key_for(EXAMPLE), NOW - TIMEOUTS[PROTOCOL_UDP])
    monkeypatch.setattr(table, "batches", overtaken)
    ageing.sweep(fresh, NOW)
    assert keys(fresh) == (set() if is_removed else {key_for(EXAMPLE)})
    assert fresh.swept().expired == 0


def test_what_the_kernel_drops_is_counted(ingress: Ingress, fresh: DataPlane) -> None:
    room = fresh.table("flows").max_entries
    for round_ in range(1, 4):
        ingress.run(*(framed(numbered(number)) for number in range(2 * room * (round_ - 1), 2 * room * round_)))
        ageing.sweep(fresh, time.monotonic_ns())
        present = len(keys(fresh))
        assert known(fresh) == 2 * room * round_
        assert present <= room
        assert accounts(fresh) == Counter(present=present, expired=0, evicted=known(fresh) - present, taken_over=0)


def test_every_flow_is_accounted_for(ingress: Ingress, fresh: DataPlane) -> None:
    """Announced, forgotten, dropped and taken over in any order; exact after each sweep, when all is quiet."""
    room = fresh.table("flows").max_entries
    source_ = random.Random(1)
    first = 0
    for _ in range(12):
        number = source_.randrange(room)
        ingress.run(*(framed(numbered(first + number)) for number in range(number)))
        first += source_.choice((0, number // 2, number))
        for key in source_.sample(sorted(keys(fresh), key=str), source_.randrange(len(keys(fresh)) // 4 + 1)):
            take_over(fresh, key)
        later_ns = source_.choice((0, 0, 0, TIMEOUTS[PROTOCOL_UDP]))
        ageing.sweep(fresh, time.monotonic_ns() + later_ns)
        assert accounts(fresh).total() == known(fresh), accounts(fresh)
    assert min(accounts(fresh)[name] for name in ("expired", "evicted", "taken_over")) > 0, accounts(fresh)


def test_flows_to_several_addresses_are_accounted_for(ingress: Ingress, fresh: DataPlane) -> None:
    servers = [Endpoint(IPv4Address(f"10.80.0.{host}"), EXAMPLE.server.port) for host in (10, 11, 12)]
    announced = [replace(numbered(number), server=server) for number in range(50) for server in servers]
    random.Random(2).shuffle(announced)
    ingress.run(*(framed(one) for one in announced))
    ageing.sweep(fresh, time.monotonic_ns())
    assert accounts(fresh) == Counter(present=150, expired=0, evicted=0, taken_over=0)
    ageing.sweep(fresh, time.monotonic_ns() + TIMEOUTS[PROTOCOL_UDP])
    assert accounts(fresh) == Counter(present=0, expired=150, evicted=0, taken_over=0)
    assert not keys(fresh)
    ingress.run(*(framed(one) for one in announced))
    ageing.sweep(fresh, time.monotonic_ns())
    assert accounts(fresh) == Counter(present=150, expired=150, evicted=0, taken_over=0)
    assert known(fresh) == 300


def test_what_was_counted_as_dropped_stays_counted(fresh: DataPlane) -> None:
    """Even where flows that come during a sweep make it look like less."""
    fresh.table("swept").put(ONLY, layout.Swept(evicted=5))
    put(fresh, key_for(EXAMPLE), NOW)
    ageing.sweep(fresh, NOW)
    assert fresh.swept().evicted == 5


def test_every_entry_of_many_once(large: DataPlane) -> None:
    """More than one batch of the kernel's, and nothing twice; the half that is dead goes."""
    for number in range(MANY):
        age = TIMEOUTS[PROTOCOL_UDP] if number % 2 else 0
        put(large, key_for(numbered(number)), NOW - age)
    size = ctypes.sizeof(layout.FlowKey)
    seen = Counter(
        batch[at : at + size] for batch, _ in large.table("flows").batches() for at in range(0, len(batch), size)
    )
    assert set(seen.values()) == {1}
    assert len(seen) == MANY
    assert len({flow.director for flow, _ in large.flows()}) == MANY
    ageing.sweep(large, NOW)
    assert keys(large) == {key_for(numbered(number)) for number in range(0, MANY, 2)}
    assert large.swept().expired == MANY // 2
