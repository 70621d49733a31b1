"""Settings take effect with the next packet: whom the programs believe, and which options they look for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from ipvsca.dataplane import DataPlane
from ipvsca.kernel import layout
from ipvsca.kernel.maps import ONLY
from ipvsca.kernel.programs import INGRESS_ETHERNET, Program
from ipvsca.settings import DEFAULTS, Network, SegmentsWithOption
from ipvsca.wire import toa
from tests.bpf.ingress import Ingress, Outcome
from tests.bpf.packets import CLIENT_V4, DIRECTOR_V4, FRAME, V4, syn_v4, syn_v6

BELIEVED = {"syn_learnt": 1}
NOT_BELIEVED = {"refused_syn_untrusted": 1}


@pytest.fixture
def ingress(programs: Mapping[Program, int], plane: DataPlane) -> Ingress:
    return Ingress(programs[INGRESS_ETHERNET], plane)


def networks(*prefixes: str) -> tuple[Network, ...]:
    return tuple(ip_network(prefix) for prefix in prefixes)


def syn_from(source: str) -> Packet:
    if ":" in source:
        return FRAME / IPv6(src=source, dst="fd00:80::10") / syn_v6()
    return FRAME / IP(src=source, dst="10.80.0.10") / syn_v4()


@dataclass(frozen=True)
class Case:
    sentence: str
    trusted: tuple[str, ...]
    believed: tuple[str, ...]
    not_believed: tuple[str, ...]


TRUST = [
    Case("one IPv4 address", ("10.1.2.3/32",), ("10.1.2.3",), ("10.1.2.2", "10.1.2.4", "11.1.2.3", "fd00::1")),
    Case("an IPv4 prefix", ("10.1.2.0/23",), ("10.1.2.0", "10.1.3.255"), ("10.1.1.255", "10.1.4.0", "138.1.2.0")),
    Case("an IPv4 prefix of one bit", ("128.0.0.0/1",), ("128.0.0.0", "203.0.113.1"), ("127.255.255.255",)),
    Case("all of IPv4, nothing of IPv6", ("0.0.0.0/0",), ("8.8.8.8", "10.0.0.1"), ("fd00::1", "2001:db8::1", "::2")),
    Case("one IPv6 address", ("fd00::1/128",), ("fd00::1",), ("fd00::", "fd00::2", "7d00::1", "10.0.0.1")),
    Case(
        "an IPv6 prefix", ("fd00:0:0:8::/62",), ("fd00:0:0:8::", "fd00:0:0:b:ffff::"), ("fd00:0:0:7::", "fd00:0:0:c::")
    ),
    Case("all of IPv6, nothing of IPv4", ("::/0",), ("2001:db8::1", "::2"), ("10.0.0.1", "203.0.113.1")),
    Case("IPv6 around the v4-mapped prefix", ("::/64",), ("::2", "::1:2:3:4"), ("10.0.0.1", "0:0:0:1::")),
    Case("all of both", ("0.0.0.0/0", "::/0"), ("10.0.0.1", "2001:db8::1"), ()),
    Case("all of IPv6, and one IPv4 prefix", ("::/0", "10.0.0.0/8"), ("fd00::1", "10.255.255.255"), ("9.255.255.255",)),
    Case("a prefix inside another", ("10.0.0.0/8", "10.1.0.0/16"), ("10.1.2.3", "10.2.3.4"), ("11.0.0.1",)),
    Case("many prefixes", tuple(f"10.{n}.0.0/16" for n in range(0, 256, 2)), ("10.0.0.1", "10.254.0.1"), ("10.1.0.1",)),
]


@pytest.mark.parametrize("case", TRUST, ids=lambda case: case.sentence)
def test_trust(ingress: Ingress, plane: DataPlane, case: Case) -> None:
    plane.apply(replace(DEFAULTS, trusted=networks(*case.trusted)))
    assert set(plane.settings().trusted) == set(networks(*case.trusted))
    for source in case.believed:
        assert ingress.feed(syn_from(source)).counted == BELIEVED, source
    for source in case.not_believed:
        assert ingress.feed(syn_from(source)) == Outcome({}, NOT_BELIEVED), source


def test_another_set_of_prefixes_replaces_the_first(ingress: Ingress, plane: DataPlane) -> None:
    plane.apply(replace(DEFAULTS, trusted=networks("10.1.0.0/16", "10.2.0.0/16", "fd00::/8")))
    plane.apply(replace(DEFAULTS, trusted=networks("10.2.0.0/16", "10.3.0.0/16")))
    for source in ("10.2.0.1", "10.3.0.1"):
        assert ingress.feed(syn_from(source)).counted == BELIEVED, source
    for source in ("10.1.0.1", "fd00::1"):
        assert ingress.feed(syn_from(source)).counted == NOT_BELIEVED, source


def test_all_of_ipv4_can_be_trusted_and_no_longer(ingress: Ingress, plane: DataPlane) -> None:
    """It has an entry of its own in the table, either way."""
    plane.apply(replace(DEFAULTS, trusted=networks("0.0.0.0/0")))
    plane.apply(replace(DEFAULTS, trusted=networks("::/0")))
    assert ingress.feed(syn_from("10.0.0.1")).counted == NOT_BELIEVED


@pytest.mark.parametrize(
    "kinds",
    [(200,), (254,), (77,), (9,), (255,), (200, 254), (64, 127, 128, 191), tuple(range(35, 256))],
    ids=lambda kinds: f"{kinds[0]} to {kinds[-1]}" if len(kinds) > 4 else str(kinds),
)
def test_kinds(ingress: Ingress, plane: DataPlane, kinds: tuple[int, ...]) -> None:
    plane.apply(replace(DEFAULTS, tcpopt_addr=kinds))
    assert plane.settings().tcpopt_addr == kinds
    for kind in (9, 64, 77, 127, 128, 191, 200, 253, 254, 255):
        outcome = ingress.feed(FRAME / V4 / syn_v4(toa.build(CLIENT_V4, kind)))
        assert list(outcome.learnt.values()) == [CLIENT_V4] * (kind in kinds), kind
        assert outcome.counted == (BELIEVED if kind in kinds else {}), kind


@pytest.mark.parametrize("segments", SegmentsWithOption)
def test_segments(ingress: Ingress, plane: DataPlane, segments: SegmentsWithOption) -> None:
    plane.apply(replace(DEFAULTS, tcpopt_in=segments))
    assert plane.settings().tcpopt_in is segments
    outcome = ingress.feed(syn_from(str(DIRECTOR_V4.address)), syn_from("198.51.100.7"))
    assert outcome.counted == (BELIEVED | NOT_BELIEVED if segments.syn else {})
    assert bool(outcome.learnt) == segments.syn


def test_nothing_is_learnt_before_there_are_settings(ingress: Ingress, plane: DataPlane) -> None:
    plane.table("settings").put(ONLY, layout.Settings())
    assert ingress.feed(syn_from(str(DIRECTOR_V4.address))) == Outcome()


def test_nobody_is_trusted_before_there_are_settings(ingress: Ingress, plane: DataPlane) -> None:
    for prefix in list(plane.table("trusted").keys()):
        plane.table("trusted").remove(prefix)
    assert ingress.feed(syn_from(str(DIRECTOR_V4.address))) == Outcome({}, NOT_BELIEVED)
