"""List the clients that are known: of connections, of flows, and of handshakes not ended yet.

LEARNT says where a client was read: syn, ack (the segment that ended the handshake), announcement, ipo or opp (UOA, in
the flow's datagrams), or connect (the application itself connected to it). A connection's entry lives as long as its
socket; a flow's is forgotten once LEFT has run out, and each use starts IDLE anew. Connections are those of the network
namespace in which this is run.

examples:
  ipvsca list
  ipvsca list --proto udp --limit 20
  ipvsca list --client 198.51.100.7
  ipvsca list --director 10.0.0.0/24 --json | jq length
  ipvsca list --count
"""

from __future__ import annotations

import argparse
import array
import ctypes
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import islice
from socket import ntohs

from ipvsca import settings
from ipvsca.address import Address, Endpoint, from_mapped
from ipvsca.dataplane import NANOSECONDS, DataPlane
from ipvsca.durations import duration
from ipvsca.errors import ConfigurationError
from ipvsca.kernel import clock, layout
from ipvsca.kernel.sockets import Connection, restored_connections
from ipvsca.settings import Network
from ipvsca.wire.internet import PROTOCOL_TCP, PROTOCOL_UDP

_KEY, _VALUE = ctypes.sizeof(layout.FlowKey), ctypes.sizeof(layout.Learnt)
_ADDRESS = ctypes.sizeof(layout.PackedAddress)
_WORD = 8  # bytes of an item of array type Q

_PROTOCOLS = {PROTOCOL_TCP: "tcp", PROTOCOL_UDP: "udp"}

# Wide enough for IPv4; entries are printed as they come, so that nobody knows how wide the others will be.
_LINE = "{:<5} {:<21} {:<21} {:<21} {:<12} {:<11} {:>7} {:>7} {:>7}"


@dataclass(frozen=True)
class Row:
    proto: str
    client: Endpoint
    director: Endpoint
    server: Endpoint
    learnt_from: str
    state: str
    age_seconds: float
    idle_seconds: float | None = None
    left_seconds: float | None = None


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--proto", choices=sorted(_PROTOCOLS.values()), help="only this protocol")
    parser.add_argument("--client", metavar="PREFIX", help="only clients of an address or prefix")
    parser.add_argument("--director", metavar="PREFIX", help="only what comes through an address or prefix")
    parser.add_argument("--limit", type=_limit, metavar="N", help="no more than N entries")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print JSON")
    how.add_argument("--count", action="store_true", help="print how many there are")


def run(parsed: argparse.Namespace) -> None:
    client, director = (_prefix(parsed.client, "--client"), _prefix(parsed.director, "--director"))
    with DataPlane(settings.read_file(parsed.config).pin_path) as plane:
        plane.table("clients")  # where it cannot be read, that is said before the table's head

        def asked(rows: Iterator[Row]) -> Iterator[Row]:
            return (
                row
                for row in rows
                if parsed.proto in (None, row.proto)
                and _within(row.client.address, client)
                and _within(row.director.address, director)
            )

        if parsed.count:
            known = sum(1 for _ in asked(_rows_of_connections(plane)))
            known += _count_flows(plane, parsed.proto, client, director)
            print(known if parsed.limit is None else min(known, parsed.limit))
            return
        rows = islice(asked(_rows(plane)), parsed.limit)
        if parsed.json:
            _print_json(rows)
        else:
            _print_table(rows)


def _rows(plane: DataPlane) -> Iterator[Row]:
    yield from _rows_of_connections(plane)
    yield from _rows_of_flows(plane)


def _rows_of_connections(plane: DataPlane) -> Iterator[Row]:
    """Established, or on the way to it."""
    now_ns = clock.now_ns()
    for connection in restored_connections(plane.table("clients").fd):
        yield _of_connection(connection, now_ns)
    for handshake, told in plane.handshakes():
        row = _of_handshake(handshake, told, now_ns, plane.settings().tcp_timeout)
        if row.left_seconds and row.left_seconds > 0:
            yield row


def _rows_of_flows(plane: DataPlane) -> Iterator[Row]:
    now_ns = clock.now_ns()
    seconds = _timeouts(plane)
    for flow, learnt in plane.flows():
        row = _of_flow(flow, learnt, now_ns, seconds[flow.protocol])
        if row.left_seconds and row.left_seconds > 0:
            yield row


