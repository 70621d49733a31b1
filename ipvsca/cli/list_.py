"""List the connections whose client is known, and the clients that SYNs told of connections not yet established.

Connections are those of the network namespace in which this is run. LEARNT says where the client was read: ack (the
segment that ended the handshake) or syn.

examples:
  ipvsca list
  ipvsca list --client 198.51.100.7
  ipvsca list --json | jq length
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from ipvsca import settings
from ipvsca.address import Address, Endpoint
from ipvsca.cli.output import duration
from ipvsca.dataplane import NANOSECONDS, DataPlane
from ipvsca.errors import ConfigurationError
from ipvsca.kernel import layout
from ipvsca.kernel.sockets import restored_connections
from ipvsca.settings import Network

_HANDSHAKE = "handshake"


@dataclass(frozen=True)
class Row:
    proto: str
    client: Endpoint
    director: Endpoint
    server: Endpoint
    learnt_from: str
    state: str
    age_seconds: float


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--client", metavar="PREFIX", help="only clients of an address or prefix")
    parser.add_argument("--director", metavar="PREFIX", help="only connections through an address or prefix")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(parsed: argparse.Namespace) -> None:
    client, director = (_prefix(parsed.client, "--client"), _prefix(parsed.director, "--director"))
    with DataPlane(settings.read_file(parsed.config).pin_path) as plane:
        rows = (
            row
            for row in _rows(plane)
            if _within(row.client.address, client) and _within(row.director.address, director)
        )
        (_print_json if parsed.json else _print_table)(rows)


def _rows(plane: DataPlane) -> Iterator[Row]:
    for connection in restored_connections(plane.table("clients").fd):
        yield Row(
            "tcp",
            connection.client,
            connection.director,
            connection.server,
            connection.learnt_from.name.lower(),
            connection.state,
            _age(connection.learnt_ns),
        )
    timeout_s = plane.settings().tcp_timeout
    for handshake, told in plane.handshakes():
        age = _age(told.learnt_ns)
        if age < timeout_s:
            learnt_from = layout.LearntFrom(told.learnt_from).name.lower()
            yield Row("tcp", told.endpoint, handshake.director, handshake.server, learnt_from, _HANDSHAKE, age)


def _print_table(rows: Iterator[Row]) -> None:
    # Wide enough for IPv4; entries are printed as they come, so that nobody knows how wide the others will be.
    line = "{:<5} {:<21} {:<21} {:<21} {:<6} {:<11} {}"
    print(line.format("PROTO", "CLIENT", "DIRECTOR", "SERVER", "LEARNT", "STATE", "AGE"))
    for row in rows:
        print(
            line.format(
                row.proto,
                str(row.client),
                str(row.director),
                str(row.server),
                row.learnt_from,
                row.state,
                duration(row.age_seconds),
            )
        )


def _print_json(rows: Iterator[Row]) -> None:
    """An array, a line an entry, written as it is read: there may be a million."""
    separator = "["
    for row in rows:
        values = {name: str(value) if isinstance(value, Endpoint) else value for name, value in vars(row).items()}
        sys.stdout.write(f"{separator}\n{json.dumps(values)}")
        separator = ","
    sys.stdout.write("[]\n" if separator == "[" else "\n]\n")


def _age(learnt_ns: int) -> float:
    return (time.monotonic_ns() - learnt_ns) / NANOSECONDS


def _prefix(text: str | None, option: str) -> Network | None:
    try:
        return None if text is None else ip_network(text)
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}") from None


def _within(address: Address, network: Network | None) -> bool:
    return network is None or (address.version == network.version and address in network)
