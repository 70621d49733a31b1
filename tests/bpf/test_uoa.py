"""The tc program for Ethernet keeps what a datagram says of its client; it takes opp away, and changes nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from scapy.layers.inet6 import IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1Q
from scapy.packet import Packet, Raw

from ipvsca.address import Endpoint
from ipvsca.dataplane import DataPlane
from ipvsca.kernel import layout
from ipvsca.kernel.layout import LearntFrom
from ipvsca.kernel.maps import ONLY
from ipvsca.kernel.programs import INGRESS_ETHERNET, Program
from ipvsca.settings import DEFAULTS
from ipvsca.wire import announcement, uoa
from ipvsca.wire.announcement import Announcement
from ipvsca.wire.internet import PROTOCOL_UDP
from ipvsca.wire.uoa import PROTOCOL_OPP, Told, Verdict
from tests.bpf import announced_packets, packets, reference
from tests.bpf.announced_packets import ELSEWHERE, FRAME, TAGS, tagged
from tests.bpf.cases import ATOMIC, DESTINATION, HOP_BY_HOP, at
from tests.bpf.flows import AMBIGUOUS, Key, key_for, told_by
from tests.bpf.ingress import Ingress, Outcome
from tests.bpf.testrun import shortest
from tests.bpf.told_packets import NAT64, V4, V6, framed, learnt, outcome_for_ipo, outcome_for_opp, refused
from tests.vectors import UoaVector, ipo_vectors, opp_vectors

IPO = [pytest.param(vector, id=vector.sentence) for vector in ipo_vectors() if len(vector.packet) >= 20]
OPP = [pytest.param(vector, id=vector.sentence) for vector in opp_vectors() if len(vector.packet) >= 20]
ETHERNET = 14
PAYLOADS = {length: bytes(byte % 251 for byte in range(length)) for length in (0, 1, 2, 3, 64, 1400, 2800)}

Build = Callable[[Told, bytes], bytes]


@pytest.fixture
def ingress(programs: Mapping[Program, int], plane: DataPlane) -> Ingress:
    return Ingress(programs[INGRESS_ETHERNET], plane)


def expected(*frames: bytes) -> Outcome:
    return reference.expected(*frames, settings=DEFAULTS)


@pytest.mark.parametrize("vector", IPO)
def test_ipo(ingress: Ingress, vector: UoaVector) -> None:
    frame = framed(vector.packet, at(FRAME))
    assert ingress.feed(frame) == expected(frame)
    if vector.packet[0] >> 4 == 4:
        assert ingress.feed(frame) == outcome_for_ipo(vector.expected)


@pytest.mark.parametrize("vector", OPP)
def test_opp(ingress: Ingress, vector: UoaVector) -> None:
    frame = framed(vector.packet)
    outcome = ingress.feed(frame)
    assert outcome == expected(frame) == outcome_for_opp(vector.expected, frame)
    if vector.becomes:
        assert outcome.changed == (frame[:ETHERNET] + vector.becomes,)


@pytest.mark.parametrize("vector", [*IPO, *OPP])
def test_a_packet_cut_at_each_byte(ingress: Ingress, vector: UoaVector) -> None:
    whole = framed(vector.packet)
    for length in range(shortest(whole[12:14]), len(whole)):
        assert ingress.feed(whole[:length]) == expected(whole[:length]), f"cut at {length}"


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
@pytest.mark.parametrize("told", [V4, V6, NAT64], ids=["v4", "v6", "nat64"])
def test_what_is_behind_opp_stays(ingress: Ingress, told: Told, payload: bytes) -> None:
    frame = framed(uoa.build_opp(told, payload))
    (changed,) = ingress.feed(frame).changed
    taken = 24 if told.client.address.version == 6 else 12
    datagram = len(frame) - len(payload) - 8
    assert changed[:ETHERNET] == frame[:ETHERNET]
    assert changed[datagram - taken :] == frame[datagram:]
    assert len(changed) == len(frame) - taken


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS.keys())
@pytest.mark.parametrize("told", [V4, NAT64], ids=["v4", "nat64"])
def test_ipo_behind_vlan_tags(ingress: Ingress, told: Told, tags: tuple[Packet, ...]) -> None:
    assert ingress.feed(framed(uoa.build_ipo(told), tagged(FRAME, *tags))) == learnt(told, LearntFrom.IPO)


@pytest.mark.parametrize("tags", [tags for tags in TAGS.values() if tags])
@pytest.mark.parametrize("told", [V4, V6, NAT64], ids=["v4", "v6", "nat64"])
def test_opp_behind_vlan_tags_stays_as_it_is(ingress: Ingress, told: Told, tags: tuple[Packet, ...]) -> None:
    """The kernel does not look for IP behind them. Of what a device has received the first one is off already."""
    frame = framed(uoa.build_opp(told), tagged(FRAME, *tags))
    assert ingress.feed(frame) == expected(frame) == refused("opp", "room")


def test_the_version_has_to_be_that_of_the_frame(ingress: Ingress) -> None:
    for told, wrong in ((V4, 0x65), (V6, 0x40)):
        frame = bytearray(framed(uoa.build_opp(told, bytes(20))))
        frame[ETHERNET] = wrong
        assert ingress.feed(bytes(frame)) == Outcome()


def in_ipv6(*extensions: Packet) -> bytes:
    """opp over IPv6, behind extension headers."""
    opp = uoa.build_opp(V6, b"hello")[40:]
    front = at(packets.V6)
    for extension in extensions:
        front /= at(extension)
    front.lastlayer().nh = PROTOCOL_OPP
    return bytes(front / Raw(opp))


@pytest.mark.parametrize("extensions", [(HOP_BY_HOP,), (DESTINATION,), (ATOMIC,), (HOP_BY_HOP, DESTINATION, ATOMIC)])
def test_opp_behind_extension_headers_stays_as_it_is(ingress: Ingress, extensions: tuple[Packet, ...]) -> None:
    frame = framed(in_ipv6(*extensions))
    assert ingress.feed(frame) == expected(frame) == refused("opp", "malformed")


@pytest.mark.parametrize(
    "extensions",
    [
        (IPv6ExtHdrFragment(m=1),),
        (IPv6ExtHdrFragment(offset=1, m=1),),
        (IPv6ExtHdrFragment(offset=0x1FFF),),
        (HOP_BY_HOP, IPv6ExtHdrFragment(m=1)),
    ],
    ids=["first", "middle", "last", "behind another extension header"],
)
def test_opp_in_fragments_of_ipv6_stays_as_it_is(ingress: Ingress, extensions: tuple[Packet, ...]) -> None:
    frame = framed(in_ipv6(*extensions))
    assert ingress.feed(frame) == expected(frame) == refused("opp", "fragment")


FORMS = pytest.mark.parametrize(
    ("form", "told", "build"),
    [
        pytest.param("ipo", V4, uoa.build_ipo, id="ipo"),
        pytest.param("opp", V4, uoa.build_opp, id="opp"),
        pytest.param("opp", V6, uoa.build_opp, id="opp over IPv6"),
    ],
)


@FORMS
@pytest.mark.parametrize("address", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_only_what_is_sent_to_this_host_alone_is_believed(
    ingress: Ingress, form: str, told: Told, build: Build, address: str
) -> None:
    assert ingress.feed(framed(build(told, b"hello"), at(FRAME, dst=address))) == refused(form, "host")


@FORMS
def test_a_stranger_is_not_believed(ingress: Ingress, form: str, told: Told, build: Build) -> None:
    addresses = {4: "203.0.113.66", 6: "2001:db8:66::1"}
    stranger = Endpoint.of(addresses[told.director.address.version], 40001)
    assert ingress.feed(framed(build(replace(told, director=stranger), b"hello"))) == refused(form, "untrusted")


@FORMS
def test_trust_is_a_setting(ingress: Ingress, plane: DataPlane, form: str, told: Told, build: Build) -> None:
    plane.apply(replace(DEFAULTS, trusted=(ip_network("10.90.0.3/32"), ip_network("fd00:90::3/128"))))
    other = replace(told, director=replace(told.director, address=told.director.address + 1))
    assert ingress.feed(framed(build(told, b""))) == refused(form, "untrusted")
    assert ingress.feed(framed(build(other, b""))).counted == {f"{form}_learnt": 1, "flows_new": 1}


@FORMS
def test_kinds_of_tcp_do_not_matter(ingress: Ingress, plane: DataPlane, form: str, told: Told, build: Build) -> None:
    plane.apply(replace(DEFAULTS, tcpopt_addr=(uoa.KIND ^ 1,)))
    assert ingress.feed(framed(build(told, b""))).counted == {f"{form}_learnt": 1, "flows_new": 1}


@FORMS
def test_nothing_is_learnt_before_there_are_settings(
    ingress: Ingress, plane: DataPlane, form: str, told: Told, build: Build
) -> None:
    plane.apply(replace(DEFAULTS, trusted=(ip_network("192.0.2.0/24"),)))
    plane.table("settings").put(ONLY, layout.Settings())
    assert ingress.feed(framed(build(told, b""))) == refused(form, "untrusted")


@FORMS
def test_counters_remember_the_director(
    ingress: Ingress, plane: DataPlane, form: str, told: Told, build: Build
) -> None:
    impossible = replace(told, client=Endpoint(IPv4Address("127.0.0.1"), 1))
    ingress.feed(framed(build(told, b"")), framed(build(impossible, b"")))
    for name in (f"{form}_learnt", f"refused_{form}_client"):
        assert plane.counts()[name].last_source == told.director.address


OTHER = Endpoint(IPv4Address("198.51.100.9"), 999)
ANEW = replace(V4, client=OTHER)
TO_B = replace(V4, server=Endpoint(V4.server.address + 1, V4.server.port))


def as_announcement(told: Told) -> Announcement:
    return Announcement(PROTOCOL_UDP, told.director, told.server, told.client)


def announced(told: Told) -> bytes:
    return announced_packets.framed(announcement.build(as_announcement(told)))


def ipo(told: Told) -> bytes:
    return framed(uoa.build_ipo(told))


def opp(told: Told) -> bytes:
    return framed(uoa.build_opp(told))


KEY = key_for(as_announcement(V4))
AT_A, AT_B = (replace(KEY, rip=told.server.address) for told in (V4, TO_B))


def entry(told: Told, learnt_from: LearntFrom) -> object:
    return told_by(as_announcement(told), learnt_from)


@pytest.mark.parametrize(
    ("frames", "new", "replaced", "entries"),
    [
        pytest.param([ipo(V4)] * 3, 1, 0, {KEY: entry(V4, LearntFrom.IPO)}, id="the same again"),
        pytest.param(
            [announced(V4), ipo(V4), opp(V4)], 1, 0, {KEY: entry(V4, LearntFrom.ANNOUNCEMENT)}, id="in another way"
        ),
        pytest.param([opp(V4), opp(ANEW)], 1, 1, {KEY: entry(ANEW, LearntFrom.OPP)}, id="a newer one wins at once"),
        pytest.param(
            [opp(V4), ipo(ANEW), announced(V4)], 1, 2, {KEY: entry(V4, LearntFrom.ANNOUNCEMENT)}, id="and so on"
        ),
        pytest.param(
            [opp(V4), opp(TO_B), opp(V4), opp(TO_B)],
            2,
            0,
            {KEY: AMBIGUOUS, AT_A: entry(V4, LearntFrom.OPP), AT_B: entry(TO_B, LearntFrom.OPP)},
            id="two RIPs",
        ),
        pytest.param(
            [opp(V4), opp(TO_B), ipo(ANEW), opp(TO_B)],
            2,
            1,
            {KEY: AMBIGUOUS, AT_A: entry(ANEW, LearntFrom.IPO), AT_B: entry(TO_B, LearntFrom.OPP)},
            id="two RIPs, one anew",
        ),
    ],
)
def test_history(ingress: Ingress, frames: list[bytes], new: int, replaced: int, entries: Mapping[Key, object]) -> None:
    outcome = ingress.feed(*frames)
    assert outcome == expected(*frames)
    assert outcome.flows == entries
    assert outcome.counted["flows_new"] == new
    assert outcome.counted.get("flows_replaced", 0) == replaced


@pytest.mark.parametrize("again", [announced(V4), ipo(V4), opp(V4)], ids=["announced", "ipo", "opp"])
@pytest.mark.parametrize("both", [False, True], ids=["one RIP", "two RIPs"])
def test_what_is_said_again_is_a_use(ingress: Ingress, plane: DataPlane, again: bytes, both: bool) -> None:
    """The entry stays as it is, what it says of ways back too; only its time begins anew."""
    table = plane.table("flows")
    ingress.run(opp(V4), *([opp(TO_B)] if both else []))
    for key, known in list(table.items()):
        known.client.has_reply, known.client.is_shared, known.used_ns = 3, 1, known.used_ns - 10**9
        table.put(key, known)
    before = {bytes(key): known for key, known in table.items()}
    ingress.run(again)
    after = {bytes(key): known for key, known in table.items()}
    used = {key for key in after if after[key].used_ns != before[key].used_ns}
    assert len(after) == len(before) == (3 if both else 1)
    assert len(used) == (2 if both else 1)
    for key, known in after.items():
        known.used_ns = before[key].used_ns
        assert bytes(known) == bytes(before[key])
    ingress.feed()


@pytest.mark.parametrize("changed", [announced(ANEW), ipo(ANEW), opp(ANEW)], ids=["announced", "ipo", "opp"])
def test_another_client_has_no_way_back(ingress: Ingress, plane: DataPlane, changed: bytes) -> None:
    table = plane.table("flows")
    ingress.run(opp(V4))
    ((key, known),) = table.items()
    known.client.has_reply, known.client.is_shared = 3, 1
    table.put(key, known)
    ingress.run(changed)
    ((_, now),) = table.items()
    assert (now.client.endpoint, now.client.has_reply, now.client.is_shared) == (OTHER, 0, 0)
    ingress.feed()


def test_loopback_of_ipv6_is_believed_on_loopback_alone(ingress: Ingress) -> None:
    """Test runs are on that device; see test_uoa_delivery.py for others."""
    told = Told(Endpoint(IPv6Address("::1"), 1), Endpoint(IPv6Address("::1"), 2), V6.client)
    assert ingress.feed(framed(uoa.build_opp(told))).counted == {"opp_learnt": 1, "flows_new": 1}


@pytest.mark.parametrize("vector", [*IPO, *OPP])
def test_what_is_wrong_is_told_wherever_it_was_sent(ingress: Ingress, vector: UoaVector) -> None:
    frame = framed(vector.packet, at(FRAME, dst=ELSEWHERE["broadcast"]))
    outcome = ingress.feed(frame)
    assert outcome == expected(frame)
    if vector.expected.verdict is Verdict.FOUND:
        (name,) = outcome.counted
        assert name.endswith("_host")


def test_three_vlan_tags(ingress: Ingress) -> None:
    assert ingress.feed(framed(uoa.build_ipo(V4), tagged(FRAME, Dot1Q(), Dot1Q(), Dot1Q()))) == Outcome()