def _count_flows(plane: DataPlane, proto: str | None, client: Network | None, director: Network | None) -> int:
    """How many rows of flows there are. Slices of bytes: to make a million rows would take 20 seconds."""
    now_ns = clock.now_ns()
    oldest_ns = {protocol: now_ns - seconds * NANOSECONDS for protocol, seconds in _timeouts(plane).items()}
    protocols = {protocol for protocol, name in _PROTOCOLS.items() if proto in (None, name)}
    is_client, is_director = _matches(client), _matches(director)
    known = 0
    for keys, values in plane.table("flows").batches():
        entries = zip(
            keys[layout.FlowKey.protocol.offset :: _KEY],
            values[layout.IS_AMBIGUOUS_AT :: _VALUE],
            array.array("Q", values)[layout.Learnt.used_ns.offset // _WORD :: _VALUE // _WORD],
            range(layout.FlowKey.lip.offset, len(keys), _KEY),
            range(layout.Learnt.client.offset + layout.Client.address.offset, len(values), _VALUE),
            strict=True,
        )
        known += sum(
            protocol in protocols
            and not is_ambiguous
            and used_ns > oldest_ns[protocol]
            and is_director(keys, lip_at)
            and is_client(values, client_at)
            for protocol, is_ambiguous, used_ns, lip_at, client_at in entries
        )
    return known


def _matches(network: Network | None) -> Callable[[bytes, int], bool]:
    """What _within says of the address that lies at a place of packed ones."""
    if network is None:
        return lambda packed, at: True

    def matches(packed: bytes, at: int) -> bool:
        return _within(from_mapped(packed[at : at + _ADDRESS]), network)

    return matches


def _timeouts(plane: DataPlane) -> dict[int, int]:
    """Seconds that a flow lives without use, by protocol."""
    settings_ = plane.settings()
    return {PROTOCOL_TCP: settings_.tcp_timeout, PROTOCOL_UDP: settings_.udp_timeout}


def _of_connection(connection: Connection, now_ns: int) -> Row:
    return Row(
        "tcp",
        connection.client,
        connection.director,
        connection.server,
        connection.learnt_from.name.lower(),
        connection.state,
        _seconds(now_ns - connection.learnt_ns),
    )


def _of_handshake(handshake: layout.Handshake, told: layout.Client, now_ns: int, timeout_s: int) -> Row:
    age = _seconds(now_ns - told.learnt_ns)
    return Row(
        "tcp",
        told.endpoint,
        handshake.director,
        handshake.server,
        layout.LearntFrom(told.learnt_from).name.lower(),
        "handshake",
        age,
        age,
        timeout_s - age,
    )


def _of_flow(flow: layout.FlowKey, learnt: layout.Learnt, now_ns: int, timeout_s: int) -> Row:
    idle = _seconds(now_ns - learnt.used_ns)
    return Row(
        _PROTOCOLS[flow.protocol],
        learnt.client.endpoint,
        flow.director,
        Endpoint(learnt.rip.address, ntohs(flow.rport)),
        layout.LearntFrom(learnt.client.learnt_from).name.lower(),
        "flow",
        _seconds(now_ns - learnt.client.learnt_ns),
        idle,
        timeout_s - idle,
    )


def _print_table(rows: Iterator[Row]) -> None:
    print(_LINE.format("PROTO", "CLIENT", "DIRECTOR", "SERVER", "LEARNT", "STATE", "AGE", "IDLE", "LEFT").rstrip())
    for row in rows:
        times = (row.age_seconds, row.idle_seconds, row.left_seconds)
        print(
            _LINE.format(
                row.proto,
                str(row.client),
                str(row.director),
                str(row.server),
                row.learnt_from,
                row.state,
                *("-" if time_ is None else duration(time_) for time_ in times),
            )
        )


def _print_json(rows: Iterator[Row]) -> None:
    """An array, a line an entry, written as it is read: there may be a million."""
    separator = "["
    for row in rows:
        values = {name: str(value) if isinstance(value, Endpoint) else value for name, value in vars(row).items()}
        print(f"{separator}\n{json.dumps(values)}", end="")
        separator = ","
    print("[]" if separator == "[" else "\n]")


def _seconds(nanoseconds: int) -> float:
    return max(0, nanoseconds) / NANOSECONDS


def _limit(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of entries, e.g. 20")
    return min(int(text), sys.maxsize)


def _prefix(text: str | None, option: str) -> Network | None:
    try:
        return None if text is None else ip_network(text)
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}; it takes an address or a prefix, e.g. 10.8.0.0/24") from None


def _within(address: Address, network: Network | None) -> bool:
    return network is None or (address.version == network.version and address in network)
