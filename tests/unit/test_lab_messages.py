"""Messages between a test and the director come out of JSON as they went in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ipvsca.address import Endpoint
from tests.lab import addresses as a
from tests.lab.messages import (
    Announce,
    Connection,
    Position,
    Protocol,
    Service,
    Settings,
    Toa,
    Uoa,
    UoaMode,
    Where,
    encode,
)
from tests.lab.states import State

SERVER = Endpoint(a.RIPS_V4[0], 8000)
PLAIN = Service(Endpoint(a.VIP_V4, 80), (SERVER,))
SPECIAL = Service(
    vip=Endpoint(a.VIP_V6, 443),
    real_servers=(Endpoint(a.RIPS_V6[0], 1), Endpoint(a.RIPS_V4[1], 2)),
    toa=Toa(Where.BOTH, 200, Position.LAST, raw=b"\xfe\x01", padding=0),
    local_addresses=(a.LIPS_V6[1], a.LIPS_V4[1]),
    local_ports=(7000, 7001),
    lose_final_ack=True,
    protocol=Protocol.UDP,
    announce=Announce(every=3, kind=254, little_endian=False),
    uoa=Uoa(UoaMode.IPO, datagrams=1, mtu=9000, always_by_carrier=True),
)


@pytest.mark.parametrize(
    "settings",
    [Settings(), Settings((PLAIN, SPECIAL), {State.CLOSE: 0.5}, max_connections=3)],
    ids=["as they come", "all changed"],
)
def test_settings_survive_json(settings: Settings) -> None:
    line = encode(settings)
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    assert Settings.from_json(json.loads(line)) == settings


def test_a_connection_survives_json() -> None:
    connection = Connection(
        Protocol.UDP, Endpoint(a.CLIENTS_V6[0], 1), SPECIAL.vip, Endpoint(a.LIPS_V4[0], 2), SERVER, State.FIN_WAIT
    )
    assert Connection.from_json(json.loads(encode(connection))) == connection


@pytest.mark.parametrize(
    "wrong",
    [
        {"real_servers": ()},
        {"local_addresses": ()},
        {"local_addresses": a.LIPS_V6},
        {"local_ports": (0, 5)},
        {"local_ports": (6, 5)},
        {"local_ports": (5, 65536)},
    ],
    ids=str,
)
def test_an_impossible_service_cannot_be_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="local"):
        replace(PLAIN, **wrong)


def test_an_announcement_every_minus_first_time_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="every -1th"):
        Announce(every=-1)
