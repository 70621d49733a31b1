"""The tc program for Ethernet keeps exactly what an announcement says, whatever is around it, and touches nothing."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Mapping
from ctypes import c_int64
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_network

import pytest
from scapy.layers.l2 import Dot1Q

from ipvsca.address import Endpoint
from ipvsca.dataplane import NANOSECONDS, DataPlane
from ipvsca.kernel import layout
from ipvsca.kernel.maps import ONLY, possible_cpus
from ipvsca.kernel.programs import INGRESS_ETHERNET, Program
from ipvsca.settings import DEFAULTS
from ipvsca.wire import announcement
from ipvsca.wire.announcement import Announcement, Verdict
from ipvsca.wire.internet import PROTOCOL_TCP, PROTOCOL_UDP
from tests.bpf import flows
from tests.bpf.announced_packets import ELSEWHERE, EXAMPLE, FRAME, TAGS, framed, learnt, outcome_for, refused, tagged
from tests.bpf.cases import at
from tests.bpf.flows import AMBIGUOUS, Key, Told, key_for, told_by
from tests.bpf.ingress import Ingress, Outcome, coarse_ns, counts, grown
from tests.bpf.reference import expected
from tests.bpf.testrun import run_at_once, shortest
from tests.vectors import AnnouncementVector, announcement_vectors

VECTORS = [
    pytest.param(vector, id=vector.sentence) for vector in announcement_vectors() if len(vector.packet) >= 20
]  # test runs take no shorter ones
KEPT_FREE = 128 * possible_cpus()
"""How many entries of a full table the kernel may hold ready for the next ones."""

PAIRS = 100  # three entries each, for which the table has room whatever the kernel holds ready

OTHER_CLIENT = Endpoint(IPv4Address("198.51.100.9"), 999)
RIP_A, RIP_B, RIP_C = (Endpoint(IPv4Address(f"10.80.0.{host}"), EXAMPLE.server.port) for host in (10, 11, 12))
TO_A, TO_B, TO_C = (replace(EXAMPLE, server=rip) for rip in (RIP_A, RIP_B, RIP_C))
SAME_MARK_AS_A = IPv4Address("10.161.49.145")
TO_A_ANEW, TO_B_ANEW = replace(TO_A, client=OTHER_CLIENT), replace(TO_B, client=OTHER_CLIENT)


@pytest.fixture
def ingress(programs: Mapping[Program, int], plane: DataPlane) -> Ingress:
    return Ingress(programs[INGRESS_ETHERNET], plane)


@pytest.mark.parametrize("vector", VECTORS)
def test_vector(ingress: Ingress, vector: AnnouncementVector) -> None:
    packet = framed(vector.packet)
    assert ingress.feed(packet) == expected(packet, settings=DEFAULTS) == outcome_for(vector.expected)


@pytest.mark.parametrize("vector", VECTORS)
def test_vector_cut_at_each_byte(ingress: Ingress, vector: AnnouncementVector) -> None:
    whole = framed(vector.packet)
    for length in range(shortest(whole[12:14]), len(whole)):
        outcome = outcome_for(announcement.parse(whole[14:length]))
        assert ingress.feed(whole[:length]) == outcome, f"cut at {length}"


def test_an_entry_says_all(ingress: Ingress, plane: DataPlane) -> None:
    """Field by field once, as the kernel has it; Ingress checks pads and times of every entry."""
    outcome = ingress.feed(framed(EXAMPLE))
    assert outcome.flows == {
        Key(PROTOCOL_UDP, Endpoint.parse("10.90.0.2:40001"), 8001, None): Told(
            Endpoint.parse("198.51.100.1:4660"), IPv4Address("10.80.0.10")
        )
    }
    assert outcome.counted == {"announcement_learnt": 1, "flows_new": 1}
    assert not list(plane.table("replies").keys())


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS.keys())
def test_vlan_tags(ingress: Ingress, tags: tuple[Dot1Q, ...]) -> None:
    frame = tagged(FRAME, *tags)
    assert ingress.feed(framed(EXAMPLE, frame)) == learnt(EXAMPLE)
    for vector in announcement_vectors():
        packet = framed(vector.packet, frame)
        assert ingress.feed(packet.ljust(34, b"\0")) == expected(packet, settings=DEFAULTS), vector.sentence


def test_three_vlan_tags(ingress: Ingress) -> None:
    assert ingress.feed(framed(EXAMPLE, tagged(FRAME, Dot1Q(), Dot1Q(), Dot1Q()))) == Outcome()


@pytest.mark.parametrize("tags", [(), (Dot1Q(),)], ids=["no tag", "one tag"])
@pytest.mark.parametrize("address", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_only_what_is_sent_to_this_host_alone_is_believed(
    ingress: Ingress, address: str, tags: tuple[Dot1Q, ...]
) -> None:
    """Anyone can send to all hosts of a network at once, without knowing a single one."""
    assert ingress.feed(framed(EXAMPLE, tagged(at(FRAME, dst=address), *tags))) == refused("host")


@pytest.mark.parametrize("vector", VECTORS)
def test_what_is_wrong_is_told_wherever_it_was_sent(ingress: Ingress, vector: AnnouncementVector) -> None:
    outcome = refused("host") if vector.expected.verdict is Verdict.FOUND else outcome_for(vector.expected)
    assert ingress.feed(framed(vector.packet, at(FRAME, dst=ELSEWHERE["broadcast"]))) == outcome


@pytest.mark.parametrize("source", ["203.0.113.66", "9.255.255.255", "11.0.0.0", "172.32.0.1", "0.0.0.0"])
def test_a_stranger_is_not_believed(ingress: Ingress, source: str) -> None:
    stranger = replace(EXAMPLE, director=Endpoint(IPv4Address(source), 40001))
    assert ingress.feed(framed(stranger)) == refused("untrusted")


def test_trust_is_a_setting(ingress: Ingress, plane: DataPlane) -> None:
    plane.apply(replace(DEFAULTS, trusted=(ip_network("10.90.0.3/32"),)))
    other = replace(EXAMPLE, director=Endpoint(IPv4Address("10.90.0.3"), 40001))
    assert ingress.feed(framed(EXAMPLE)) == refused("untrusted")
    assert ingress.feed(framed(other)) == learnt(other)


def test_trust_in_all_of_ipv6_is_none_in_ipv4(ingress: Ingress, plane: DataPlane) -> None:
    plane.apply(replace(DEFAULTS, trusted=(ip_network("::/0"),)))
    assert ingress.feed(framed(EXAMPLE)) == refused("untrusted")


@pytest.mark.parametrize("kinds", [(200,), (254,), (77,), (9, 63, 64, 127, 128, 191, 192, 255)], ids=str)
def test_kinds_are_a_setting(ingress: Ingress, plane: DataPlane, kinds: tuple[int, ...]) -> None:
    plane.apply(replace(DEFAULTS, tcpopt_addr=kinds))
    for kind in (0, 9, 63, 64, 77, 127, 128, 191, 192, 200, 254, 255):
        announced = replace(EXAMPLE, kind=kind)
        outcome = learnt(announced) if kind in kinds else refused("kind")
        assert ingress.feed(framed(announced)) == outcome, kind


def test_nothing_is_learnt_before_there_are_settings(ingress: Ingress, plane: DataPlane) -> None:
    plane.table("settings").put(ONLY, layout.Settings())
    assert ingress.feed(framed(EXAMPLE)) == refused("kind")


def test_counters_remember_the_director(ingress: Ingress, plane: DataPlane) -> None:
    stranger = replace(EXAMPLE, director=Endpoint(IPv4Address("203.0.113.66"), 40001))
    malformed = framed(replace(EXAMPLE, protocol=1, director=Endpoint(IPv4Address("10.90.0.3"), 1)))
    elsewhere = framed(EXAMPLE, at(FRAME, dst=ELSEWHERE["multicast"]))
    begun_ns = coarse_ns()
    ingress.feed(framed(stranger), malformed, elsewhere, framed(EXAMPLE))
    for name, source in {
        "refused_announcement_untrusted": "203.0.113.66",
        "refused_announcement_malformed": "10.90.0.3",
        "refused_announcement_host": "10.90.0.2",
        "announcement_learnt": "10.90.0.2",
    }.items():
        count = plane.counts()[name]
        assert str(count.last_source) == source
        assert begun_ns <= count.last_ns <= time.monotonic_ns()


@dataclass(frozen=True)
class History:
    """Announcements one after the other, and the table and counters as they have to be afterwards."""

    sentence: str
    announced: tuple[Announcement, ...]
    new: int
    replaced: int
    entries: Mapping[Key, Told]


KEY = key_for(TO_A)
AT_A, AT_B, AT_C = (replace(KEY, rip=rip.address) for rip in (RIP_A, RIP_B, RIP_C))
OTHER_RPORT = replace(EXAMPLE, server=Endpoint(RIP_A.address, 53))
OTHER_LPORT = replace(EXAMPLE, director=Endpoint(EXAMPLE.director.address, 40002))
OTHER_LIP = replace(EXAMPLE, director=Endpoint(IPv4Address("10.90.0.3"), 40001))
OVER_TCP = replace(EXAMPLE, protocol=PROTOCOL_TCP)
OTHER_PORT_OF_CLIENT = replace(EXAMPLE, client=Endpoint(EXAMPLE.client.address, 999))
SWAPPED = replace(
    EXAMPLE,
    director=Endpoint(EXAMPLE.director.address, RIP_A.port),
    server=Endpoint(RIP_A.address, EXAMPLE.director.port),
)

HISTORIES = [
    History("the same again", (TO_A, TO_A, TO_A), 1, 0, {KEY: told_by(TO_A)}),
    History("of another kind", (TO_A, replace(TO_A, kind=254)), 1, 0, {KEY: told_by(TO_A)}),
    History("a newer one wins at once", (TO_A, TO_A_ANEW), 1, 1, {KEY: told_by(TO_A_ANEW)}),
    History("and the next one too", (TO_A, TO_A_ANEW, TO_A), 1, 2, {KEY: told_by(TO_A)}),
    History(
        "another port of the same client", (TO_A, OTHER_PORT_OF_CLIENT), 1, 1, {KEY: told_by(OTHER_PORT_OF_CLIENT)}
    ),
    *(
        History(
            f"another {what} is another flow",
            (EXAMPLE, other, replace(other, client=OTHER_CLIENT)),
            2,
            1,
            {KEY: told_by(EXAMPLE), key_for(other): Told(OTHER_CLIENT, RIP_A.address)},
        )
        for what, other in {
            "rport": OTHER_RPORT,
            "lport": OTHER_LPORT,
            "LIP": OTHER_LIP,
            "protocol": OVER_TCP,
            "order of the ports": SWAPPED,
        }.items()
    ),
    History("two RIPs", (TO_A, TO_B), 2, 0, {KEY: AMBIGUOUS, AT_A: told_by(TO_A), AT_B: told_by(TO_B)}),
    History(
        "two RIPs, two clients",
        (TO_A, TO_B_ANEW),
        2,
        0,
        {KEY: AMBIGUOUS, AT_A: told_by(TO_A), AT_B: told_by(TO_B_ANEW)},
    ),
    History(
        "two RIPs over TCP",
        (OVER_TCP, replace(TO_B, protocol=PROTOCOL_TCP)),
        2,
        0,
        {
            key_for(OVER_TCP): AMBIGUOUS,
            replace(AT_A, protocol=PROTOCOL_TCP): told_by(TO_A),
            replace(AT_B, protocol=PROTOCOL_TCP): told_by(TO_B),
        },
    ),
    History(
        "two RIPs, both again",
        (TO_A, TO_B, TO_A, TO_B),
        2,
        0,
        {KEY: AMBIGUOUS, AT_A: told_by(TO_A), AT_B: told_by(TO_B)},
    ),
    History(
        "two RIPs, the first one anew",
        (TO_A, TO_B, TO_A_ANEW),
        2,
        1,
        {KEY: AMBIGUOUS, AT_A: told_by(TO_A_ANEW), AT_B: told_by(TO_B)},
    ),
    History(
        "two RIPs, the second one anew",
        (TO_A, TO_B, TO_B_ANEW),
        2,
        1,
        {KEY: AMBIGUOUS, AT_A: told_by(TO_A), AT_B: told_by(TO_B_ANEW)},
    ),
    History(
        "three RIPs",
        (TO_A, TO_B, TO_C),
        3,
        0,
        {KEY: AMBIGUOUS, AT_A: told_by(TO_A), AT_B: told_by(TO_B), AT_C: told_by(TO_C)},
    ),
    History(
        "three RIPs, each one anew",
        (TO_A, TO_B, TO_C, replace(TO_C, client=OTHER_CLIENT), TO_B_ANEW, TO_A_ANEW),
        3,
        3,
        {
            KEY: AMBIGUOUS,
            AT_A: told_by(TO_A_ANEW),
            AT_B: told_by(TO_B_ANEW),
            AT_C: Told(OTHER_CLIENT, RIP_C.address),
        },
    ),
    History(
        "two RIPs are no doubt about another lport",
        (TO_A, TO_B, OTHER_LPORT),
        3,
        0,
        {KEY: AMBIGUOUS, AT_A: told_by(TO_A), AT_B: told_by(TO_B), key_for(OTHER_LPORT): told_by(OTHER_LPORT)},
    ),
]


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.sentence)
def test_history(ingress: Ingress, history: History) -> None:
    counted = {"announcement_learnt": len(history.announced), "flows_new": history.new}
    if history.replaced:
        counted["flows_replaced"] = history.replaced
    outcome = Outcome({}, counted, history.entries)
    packets = [framed(one) for one in history.announced]
    assert ingress.feed(*packets) == outcome
    assert expected(*packets, settings=DEFAULTS) == outcome, "the reference would be no judge of mutated packets"


class Known:
    """A table in which these entries were used last so many seconds ago; empty again afterwards."""

    def __init__(self, plane: DataPlane, entries: Mapping[Key, tuple[Told, float]]) -> None:
        self._plane = plane
        self._entries = entries

    def __enter__(self) -> Known:
        flows.forget(self._plane)
        now_ns = coarse_ns()
        for key, (told, age) in self._entries.items():
            entry = flows.learnt(key, told, now_ns - int(age * NANOSECONDS))
            self._plane.table("flows").put(flows.packed(key), entry)
        flows.hint(self._plane, bool(self._entries))
        self._counts = counts(self._plane)
        return self

    def __exit__(self, *_: object) -> None:
        flows.forget(self._plane)

    def counted(self) -> dict[str, int]:
        return grown(self._counts, counts(self._plane))

    def told(self) -> dict[Key, Told]:
        return {key: flows.says(entry) for key, entry in flows.stored(self._plane)}

    def used_ns(self) -> dict[Key, int]:
        """By CLOCK_MONOTONIC; below 0 where it was before the machine was started."""
        return {key: c_int64(entry.used_ns).value for key, entry in flows.stored(self._plane)}

    def present(self) -> int:
        """How many flows there are: what only tells that there are several is none."""
        return sum(told is not AMBIGUOUS for told in self.told().values())


def test_what_is_refused_changes_nothing_that_is_known(ingress: Ingress, plane: DataPlane) -> None:
    elsewhere = at(FRAME, dst=ELSEWHERE["broadcast"])
    impossible = replace(TO_A, client=Endpoint(IPv4Address("127.0.0.1"), 1))
    with Known(plane, {KEY: (told_by(TO_A), 1)}) as known:
        before = known.used_ns()
        ingress.run(framed(TO_A_ANEW, elsewhere), framed(TO_B, elsewhere), framed(impossible))
        plane.apply(replace(DEFAULTS, trusted=(ip_network("10.91.0.0/16"),)))
        ingress.run(framed(TO_A_ANEW), framed(TO_B))
        assert known.told() == {KEY: told_by(TO_A)}
        assert known.used_ns() == before


@dataclass(frozen=True)
class Aged:
    """An announcement of a flow that is known from long ago."""

    sentence: str
    protocol: int
    age: float
    announced: Announcement
    replaced: int


UDP_TIMEOUT, TCP_TIMEOUT = DEFAULTS.udp_timeout, DEFAULTS.tcp_timeout
BETWEEN = (UDP_TIMEOUT + TCP_TIMEOUT) / 2

AGED = [
    Aged("UDP, within its time", PROTOCOL_UDP, BETWEEN, TO_A, 0),
    Aged("UDP, within its time, anew", PROTOCOL_UDP, BETWEEN, TO_A_ANEW, 1),
    Aged("UDP, just past its time", PROTOCOL_UDP, UDP_TIMEOUT, TO_A, 1),
    Aged("UDP, past its time, anew", PROTOCOL_UDP, UDP_TIMEOUT, TO_A_ANEW, 1),
    Aged("UDP, past its time, to another RIP", PROTOCOL_UDP, UDP_TIMEOUT, TO_B, 1),
    Aged("TCP, within its time", PROTOCOL_TCP, TCP_TIMEOUT - 10, TO_A, 0),
    Aged("TCP, just past its time", PROTOCOL_TCP, TCP_TIMEOUT, TO_A, 1),
    Aged("TCP, past its time, within that of UDP", PROTOCOL_TCP, BETWEEN, TO_A, 1),
    Aged("TCP, past its time, to another RIP", PROTOCOL_TCP, BETWEEN, TO_B_ANEW, 1),
]


@pytest.mark.parametrize("case", AGED, ids=lambda case: case.sentence)
def test_what_is_past_its_time_makes_room(ingress: Ingress, plane: DataPlane, case: Aged) -> None:
    key = replace(KEY, protocol=case.protocol)
    announced = replace(case.announced, protocol=case.protocol)
    begun_ns = coarse_ns()
    with Known(plane, {key: (told_by(TO_A), case.age)}) as known:
        ingress.run(framed(announced))
        assert known.told() == {key: told_by(announced)}
        assert known.used_ns()[key] >= begun_ns
        replaced = {"flows_replaced": 1} if case.replaced else {}
        assert known.counted() == {"announcement_learnt": 1} | replaced


def test_timeouts_are_settings(ingress: Ingress, plane: DataPlane) -> None:
    plane.apply(replace(DEFAULTS, udp_timeout=10, tcp_timeout=1000))
    for protocol, replaced in {PROTOCOL_UDP: 1, PROTOCOL_TCP: 0}.items():
        with Known(plane, {replace(KEY, protocol=protocol): (told_by(TO_A), 10)}) as known:
            ingress.run(framed(replace(TO_A, protocol=protocol)))
            assert known.counted().get("flows_replaced", 0) == replaced


TWO = {KEY: AMBIGUOUS, AT_A: told_by(TO_A), AT_B: told_by(TO_B)}
OLD = UDP_TIMEOUT - 10


@pytest.mark.parametrize("announced", [TO_A, TO_A_ANEW, TO_B, TO_B_ANEW, TO_C], ids=["A", "A'", "B", "B'", "C"])
def test_doubt_lasts_as_long_as_the_newest_of_its_flows(
    ingress: Ingress, plane: DataPlane, announced: Announcement
) -> None:
    """Otherwise one of them would be answered for all, while others are alive."""
    with Known(plane, {key: (told, OLD) for key, told in TWO.items()}) as known:
        ingress.run(framed(announced))
        used_ns = known.used_ns()
        assert known.told()[KEY] is AMBIGUOUS
        assert used_ns[KEY] >= max(used_ns.values())


def test_doubt_that_begins_late_lasts_as_long(ingress: Ingress, plane: DataPlane) -> None:
    with Known(plane, {KEY: (told_by(TO_A), OLD)}) as known:
        ingress.run(framed(TO_B))
        used_ns = known.used_ns()
        assert known.told() == TWO
        assert used_ns[AT_A] < used_ns[AT_B] <= used_ns[KEY]


def test_doubt_that_is_past_its_time_is_no_more(ingress: Ingress, plane: DataPlane) -> None:
    with Known(plane, {key: (told, UDP_TIMEOUT) for key, told in TWO.items()}) as known:
        ingress.run(framed(TO_A_ANEW))
        assert known.told()[KEY] == told_by(TO_A_ANEW)


def test_what_doubt_has_left_behind_goes(ingress: Ingress, plane: DataPlane) -> None:
    """Also where nothing new is said of the flow."""
    with Known(plane, {KEY: (told_by(TO_A), 1), AT_A: (told_by(TO_A_ANEW), 1)}) as known:
        ingress.run(framed(TO_A))
        assert known.told() == {KEY: told_by(TO_A)}


def test_two_addresses_with_the_same_mark(ingress: Ingress, plane: DataPlane) -> None:
    """They share an entry, and the newer one has it."""
    addresses = (IPv4Address(random.Random(number).getrandbits(32)) for number in itertools.count())
    by_mark: dict[tuple[int, ...], IPv4Address] = {}
    rip, other = next(
        (rip, other) for rip in addresses if (other := by_mark.setdefault(flows.rip_mark(rip), rip)) != rip
    )
    first = replace(TO_A, server=Endpoint(other, TO_A.server.port))
    second = replace(TO_A, server=Endpoint(rip, TO_A.server.port), client=OTHER_CLIENT)
    with Known(plane, {}) as known:
        ingress.run(framed(first), framed(second), framed(second))
        assert known.told() == {KEY: AMBIGUOUS, replace(KEY, rip=rip): told_by(second)}
        ingress.run(framed(first))
        assert known.told() == {KEY: AMBIGUOUS, replace(KEY, rip=other): told_by(first)}


@pytest.mark.parametrize("announced", [(TO_A,), (TO_A_ANEW, TO_B), (TO_C,), (TO_C, TO_A)], ids=["A", "A, B", "C", "CA"])
@pytest.mark.parametrize("lost", [(), (KEY,), (AT_A,), (KEY, AT_A)], ids=["all", "no doubt", "no A", "neither"])
@pytest.mark.parametrize("age", [1, UDP_TIMEOUT], ids=["alive", "dead"])
def test_every_flow_is_counted_once(
    ingress: Ingress, plane: DataPlane, age: float, lost: tuple[Key, ...], announced: tuple[Announcement, ...]
) -> None:
    """Whatever was taken out of the table: each flow that is counted is there, and each that is there is counted."""
    entries = {key: (told, age) for key, told in TWO.items() if key not in lost}
    with Known(plane, entries) as known:
        before = known.present()
        ingress.run(*map(framed, announced))
        assert known.present() - before == known.counted().get("flows_new", 0)


@pytest.mark.parametrize("turns", ["AB", "BA", "ABA", "ABAB", "ABCA"])
def test_two_addresses_of_one_mark(ingress: Ingress, turns: str) -> None:
    """They share a place in the table: who was learnt last has it, and nobody is taken for the other."""
    to = {"A": TO_A, "B": replace(TO_B, server=replace(RIP_A, address=SAME_MARK_AS_A)), "C": TO_C}
    announced = [to[turn] for turn in turns]
    assert ingress.feed(*map(framed, announced)) == learnt(*announced)


def test_two_flows_of_one_lport_that_are_learnt_at_once(programs: Mapping[Program, int], plane: DataPlane) -> None:
    """Towards two addresses, and nothing was known before: there is doubt, and none is taken for the other."""
    pairs = [(replace(one, server=RIP_A), replace(one, server=RIP_B)) for one in map(numbered, range(PAIRS))]
    with Known(plane, {}) as known:
        run_at_once(programs[INGRESS_ETHERNET], [(framed(one), framed(other)) for one, other in pairs])
        assert sum(told is AMBIGUOUS for told in known.told().values()) == len(pairs)
        assert known.counted()["flows_new"] == 2 * len(pairs) == known.present()


def numbered(number: int) -> Announcement:
    director = Endpoint(IPv4Address("10.90.0.2") + number // 50_000, 1 + number % 50_000)
    return replace(EXAMPLE, director=director, client=Endpoint(IPv4Address("198.51.0.0") + number, 1234))


def test_a_full_table_costs_the_oldest_not_the_newest(ingress: Ingress, plane: DataPlane) -> None:
    """Nothing is refused for want of room, and the table stays in its bounds."""
    room = plane.table("flows").max_entries
    flood = [numbered(number) for number in range(3 * room)]
    outcome = ingress.feed(*map(framed, flood))
    assert outcome.counted == {"announcement_learnt": len(flood), "flows_new": len(flood)}
    assert room - KEPT_FREE <= len(outcome.flows) <= room
    newest = flood[-(room - KEPT_FREE) :]
    assert {key_for(one): told_by(one) for one in newest[len(newest) // 2 :]}.items() <= outcome.flows.items()
    assert not outcome.flows.keys() & {key_for(one) for one in flood[:room]}


def test_what_is_announced_again_and_again_stays_in_a_full_table(ingress: Ingress, plane: DataPlane) -> None:
    room = plane.table("flows").max_entries
    flood: list[Announcement] = []
    for number in range(3 * room):
        flood += [numbered(number)] if number % 100 else [numbered(number), TO_A]
    outcome = ingress.feed(*map(framed, flood))
    assert outcome.counted == {"announcement_learnt": len(flood), "flows_new": 3 * room + 1}
    assert outcome.flows[KEY] == told_by(TO_A)
