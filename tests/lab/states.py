"""The states that IPVS gives a connection, and how long each lasts."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """As IPVS names them. All but UDP are TCP's."""

    SYN_RECV = "syn_recv"
    ESTABLISHED = "established"
    FIN_WAIT = "fin_wait"
    TIME_WAIT = "time_wait"
    CLOSE = "close"
    CLOSE_WAIT = "close_wait"
    UDP = "udp"


TIMEOUTS: Mapping[State, float] = {
    State.SYN_RECV: 60.0,
    State.ESTABLISHED: 900.0,
    State.FIN_WAIT: 120.0,
    State.TIME_WAIT: 120.0,
    State.CLOSE: 10.0,
    State.CLOSE_WAIT: 60.0,
    State.UDP: 300.0,
}
"""Seconds without a packet after which a connection is forgotten."""
