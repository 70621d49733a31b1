"""What is open through each director: flows are counted by LIP, each once. And whom to trust, going by who was seen."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from ipvsca.directors import _MANY, _flows, _ways_back, narrowed
from ipvsca.kernel import layout
from ipvsca.settings import DEFAULTS


class Plane:
    """Has a table of flows, given in two batches."""

    def __init__(self, *flows: tuple[str, bool]) -> None:
        self._batches = (flows[:2], flows[2:])

    def table(self, name: str) -> Any:
        assert name == "flows"
        return self

    def batches(self) -> Iterator[tuple[bytes, bytes]]:
        for batch in self._batches:
            keys = (layout.FlowKey(lip=layout.PackedAddress.of(ip_address(lip))) for lip, _ in batch)
            values = (layout.Learnt(client=layout.Client(is_ambiguous=is_ambiguous)) for _, is_ambiguous in batch)
            yield b"".join(map(bytes, keys)), b"".join(map(bytes, values))


def test_flows_by_director() -> None:
    plane: Any = Plane(("10.0.0.1", False), ("fd00::1", False), ("10.0.0.1", False), ("10.0.0.2", False))
    assert _flows(plane) == {ip_address("10.0.0.1"): 2, ip_address("fd00::1"): 1, ip_address("10.0.0.2"): 1}


def test_an_entry_that_leads_to_others_is_no_flow() -> None:
    plane: Any = Plane(("10.0.0.1", True), ("10.0.0.1", False), ("10.0.0.1", False), ("10.0.0.2", True))
    assert _flows(plane) == {ip_address("10.0.0.1"): 2}


def test_no_flows() -> None:
    plane: Any = Plane()
    assert _flows(plane) == {}


class Ways:
    """Has tables of ways back, with two batches each."""

    def __init__(self, **lips: str) -> None:
        self._values = {name: [self._value(name, lip) for lip in listed.split()] for name, listed in lips.items()}

    def table(self, name: str) -> Any:
        return SimpleNamespace(
            batches=lambda: [(b"", b"".join(part)) for part in (self._values[name][:3], self._values[name][3:])]
        )

    def _value(self, name: str, lip: str) -> bytes:
        end = layout.PackedEndpoint(address=layout.PackedAddress.of(ip_address(lip)), port=1024)
        return bytes(end if name == "replies" else layout.Director(local=end))


def test_ways_back_tell_every_director() -> None:
    plane: Any = Ways(replies="10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.1", connects="fd00::1 fd00::2 :: fd00::3 fd00::4")
    expected = "10.0.0.1 10.0.0.2 10.0.0.3 fd00::1 fd00::2 fd00::3 fd00::4"
    assert _ways_back(plane) == set(map(ip_address, expected.split()))


MANY = " ".join(f"10.90.0.{host}" for host in range(1, _MANY + 2))
DEFAULT = " ".join(map(str, DEFAULTS.trusted))


@pytest.mark.parametrize(
    ("trusted", "lips", "proposed"),
    [
        (DEFAULT, "10.90.0.2 10.90.0.3", "10.90.0.2/32 10.90.0.3/32"),
        (DEFAULT, "fd00:90::2 10.90.0.2", "10.90.0.2/32 fd00:90::2/128"),
        (DEFAULT, "127.0.0.1 ::1", "127.0.0.1/32 ::1/128"),
        (DEFAULT, MANY, "10.90.0.0/24"),
        (DEFAULT, f"{MANY} 10.91.0.2", "10.90.0.0/24 10.91.0.2/32"),
        (DEFAULT, " ".join(f"fd00::{host}" for host in range(1, _MANY + 2)), "fd00::/64"),
        (DEFAULT, " ".join(f"10.{net}.0.2" for net in range(3)), "10.0.0.2/32 10.1.0.2/32 10.2.0.2/32"),
        ("10.0.0.0/8 10.90.0.0/24", "10.90.0.2 10.91.0.2", "10.90.0.0/24 10.91.0.2/32"),
        ("10.0.0.0/8 10.90.0.0/24", "10.90.0.2", "10.90.0.0/24"),
        ("10.0.0.0/8 192.168.7.0/24", "10.90.0.2", "10.90.0.2/32 192.168.7.0/24"),
        ("::/0 10.90.0.0/23", "10.90.0.2", "10.90.0.2/32"),
        ("0.0.0.0/0 ::/0", "fd00::7 203.0.113.9", "203.0.113.9/32 fd00::7/128"),
    ],
)
def test_a_narrower_trust(trusted: str, lips: str, proposed: str) -> None:
    """Everybody who was seen stays trusted, as does what somebody has named narrowly."""
    networks = [ip_network(each) for each in trusted.split()]
    seen = [ip_address(each) for each in lips.split()]
    found = narrowed(networks, seen)
    assert found is not None
    assert " ".join(map(str, found)) == proposed
    assert all(any(lip in network for network in found) for lip in seen)
    assert all(any(subset(narrow, wide) for wide in networks) for narrow in found)


def subset(narrow: Any, wide: Any) -> bool:
    return bool(narrow.version == wide.version and narrow.subnet_of(wide))


@pytest.mark.parametrize(
    ("trusted", "lips"),
    [
        (DEFAULT, ""),
        (DEFAULT, "203.0.113.9"),
        ("10.90.0.2/32 10.90.0.3/32", "10.90.0.2"),
        ("10.90.0.0/24 fd00::/64", "10.90.0.2"),
        ("10.0.0.0/8 10.90.0.0/24", ""),
    ],
    ids=["nobody seen", "seen when trusted was another", "one is idle", "as a pool", "nobody seen, narrow or not"],
)
def test_nothing_to_propose(trusted: str, lips: str) -> None:
    assert narrowed([ip_network(each) for each in trusted.split()], map(ip_address, lips.split())) is None
