"""`python -m tests.stress.floods`: floods of forged packets, what becomes of them, and what each packet costs.

Every flood comes alone, when nothing but what is expected of it may be counted, and then in part while clients are
served, of whom none may be seen as somebody else or as the director.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from ipvsca.dataplane import DataPlane
from ipvsca.kernel.maps import KEYS_AND_VALUES
from tests.bench import applications as apps
from tests.bench import storms
from tests.bench.hooks import COST, Meter
from tests.bench.programs import Where, run_time_kept
from tests.bench.records import Judged, Results
from tests.bench.run import Bench
from tests.bench.stage import LIPS, Stage
from tests.bench.storms import KNOWN_LIP, UDP_PORT, Kind
from tests.kernel_state import wait_until
from tests.rig import Ipvsca, growth
from tests.stress.command import play
from tests.stress.served import all_shown, dropped_by_link
from tests.stress.traffic import FLOWS_LIP, are_running, connecting, exchanging

FULL = 1_000_000
MEANWHILE = 5
"""What part of a flood comes once more while clients are served."""
FLOWS = 1_000
"""That are in use meanwhile."""

STRANGER = IPv4Address("198.18.0.1")
DIRECTORS = [KNOWN_LIP + n * 0x2000 for n in range(4)]
"""The first of the trusted addresses from which a flood comes: what one has announced is new in the next one."""
ANSWERED = DIRECTORS[0] + 0x1000
"""The first LIP of the flood that is answered."""
NOBODY_PORT = 54
LPORTS = 60_000  # that a flood takes of each address
MOST_DROPPED = FLOWS // 64
"""Of the flows in use, where the kernel finds nothing idle: of up to 128 entries that it looks at, it drops one."""
BURST = 5_000
"""Datagrams that a server's socket has room for."""
WITHOUT_CLIENT = 1_000
LOOK_EVERY_S = 0.1
SYN_RECEIVED = "03"  # in /proc/net/tcp

