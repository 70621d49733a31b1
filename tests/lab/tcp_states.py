"""What leads from one state of a TCP connection to the next.

The tables are those of Linux's ip_vs_proto_tcp.c and of DPVS for a director that sees both directions. Their
LAST_ACK and SYN_SENT are left out: no packet leads there when only a client's SYN makes a connection.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.lab import tcp
from tests.lab.states import State

TCP_STATES = tuple(state for state in State if state is not State.UDP)

SR, ES, FW, TW, CL, CW = TCP_STATES

Transitions = Mapping[State, State]
"""From one state to the next; a state that is missing stays."""

# Rows in the order in which IPVS looks at the flags: the first that is set decides.
BY_CLIENT: Mapping[int, Transitions] = {
    tcp.RST: {ES: CL, FW: CL, TW: CL, CW: CL},
    tcp.FIN: {SR: TW, ES: CW, FW: TW},
    tcp.ACK: {SR: ES},
}
BY_SERVER: Mapping[int, Transitions] = {
    tcp.RST: {SR: CL, ES: CL, FW: CL, CW: CL},
    tcp.FIN: {SR: TW, ES: FW, CW: TW},
}

REUSABLE = frozenset({FW, TW, CL, CW})
"""States in which a client's SYN is a new connection and no retransmission."""


def after(state: State, rows: Mapping[int, Transitions], flags: int) -> State:
    """The state after a segment with these TCP flags; `rows` is BY_CLIENT or BY_SERVER."""
    for flag, transitions in rows.items():
        if flags & flag:
            return transitions.get(state, state)
    return state
