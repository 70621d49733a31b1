"""Applications see the exact client, over every way a director tells it; other connections are as without ipvsca."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from ipvsca.address import Endpoint
from ipvsca.dataplane import DataPlane
from ipvsca.wire.toa import END_OF_LIST, KIND_DPVS, KIND_LVS, NO_OPERATION, build
from tests.apps.catalogue import App, app
from tests.e2e.needs import without_tcp_ao
from tests.e2e.traffic import (
    CLIENTS_AT_ONCE,
    DUAL_V4,
    IPV4,
    NAT64,
    NAT64_ON_IPV4,
    Traffic,
    Way,
    assert_restored,
    assert_untouched,
    every_app,
    every_way,
    own_address,
)
from tests.lab import addresses as a
from tests.lab.messages import Position, Toa, Where
from tests.lab.namespace import Namespace
from tests.rig import Ipvsca

TOLD = (Where.SYN, Where.ACK, Where.BOTH)
KINDS = (KIND_LVS, KIND_DPVS)
ACCEPT = app("c-accept")

every_place = pytest.mark.parametrize("where", TOLD, ids=str)


@pytest.fixture(scope="module", autouse=True)
def _loaded(ipvsca: Ipvsca) -> Iterator[None]:
    with ipvsca.loaded():
        yield


@contextmanager
def sysctl(namespace: Namespace, **values: int) -> Iterator[None]:
    """net.ipv4 settings of a namespace, put back afterwards."""
    keys = [f"net.ipv4.{name}" for name in values]
    before = namespace.run(["sysctl", "-n", *keys]).stdout.split()
    set_all = ["sysctl", "-q", "-w"]
    namespace.run([*set_all, *(f"{key}={value}" for key, value in zip(keys, values.values(), strict=True))])
    try:
        yield
    finally:
        namespace.run([*set_all, *(f"{key}={value}" for key, value in zip(keys, before, strict=True))])


def restored(where: Where, connections: int = CLIENTS_AT_ONCE) -> dict[str, int]:
    """What is counted; where both segments carry the option, the first one decides."""
    return {f"tcp_restored_{'ack' if where is Where.ACK else 'syn'}": connections, "tcp_no_client": 0}


@every_app
@every_way
def test_every_application_sees_its_client(traffic: Traffic, ipvsca: Ipvsca, app: App, way: Way) -> None:
    with traffic.serving(app, way):
        for kind in KINDS:
            for where in TOLD:
                traffic.direct(way, Toa(where, kind))
                with ipvsca.counted(**restored(where)):
                    assert_restored(traffic.ask(app, way), app, way)


@every_app
@every_way
def test_without_an_option_nothing_changes(traffic: Traffic, ipvsca: Ipvsca, app: App, way: Way) -> None:
    with traffic.serving(app, way):
        traffic.direct(way, Toa(Where.NONE))
        with ipvsca.counted(tcp_no_client=2 * CLIENTS_AT_ONCE, getpeername_restored=0):
            assert_untouched(traffic.ask(app, way), app, way)
            assert_untouched(traffic.ask_without_director(app, way), app, way)


@every_place
@pytest.mark.parametrize("position", Position)
def test_the_option_may_stand_first_or_last(traffic: Traffic, where: Where, position: Position) -> None:
    with traffic.serving(ACCEPT, IPV4):
        traffic.direct(IPV4, Toa(where, position=position))
        assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)


@every_way
@every_place
def test_syn_cookies(traffic: Traffic, ipvsca: Ipvsca, way: Way, where: Where) -> None:
    """The kernel keeps nothing of the SYN and makes the connection from the ACK alone."""
    with sysctl(traffic.lab.server, tcp_syncookies=2), traffic.serving(ACCEPT, way), ipvsca.counted(**restored(where)):
        traffic.direct(way, Toa(where))
        assert_restored(traffic.ask(ACCEPT, way), ACCEPT, way)


@every_way
@every_place
def test_the_first_data_ends_the_handshake(traffic: Traffic, ipvsca: Ipvsca, way: Way, where: Where) -> None:
    with traffic.serving(ACCEPT, way), ipvsca.counted(**restored(where)):
        traffic.direct(way, Toa(where), lose_final_ack=True)
        assert_restored(traffic.ask(ACCEPT, way), ACCEPT, way)


@pytest.mark.parametrize("name", ["c-fork", "c-reuseport", "nginx"])
@every_place
def test_several_processes_share_a_port(traffic: Traffic, name: str, where: Where) -> None:
    with traffic.serving(app(name), IPV4, "--workers", "4"):
        traffic.direct(IPV4, Toa(where))
        for _ in range(4):
            assert_restored(traffic.ask(app(name), IPV4), app(name), IPV4)


def test_an_ipv6_client_cannot_be_shown_on_an_ipv4_socket(traffic: Traffic, ipvsca: Ipvsca) -> None:
    way = NAT64_ON_IPV4
    with traffic.serving(ACCEPT, way):
        for where in TOLD:
            traffic.direct(way, Toa(where))
            calls = 2 * CLIENTS_AT_ONCE  # accept and getpeername
            with ipvsca.counted(**restored(where), getpeername_unshowable=calls, getpeername_restored=0):
                assert_untouched(traffic.ask(ACCEPT, way), ACCEPT, way)


def test_a_client_is_told_by_one_kind_only(traffic: Traffic, ipvsca: Ipvsca) -> None:
    with traffic.serving(ACCEPT, IPV4), ipvsca.having("tcpopt_addr", str(KIND_LVS)):
        for where in TOLD:
            traffic.direct(IPV4, Toa(where, KIND_DPVS))
            assert_untouched(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)
            traffic.direct(IPV4, Toa(where, KIND_LVS))
            assert_restored(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)


@every_way
@every_place
def test_only_trusted_directors_are_believed(traffic: Traffic, ipvsca: Ipvsca, way: Way, where: Where) -> None:
    segments = {"syn": where is not Where.ACK, "ack": where is not Where.SYN}
    refused = {f"refused_{name}_untrusted": CLIENTS_AT_ONCE for name, carries in segments.items() if carries}
    with (
        traffic.serving(ACCEPT, way),
        ipvsca.having("trusted", "192.0.2.0/24"),
        ipvsca.counted(**refused, tcp_no_client=CLIENTS_AT_ONCE),
    ):
        traffic.direct(way, Toa(where))
        assert_untouched(traffic.ask(ACCEPT, way), ACCEPT, way)


FORGED = build(Endpoint.of("192.0.2.66", 666))
LATER = build(Endpoint.of("192.0.2.77", 777))

MALFORMED = {
    "length 0": ("fe00", "malformed"),
    "length 1": ("fe01", "malformed"),
    "length 7": ("fe07029ac00002", "length"),
    "length 9": ("fe09029ac000024201", "length"),
    "length 255": pytest.param("feff029ac0000242", "malformed", marks=without_tcp_ao),
    "cut by the header's end": ("fe08029a", "malformed"),
    "IPv6, cut by the header's end": pytest.param("fe14029a20010db8", "malformed", marks=without_tcp_ao),
    "port 0": ("fe080000c0000242", "client"),
    "loopback": ("fe08029a7f000001", "client"),
    "IPv6, loopback in IPv4 clothes": ("fe14029a00000000000000000000ffff7f000001", "client"),
    "behind the end of the options": (f"00{FORGED.hex()}", None),
    "another kind": ("fd08029ac0000242", None),
}


@pytest.mark.parametrize("where", TOLD, ids=str)
@pytest.mark.parametrize(("raw", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_option_is_counted_and_changes_nothing(
    traffic: Traffic, ipvsca: Ipvsca, where: Where, raw: str, reason: str | None
) -> None:
    segments = {"syn": where is not Where.ACK, "ack": where is not Where.SYN}
    refused = {f"refused_{name}_{reason}": CLIENTS_AT_ONCE for name, carries in segments.items() if carries and reason}
    with traffic.serving(ACCEPT, IPV4), ipvsca.counted(**refused, tcp_no_client=CLIENTS_AT_ONCE):
        traffic.direct(IPV4, Toa(where, position=Position.LAST, raw=bytes.fromhex(raw)))
        assert_untouched(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)


@every_place
def test_of_two_options_the_first_counts(traffic: Traffic, where: Where) -> None:
    with traffic.serving(ACCEPT, IPV4):
        traffic.direct(IPV4, Toa(where, position=Position.LAST, raw=FORGED + LATER))
        expected = ACCEPT.sees(Endpoint.of("192.0.2.66", 666))
        assert [answer.seen for answer in traffic.ask(ACCEPT, IPV4)] == [expected] * CLIENTS_AT_ONCE


@pytest.mark.parametrize("nops", [0, 1, 31, 32, 38])
def test_any_number_of_nops_may_come_first(traffic: Traffic, ipvsca: Ipvsca, nops: int) -> None:
    """With no options of the client's own in the ACK, the header has room for 40 bytes."""
    raw = (bytes([NO_OPERATION] * nops) + FORGED)[:40]
    cut = len(raw) < nops + len(FORGED)
    bare = {"tcp_timestamps": 0, "tcp_sack": 0, "tcp_window_scaling": 0}
    with sysctl(traffic.lab.client, **bare), traffic.serving(ACCEPT, IPV4):
        traffic.direct(IPV4, Toa(Where.ACK, position=Position.LAST, raw=raw, padding=END_OF_LIST))
        with ipvsca.counted(refused_ack_malformed=CLIENTS_AT_ONCE if cut else 0):
            answers = traffic.ask(ACCEPT, IPV4)
    if cut:
        assert_untouched(answers, ACCEPT, IPV4)
    else:
        assert {answer.seen for answer in answers} == {ACCEPT.sees(Endpoint.of("192.0.2.66", 666))}


