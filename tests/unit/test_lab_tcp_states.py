"""The lives that IPVS gives a TCP connection, told as conversations."""

from __future__ import annotations

import pytest

from tests.lab.states import TIMEOUTS, State
from tests.lab.tcp import ACK, FIN, RST, SYN
from tests.lab.tcp_states import BY_CLIENT, BY_SERVER, REUSABLE, TCP_STATES, after

BY = {"client": BY_CLIENT, "server": BY_SERVER}
HANDSHAKE = [("client", SYN), ("server", SYN | ACK), ("client", ACK)]


@pytest.mark.parametrize(
    ("conversation", "state"),
    [
        pytest.param([("client", SYN)], State.SYN_RECV, id="a SYN"),
        pytest.param([("client", SYN), ("client", SYN)], State.SYN_RECV, id="a SYN sent again"),
        pytest.param(HANDSHAKE[:2], State.SYN_RECV, id="a handshake that lacks its ACK"),
        pytest.param([*HANDSHAKE[:2], ("client", RST)], State.SYN_RECV, id="given up by the client"),
        pytest.param([("client", SYN), ("server", RST | ACK)], State.CLOSE, id="refused by the server"),
        pytest.param(HANDSHAKE, State.ESTABLISHED, id="a handshake"),
        pytest.param([*HANDSHAKE, ("server", ACK), ("client", ACK)], State.ESTABLISHED, id="data"),
        pytest.param([*HANDSHAKE, ("client", FIN | ACK)], State.CLOSE_WAIT, id="closed by the client"),
        pytest.param([*HANDSHAKE, ("client", FIN), ("server", ACK)], State.CLOSE_WAIT, id="half-closed by the client"),
        pytest.param([*HANDSHAKE, ("client", FIN), ("server", FIN)], State.TIME_WAIT, id="closed, the client first"),
        pytest.param([*HANDSHAKE, ("server", FIN | ACK)], State.FIN_WAIT, id="closed by the server"),
        pytest.param([*HANDSHAKE, ("server", FIN), ("client", ACK)], State.FIN_WAIT, id="half-closed by the server"),
        pytest.param([*HANDSHAKE, ("server", FIN), ("client", FIN)], State.TIME_WAIT, id="closed, the server first"),
        pytest.param([*HANDSHAKE, ("client", RST)], State.CLOSE, id="reset by the client"),
        pytest.param([*HANDSHAKE, ("server", RST | ACK)], State.CLOSE, id="reset by the server"),
        pytest.param([*HANDSHAKE, ("server", FIN), ("client", RST)], State.CLOSE, id="reset after the server's FIN"),
        pytest.param([*HANDSHAKE, ("client", RST | FIN)], State.CLOSE, id="RST outweighs FIN"),
        pytest.param([*HANDSHAKE[:2], ("client", FIN | ACK)], State.TIME_WAIT, id="FIN outweighs ACK"),
    ],
)
def test_a_conversation_leads_to_a_state(conversation: list[tuple[str, int]], state: State) -> None:
    now = State.SYN_RECV
    for who, flags in conversation:
        now = after(now, BY[who], flags)
    assert now is state


def test_every_state_has_ipvs_timeout_in_seconds() -> None:
    assert TIMEOUTS == {
        "syn_recv": 60,
        "established": 900,
        "fin_wait": 120,
        "time_wait": 120,
        "close": 10,
        "close_wait": 60,
        "udp": 300,
    }
    assert set(TIMEOUTS) == set(State)


def test_a_syn_is_a_retransmission_only_while_the_connection_is_open() -> None:
    assert set(TCP_STATES) - REUSABLE == {State.SYN_RECV, State.ESTABLISHED}
