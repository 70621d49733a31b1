"""Established TCP sockets and the client kept in each, asked of the kernel by sock_diag(7): what `ss --bpf-maps` does.

Requests and answers are those of linux/inet_diag.h and linux/sock_diag.h; numbers are in host byte order but for ports
and addresses. Only sockets of the network namespace we are in are told.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ipvsca.address import Address, Endpoint, from_mapped
from ipvsca.errors import Problem
from ipvsca.kernel import layout
from ipvsca.kernel.netlink import NESTED, Netlink, attribute, find

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20

_REQUEST = struct.Struct("=BBBxI48x")  # family, protocol, extensions, states, socket (any)
_ANSWER = struct.Struct("=BBBB2s2s16s16s12x20x")  # family, state, -, -, sport, dport, source, destination, ...

_REQUEST_STORAGES = 2  # INET_DIAG_REQ_SK_BPF_STORAGES
_REQUEST_MAP_FD = 1  # SK_DIAG_BPF_STORAGE_REQ_MAP_FD
_STORAGES = 20  # INET_DIAG_SK_BPF_STORAGES
_STORAGE = 1  # SK_DIAG_BPF_STORAGE
_VALUE = 3  # SK_DIAG_BPF_STORAGE_MAP_VALUE

# TCP states of a connection that an application can have: not LISTEN, SYN_SENT, SYN_RECV, TIME_WAIT, CLOSE.
_STATES = {1: "established", 4: "fin_wait1", 5: "fin_wait2", 8: "close_wait", 9: "last_ack", 11: "closing"}


@dataclass(frozen=True)
class Connection:
    """A TCP connection whose client is known. `director` is LIP:lport, `server` RIP:rport."""

    client: Endpoint
    director: Endpoint
    server: Endpoint
    state: str
    learnt_from: layout.LearntFrom
    learnt_ns: int  # CLOCK_MONOTONIC


def restored_connections(clients_fd: int) -> Iterator[Connection]:
    """Every connection that has an entry in the socket storage `clients` (its descriptor). Raises Problem."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for message in _dump(family, clients_fd):
            connection = _connection(message)
            if connection:
                yield connection


def _dump(family: int, clients_fd: int) -> Iterator[bytes]:
    states = sum(1 << state for state in _STATES)
    map_fd = attribute(_REQUEST_MAP_FD, struct.pack("=I", clients_fd))
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, states) + attribute(_REQUEST_STORAGES | NESTED, map_fd)
    with Netlink(_NETLINK_SOCK_DIAG) as netlink:
        try:
            yield from netlink.dump(_SOCK_DIAG_BY_FAMILY, request)
        except OSError as error:
            raise _refused(error) from error


def _refused(error: OSError) -> Problem:
    if error.errno == errno.EPERM:
        return Problem("the kernel does not list sockets to us: run as root (sudo)")
    return Problem(
        f"the kernel cannot list sockets ({error.strerror}): it needs CONFIG_INET_DIAG and CONFIG_INET_TCP_DIAG"
    )


def _connection(message: bytes) -> Connection | None:
    family, state, _, _, sport, dport, source, destination = _ANSWER.unpack_from(message)
    value = find(message[_ANSWER.size :], _STORAGES, _STORAGE, _VALUE)
    if value is None:
        return None
    client = layout.Client.from_buffer_copy(value)
    return Connection(
        client.endpoint,
        Endpoint(_address(family, destination), int.from_bytes(dport)),
        Endpoint(_address(family, source), int.from_bytes(sport)),
        _STATES.get(state, str(state)),
        layout.LearntFrom(client.learnt_from),
        client.learnt_ns,
    )


def _address(family: int, packed: bytes) -> Address:
    return IPv4Address(packed[:4]) if family == socket.AF_INET else from_mapped(IPv6Address(packed).packed)
