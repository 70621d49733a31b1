"""UDP with ipvsca and without, restored on the way in and sent back through the director on the way out."""

from __future__ import annotations

import re
from pathlib import Path

from tests.bench.applications import udp_echo
from tests.bench.records import Judged
from tests.bench.run import Bench
from tests.bench.stage import LIPS, RIP, Stage
from tests.bench.storms import FIRST_LPORT, UDP_PORT, announce

PART = "udp"
DNSPERF_LIP, ECHO_LIP = LIPS[:2]
DNSPERF_FLOWS = 256  # as many sockets as dnsperf has
ECHO_FLOWS = 10_000
QUESTION = "bench.example A\n"


def run(bench: Bench) -> None:
    """Every comparison in turn. Each flow is announced ahead, and each address that a server sees is judged."""
    stage, seconds = bench.stage, bench.seconds
    questions = stage.folder / "questions"
    questions.write_text(QUESTION)

    def queries(restored: bool) -> float:
        if restored:
            announce(stage, DNSPERF_FLOWS, DNSPERF_LIP)
        with udp_echo(stage, restored, lambda judged: bench.results.judge(PART, judged)):
            rate, lost = dnsperf(stage, questions, seconds)
        bench.results.judge(PART, Judged(failed=lost))
        return rate

    def datagrams(restored: bool) -> float:
        if restored:
            announce(stage, ECHO_FLOWS, ECHO_LIP)
        with udp_echo(stage, restored, lambda judged: bench.results.judge(PART, judged)):
            rate, lost = exchanges(stage, seconds)
        bench.results.judge(PART, Judged(failed=lost))
        return rate

    bench.compare(PART, f"DNS queries, {DNSPERF_FLOWS} flows, dnsperf", "/s", queries)
    bench.compare(PART, f"datagrams there and back, {ECHO_FLOWS} flows", "/s", datagrams)


def dnsperf(stage: Stage, questions: Path, seconds: int) -> tuple[float, int]:
    """DNS queries a second, and how many had no answer."""
    said = stage.ask(
        [
            "dnsperf",
            *("-s", str(RIP), "-p", str(UDP_PORT), "-a", str(DNSPERF_LIP), "-x", str(FIRST_LPORT)),
            *("-c", str(DNSPERF_FLOWS), "-d", str(questions), "-l", f"{seconds}"),
        ],
        seconds,
    )
    rate = re.search(r"Queries per second:\s+([\d.]+)", said)
    lost = re.search(r"Queries lost:\s+(\d+)", said)
    if not rate or not lost:
        raise RuntimeError(f"dnsperf: {said}")
    return float(rate[1]), int(lost[1])


def exchanges(stage: Stage, seconds: int) -> tuple[float, int]:
    """Datagrams a second that were sent back, and how many were not, or to another socket."""
    end = [RIP, UDP_PORT, ECHO_LIP, FIRST_LPORT, ECHO_FLOWS, seconds]
    answered, lost, took = stage.ask([stage.program("datagrams"), *map(str, end)], seconds).split()
    return int(answered) / float(took), int(lost)
