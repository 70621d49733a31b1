"""`list --count` does not go through what `list` prints: both are of the same entries."""

from __future__ import annotations

import json
import time
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from ipvsca import cli
from ipvsca.address import Endpoint
from ipvsca.dataplane import NANOSECONDS, DataPlane
from ipvsca.settings import DEFAULTS
from ipvsca.wire.internet import PROTOCOL_TCP, PROTOCOL_UDP
from tests.bpf import flows
from tests.bpf.flows import AMBIGUOUS, Key, Told

LIP, OTHER_LIP, LIP_V6 = IPv4Address("10.90.0.2"), IPv4Address("10.91.0.2"), IPv6Address("fd00:90::2")
CLIENT, OTHER_CLIENT = Endpoint(IPv4Address("198.51.100.7"), 1), Endpoint(IPv6Address("2001:db8::7"), 1)
DEAD = DEFAULTS.udp_timeout + 1
DEAD_AS_TCP = (DEFAULTS.tcp_timeout + DEFAULTS.udp_timeout) // 2

ENTRIES = [
    (PROTOCOL_UDP, LIP, CLIENT, 0),
    (PROTOCOL_TCP, LIP, CLIENT, 0),
    (PROTOCOL_UDP, OTHER_LIP, CLIENT, DEAD_AS_TCP),
    (PROTOCOL_UDP, LIP_V6, OTHER_CLIENT, 1),
    (PROTOCOL_UDP, LIP, CLIENT, DEAD),
    (PROTOCOL_TCP, LIP, CLIENT, DEAD_AS_TCP),
    (PROTOCOL_UDP, LIP, None, 0),
]
"""Protocol, LIP, client (None: an entry that only leads to others), and how many seconds ago it was used."""


@pytest.fixture
def known(plane: DataPlane) -> None:
    flows.forget(plane)
    plane.forget_handshakes(2**63)
    now_ns = time.monotonic_ns()
    for lport, (protocol, lip, client, age) in enumerate(ENTRIES, 1):
        key = Key(protocol, Endpoint(lip, lport), 53)
        told = Told(client, IPv4Address("10.80.0.10")) if client else AMBIGUOUS
        plane.table("flows").put(flows.packed(key), flows.learnt(key, told, now_ns - age * NANOSECONDS))


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("options", "number"),
    [
        ("", 4),
        ("--proto udp", 3),
        ("--proto tcp", 1),
        ("--client 198.51.100.7", 3),
        ("--client ::/0", 1),
        ("--director 10.90.0.0/24", 2),
        ("--director 10.90.0.0/15", 3),
        ("--director ::/0", 1),
        ("--director fd00::/16 --proto tcp", 0),
        ("--limit 2", 2),
        ("--limit 0", 0),
        ("--limit 9", 4),
    ],
)
def test_as_many_as_are_listed(
    pins: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, number: int
) -> None:
    config = tmp_path / "ipvsca.toml"
    config.write_text(f'pin_path = "{pins}"\n')

    def listed(how: str) -> str:
        assert cli.main(["list", "--config", str(config), how, *options.split()]) == 0
        return capsys.readouterr().out

    assert len(json.loads(listed("--json"))) == number
    assert listed("--count") == f"{number}\n"
