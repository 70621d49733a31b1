"""Who asked a DNS server for what, by its own log (`dns_server` runs it). Starts nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ipvsca.address import Endpoint

# dnsmasq: `... dnsmasq[7]: 1 10.0.0.1/4242 query[A] lab.test from 10.0.0.1`; unbound tells no port:
# `[1700000000] unbound[7:0] info: 10.0.0.1 lab.test. A IN`
QUERY = re.compile(
    r"(?:: \d+ (?P<address>\S+)/(?P<port>\d+) query\[A\] (?P<name>\S+) from (?P=address)"
    r"| info: (?P<unbound_address>\S+) (?P<unbound_name>\S+)\. A IN)$",
)


@dataclass(frozen=True)
class Query:
    """A question for an IPv4 address. Port 0 where the server does not log it."""

    client: Endpoint
    name: str


def queries(log: str) -> list[Query]:
    """The questions in a log, oldest first. One whose answer has been received is in the log."""
    matches = [QUERY.search(line) for line in log.splitlines()]
    return [_query(match) for match in matches if match]


def _query(match: re.Match[str]) -> Query:
    if match["address"]:
        return Query(Endpoint.of(match["address"], int(match["port"])), match["name"])
    return Query(Endpoint.of(match["unbound_address"], 0), match["unbound_name"])