HEADER = """\
| flood | packets | a second | ns a packet | entries | flows evicted | half-open | clients right | wrong | not shown |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


@dataclass(frozen=True)
class Flood:
    """A flood: what it is made of, what one packet of it counts, and which map it fills."""

    name: str
    kind: Kind
    source: IPv4Address
    counts: tuple[str, ...]
    fills: str | None = None
    port: int = NOBODY_PORT


FLOODS = (
    Flood("announcements of a stranger", Kind.ANNOUNCEMENT, STRANGER, ("refused_announcement_untrusted",)),
    Flood("ipo of a stranger", Kind.IPO, STRANGER, ("refused_ipo_untrusted",)),
    Flood("opp of a stranger", Kind.OPP, STRANGER, ("refused_opp_untrusted",)),
    Flood("SYNs of a stranger", Kind.SYN_FLOOD, STRANGER, ("refused_syn_untrusted",), port=apps.BARE_PORT),
    Flood("announcements", Kind.ANNOUNCEMENT, DIRECTORS[0], ("announcement_learnt", "flows_new"), "flows"),
    Flood("ipo", Kind.IPO, DIRECTORS[1], ("ipo_learnt", "flows_new"), "flows"),
    Flood("opp", Kind.OPP, DIRECTORS[2], ("opp_learnt", "flows_new"), "flows"),
    Flood("SYNs", Kind.SYN_FLOOD, DIRECTORS[3], ("syn_learnt",), "handshakes", apps.BARE_PORT),
)


@dataclass(frozen=True)
class Withstood:
    """What a flood did."""

    packets: int
    rate: float
    """Packets a second, while clients were served."""
    entries: int
    """In the map that it fills, after it."""
    evicted: int
    """Flows that had to go, as `stats` tells."""
    half_open: int
    """Connections that the server waited for."""
    nanoseconds: float
    """That a packet takes in tc ingress."""
    judged: Judged
    """Of the clients that were served meanwhile."""


def withstand(stage: Stage, flood: Flood, packets: int) -> Withstood:
    """One flood: so many packets alone, then a part of them once more while clients are served. ipvsca is loaded.

    Raises AssertionError where the flood does what it must not.
    """
    meanwhile = packets // MEANWHILE
    evicted_before = stage.ipvsca.counts()["flows_evicted"]
    half_open_before = _half_open(stage)  # of an earlier flood: they outlive their listener until their timers end

    def blow(packets: int) -> None:
        storms.flood(stage, flood.kind, packets, flood.source, flood.port)

    with all_shown(stage, flood.name) as served, apps.accept_loop(stage):
        with _counted_alone(stage, *flood.counts, most=packets):
            nanoseconds = _cost(stage, partial(blow, packets))
        half_open = _half_open(stage)
        is_grown = half_open > half_open_before
        assert is_grown == (flood.kind is Kind.SYN_FLOOD), f"{flood.name}: {half_open} half-open connections"
        with (
            stage.naming_clients(Where.SYN),
            connecting(stage, True, served.connections.add),
            exchanging(stage, FLOWS, served.datagrams.add),
        ):
            began = time.monotonic()
            blow(meanwhile)
            rate = meanwhile / (time.monotonic() - began)
        if flood.kind is Kind.SYN_FLOOD:
            _connect_without_client(stage, served.connections)
    evicted = _evicted(stage.ipvsca) - evicted_before
    with DataPlane(stage.ipvsca.pin_path) as plane:
        entries = _entries(plane, flood.fills) if flood.fills else 0
    return Withstood(packets, rate, entries, evicted, half_open, nanoseconds, served.both)


def fill_connects(stage: Stage, connections: int) -> Withstood:
    """So many connections, each of which leaves its way back in `connects`, while flows are in use.

    The option is in the ACK alone, and in what follows it until the server has answered.
    """
    restored = partial(_count, stage.ipvsca, "tcp_restored_ack")
    with (
        all_shown(stage, "connections") as served,
        apps.accept_loop(stage),
        exchanging(stage, FLOWS, served.datagrams.add) as exchanges,
    ):
        before, began = restored(), time.monotonic()
        with (
            stage.naming_clients(Where.ACK, until_answered=True),
            connecting(stage, True, served.connections.add) as connects,
        ):
            while restored() < before + connections and are_running(connects, exchanges):
                time.sleep(LOOK_EVERY_S)
        rate = connections / (time.monotonic() - began)
    with DataPlane(stage.ipvsca.pin_path) as plane:
        known = sum(director.learnt_ns > 0 for _, director in plane.table("connects").batched_items())
        return Withstood(connections, rate, known, 0, 0, 0, served.both)


def fill_replies(stage: Stage, datagrams: int) -> Withstood:
    """So many datagrams with ipo, each of another flow, and answered: each leaves its way back in `replies`.

    They come in bursts that the server keeps up with, lest clients' datagrams are lost in its socket's queue. Where all
    that the kernel looks at for a place has been used, it drops what is in use: few flows, of whom nobody is seen as
    somebody else.
    """
    served, before = Judged(), stage.ipvsca.counts()
    with exchanging(stage, FLOWS, served.add):
        began = time.monotonic()
        for lip in range(datagrams // BURST):
            storms.flood(stage, Kind.IPO, BURST, ANSWERED + lip, UDP_PORT)
            enough = _count(stage.ipvsca, "recvmsg_restored") + BURST + FLOWS  # in their order, the flows' own between
            assert wait_until(partial(_has_received, stage.ipvsca, enough)), "the server is too slow"
        rate = datagrams / (time.monotonic() - began)
    count = ["list", "--count", "--proto", "udp", "--director", str(FLOWS_LIP)]
    dropped = FLOWS - int(stage.ipvsca.run(*count).stdout)
    assert dropped <= MOST_DROPPED, f"{dropped} flows in use were dropped"
    assert served.wrong == served.failed == 0, served
    assert (served.missing > 0) == (dropped > 0), f"{dropped} flows in use were dropped: {served}"
    grown = growth(before, stage.ipvsca.counts())
    assert grown.get("sendmsg_redirected") == grown["recvmsg_restored"], f"answers that found no way back: {grown}"
    evicted = _evicted(stage.ipvsca) - before["flows_evicted"]
    with DataPlane(stage.ipvsca.pin_path) as plane:
        return Withstood(datagrams, rate, _entries(plane, "replies"), evicted, 0, 0, served)


@contextmanager
def _counted_alone(stage: Stage, *names: str, most: int) -> Iterator[None]:
    """Inside the block these counters grow alike, by as many packets as arrive, and no other grows at all.

    A busy kernel drops some packets between the two ends of the link; which ones, it does not say.
    """
    before, dropped = stage.ipvsca.counts(), dropped_by_link(stage.client)
    yield
    dropped = dropped_by_link(stage.client) - dropped
    grown = growth(before, stage.ipvsca.counts())
    counted = grown.get(names[0], 0)
    is_expected = grown == dict.fromkeys(names, counted) and most - dropped <= counted <= most
    assert is_expected, f"of {most} packets {dropped} were dropped, and counters grew by {grown}"


def _cost(stage: Stage, blow: Callable[[], None]) -> float:
    """Nanoseconds a run of the program at tc ingress, without what it costs to measure."""
    bench = Bench(stage, Results({}, {}), rounds=1, seconds=1, where=Where.SYN)
    with run_time_kept(), Meter(bench) as meter:
        (cost,) = meter.by_run({"flood": "ipvsca_eth"}, blow)["flood"][COST]
    return cost


def _half_open(stage: Stage) -> int:
    rows = Path(f"/proc/{stage.server.pid}/net/tcp").read_text().splitlines()[1:]
    return sum(row.split()[3] == SYN_RECEIVED for row in rows)


def _connect_without_client(stage: Stage, judged: Judged) -> None:
    """From ports of which SYNs have just told clients: those handshakes never ended, and these have none."""
    storms.flood(stage, Kind.SYN_FLOOD, LPORTS, LIPS[0], apps.BARE_PORT)
    before, without = stage.ipvsca.counts(), partial(_count, stage.ipvsca, "tcp_no_client")
    with connecting(stage, False, judged.add):
        assert wait_until(lambda: without() > before["tcp_no_client"] + WITHOUT_CLIENT), "no connections"
    after = stage.ipvsca.counts()
    restored = [name for name in after if name.startswith("tcp_restored") and after[name] != before[name]]
    assert not restored, f"a handshake that never ended has named the client of another one: {restored}"


def _count(ipvsca: Ipvsca, name: str) -> int:
    return ipvsca.counts()[name]


def _has_received(ipvsca: Ipvsca, datagrams: int) -> bool:
    return _count(ipvsca, "recvmsg_restored") >= datagrams


def _evicted(ipvsca: Ipvsca) -> int:
    """Flows that had to go since the load, as `stats` tells once the daemon has swept; all others are there."""
    with ipvsca.daemon("--no-load"):
        total = {name: count["total"] for name, count in ipvsca.json("stats").items()}
    with DataPlane(ipvsca.pin_path) as plane:
        gone = total["flows_taken_over"] + total["flows_expired"] + total["flows_evicted"]
        assert total["flows_new"] - gone == _entries(plane, "flows"), total
    return int(total["flows_evicted"])


def _entries(plane: DataPlane, name: str) -> int:
    table = plane.table(name)
    entries = sum(len(keys) for keys, _ in table.batches()) // ctypes.sizeof(KEYS_AND_VALUES[name][0])
    assert entries <= table.max_entries, f"{name}: {entries} entries"
    return entries


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where everything was withstood."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.floods", description=__doc__)
    parser.add_argument("--packets", type=int, default=FULL, help="of each flood; default: %(default)s")
    options = parser.parse_args(arguments)
    return play(lambda stage: _all(stage, options.packets))


def _all(stage: Stage, packets: int) -> None:
    print(HEADER)
    with stage.restored():
        print(_row("ipo, each answered", fill_replies(stage, packets // 5)), flush=True)
    with stage.restored(tcp_connect=True):
        for flood in FLOODS:
            print(_row(flood.name, withstand(stage, flood, packets)), flush=True)
        print(_row("connections, into `connects`", fill_connects(stage, packets // 5)))


def _row(name: str, done: Withstood) -> str:
    figures = [done.packets, round(done.rate), round(done.nanoseconds), done.entries, done.evicted, done.half_open]
    judged = [done.judged.right, done.judged.wrong, done.judged.missing + done.judged.failed]
    return "| " + " | ".join([name, *(f"{figure:,}" for figure in figures + judged)]) + " |"


if __name__ == "__main__":
    sys.exit(main())