def test_a_syn_alone_restores_nothing(traffic: Traffic, ipvsca: Ipvsca) -> None:
    """The option is kept while nobody listens; the connection that comes after it, on the same ports, has none."""
    traffic.direct(IPV4, Toa(Where.SYN))
    with ipvsca.counted(syn_learnt=1), pytest.raises(ConnectionRefusedError):
        traffic.connect(Endpoint(a.VIP_V4, 80), a.CLIENTS_V4[0])
    with traffic.serving(ACCEPT, IPV4), ipvsca.counted(tcp_no_client=CLIENTS_AT_ONCE):
        traffic.direct(IPV4, Toa(Where.NONE))
        assert_untouched(traffic.ask(ACCEPT, IPV4), ACCEPT, IPV4)


@every_place
def test_nothing_of_a_handshake_stays_when_it_has_ended(traffic: Traffic, ipvsca: Ipvsca, where: Where) -> None:
    with traffic.serving(ACCEPT, IPV4), DataPlane(ipvsca.pin_path) as plane:
        before = {bytes(handshake) for handshake, _ in plane.handshakes()}
        traffic.direct(IPV4, Toa(where))
        traffic.ask(ACCEPT, IPV4)
        assert {bytes(handshake) for handshake, _ in plane.handshakes()} <= before


def test_list_shows_who_is_behind_whom(traffic: Traffic, ipvsca: Ipvsca) -> None:
    with traffic.serving(ACCEPT, DUAL_V4), ExitStack() as connections:
        expected = []
        for way, where in ((DUAL_V4, Where.ACK), (NAT64, Where.SYN)):
            traffic.direct(way, Toa(where))
            client = connections.enter_context(traffic.connect(Endpoint(way.vip, 80), way.sources[0]))
            known = traffic.director.connection(own_address(client))
            expected.append(
                {
                    "proto": "tcp",
                    "client": str(known.client),
                    "director": str(known.local),
                    "server": str(known.real),
                    "learnt_from": str(where),
                    "state": "established",
                    "idle_seconds": None,
                    "left_seconds": None,
                }
            )
        listed = [row for row in ipvsca.json("list") if row.pop("age_seconds") < 60 and row["state"] == "established"]
        assert sorted(listed, key=str) == sorted(expected, key=str)
        filtered = json.loads(ipvsca.run("list", "--json", "--client", "2001:db8:c::/64").stdout)
        assert [row["client"] for row in filtered if row["state"] == "established"] == [expected[1]["client"]]
        assert expected[0]["client"] in ipvsca.run("list").stdout
