"""`python -m tests.stress.churn`: the daemon dies all the time, programs are replaced, and every client is seen right.

Connections and datagrams go on meanwhile. The address that the server saw is judged for each of them.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from ipvsca.dataplane import DataPlane
from tests.bench import applications as apps
from tests.bench.programs import Where
from tests.bench.stage import Stage
from tests.rig import REPOSITORY, Ipvsca, other_version
from tests.stress.command import play
from tests.stress.served import Served, all_shown
from tests.stress.traffic import are_running, connecting, exchanging

FULL_CONNECTIONS, FULL_DATAGRAMS = 500_000, 2_000_000
FLOWS = 10_000
LONGEST_LIFE_S = 2.0
LIVES = 3  # of the daemon for each replacement of the programs, at the least
NONE_OF = ("refused_", "tcp_no_client", "syn_expired", "recvmsg_ambiguous")
"""How counters begin that must not grow."""


@dataclass
class Churned:
    """What happened."""

    connections: int = 0
    datagrams: int = 0
    kills: int = 0
    replacements: int = 0
    seconds: float = 0.0
    served: Served = field(default_factory=Served)

    def __str__(self) -> str:
        judged = self.served.both
        return (
            f"{self.connections:,} connections and {self.datagrams:,} datagrams in {self.seconds:.0f} s, "
            f"{self.kills} daemons killed, programs replaced {self.replacements} times: "
            f"{judged.right:,} addresses right, {judged.wrong} wrong, {judged.missing} missing, {judged.failed} failed"
        )


class Churn:
    """Connections and datagrams to a server whose programs are replaced once in so many lives of the daemon or more."""

    def __init__(self, stage: Stage, lives: int = LIVES, named_in: Sequence[Where] = (Where.SYN, Where.ACK)) -> None:
        self._stage = stage
        self._named_in = named_in
        self._lives = lives
        self._versions = cycle([other_version(stage.folder / "other"), REPOSITORY])
        self._done = Churned()

    def run(self, connections: int, datagrams: int) -> Churned:
        """So many at the least: by default half of them while SYNs name clients, half while ACKs alone do.

        Raises AssertionError where an address was not right, or ipvsca did not do what it was told.
        """
        done, ipvsca = self._done, self._stage.ipvsca
        before, began = ipvsca.counts(), time.monotonic()
        with all_shown(self._stage, "churn") as done.served, apps.accept_loop(self._stage):
            for where in self._named_in:
                self._part(where, connections // len(self._named_in), datagrams // len(self._named_in))
        grown = {name: count - before[name] for name, count in ipvsca.counts().items()}
        done.connections, done.datagrams = _restored(grown)
        done.seconds = time.monotonic() - began
        assert {name: count for name, count in grown.items() if count and name.startswith(NONE_OF)} == {}
        judged = (done.served.connections.right, done.served.datagrams.right)
        assert judged == (done.connections, done.datagrams), f"restored and not judged, or the reverse: {done}"
        return done

    def _part(self, where: Where, connections: int, datagrams: int) -> None:
        stage, served = self._stage, self._done.served
        connections_before, datagrams_before = _restored(stage.ipvsca.counts())
        with (
            stage.naming_clients(where, until_answered=True),
            connecting(stage, True, served.connections.add) as connects,
            exchanging(stage, FLOWS, served.datagrams.add) as exchanges,
        ):
            connected = exchanged = 0
            while (connected < connections or exchanged < datagrams) and are_running(connects, exchanges):
                self._disturb()
                now = _restored(stage.ipvsca.counts())
                connected, exchanged = now[0] - connections_before, now[1] - datagrams_before

    def _disturb(self) -> None:
        """Replace the programs, and kill daemons all the while."""
        ipvsca, lives = self._stage.ipvsca, 0
        before = _digest(ipvsca)
        with _started(ipvsca, "load", cwd=next(self._versions)) as load:
            while lives < self._lives or load.poll() is None:
                _live_and_die(ipvsca)
                lives += 1
        assert load.returncode == 0, "ipvsca load failed"
        assert _digest(ipvsca) != before, "ipvsca load has replaced nothing"
        self._done.kills += lives
        self._done.replacements += 1


def _digest(ipvsca: Ipvsca) -> bytes:
    """Of the sources that the programs are made from."""
    with DataPlane(ipvsca.pin_path) as plane:
        return bytes(plane.build().digest)


def _restored(counts: Mapping[str, int]) -> tuple[int, int]:
    """Connections, and datagrams."""
    return counts["tcp_restored_syn"] + counts["tcp_restored_ack"], counts["recvmsg_restored"]


def _live_and_die(ipvsca: Ipvsca) -> None:
    """A daemon that is killed with SIGKILL, sooner or later: however far it has got. By itself it does not end."""
    with _started(ipvsca, "run", "--no-load", cwd=REPOSITORY) as daemon:
        try:
            raise AssertionError(f"the daemon ended with status {daemon.wait(random.uniform(0, LONGEST_LIFE_S))}")
        except subprocess.TimeoutExpired:
            daemon.kill()


@contextmanager
def _started(ipvsca: Ipvsca, *verb: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    process: subprocess.Popen[bytes] = ipvsca.namespace.popen(ipvsca.command(*verb), cwd=cwd, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where every address was right."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.churn", description=__doc__)
    parser.add_argument("--connections", type=int, default=FULL_CONNECTIONS, help="default: %(default)s")
    parser.add_argument("--datagrams", type=int, default=FULL_DATAGRAMS, help="default: %(default)s")
    options = parser.parse_args(arguments)
    return play(lambda stage: _loaded(stage, options.connections, options.datagrams))


def _loaded(stage: Stage, connections: int, datagrams: int) -> None:
    with stage.restored():
        print(Churn(stage).run(connections, datagrams))


if __name__ == "__main__":
    sys.exit(main())
