"""Watch live what is restored, through which directors, what is refused, and what the hooks cost.

Rates are per second. Counters do not tell directors apart, so by director it shows what is open now: TCP connections
of the network namespace in which this is run, and flows. The kernel measures what the hooks cost only where the sysctl
kernel.bpf_stats_enabled is on, or as long as --cost asks for it, which costs all BPF programs of the machine a little.

q or Ctrl-C quits. No daemon is needed.

examples:
  ipvsca top
  ipvsca top --cost --interval 5
  ipvsca top --once
  ipvsca top --json | jq .rates.connections_restored
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ipvsca import cost, settings
from ipvsca.cli.output import print_json
from ipvsca.errors import Problem
from ipvsca.kernel import bpf
from ipvsca.traffic import FIGURES
from ipvsca.watch import Source, View

_SHORTEST_S, _LONGEST_S = 0.1, 3600.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--interval", type=_interval, default=1.0, metavar="S", help="seconds between looks; default 1")
    parser.add_argument("--cost", action="store_true", help="have the kernel measure the hooks as long as this runs")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="print it once, after one interval")
    how.add_argument("--json", action="store_true", help="print it once, as JSON")


def run(parsed: argparse.Namespace) -> None:
    wanted = settings.read_file(parsed.config)
    with _measured(parsed.cost) as is_measured:
        source = Source(wanted, is_measured)
        before = source.moment()
        if parsed.json:
            time.sleep(parsed.interval)
            print_json(_as_json(source.view(before)))
            return
        from ipvsca.cli import screen  # draws with a library that no other verb needs

        if parsed.once:
            time.sleep(parsed.interval)
            screen.show_once(source.view(before))
        elif sys.stdout and sys.stdout.isatty():
            screen.show(source, before, parsed.interval)
        else:
            raise Problem("top draws on a terminal, and this is none: --once or --json print it")


@contextmanager
def _measured(is_asked: bool) -> Iterator[bool]:
    """Whether costs are measured inside the block."""
    if not is_asked:
        yield cost.is_measured()
        return
    try:
        measuring = bpf.measure_run_times()
    except OSError as error:
        raise Problem(f"the kernel does not measure run times for us ({error.strerror}): leave out --cost") from None
    try:
        yield True
    finally:
        os.close(measuring)


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from {_SHORTEST_S} to {_LONGEST_S:.0f}")
    return seconds


def _as_json(view: View) -> dict[str, Any]:
    rates, costs = view.rates, view.costs
    return {
        "seconds": view.seconds,
        "restoring": not view.around.wrong,
        "rates": {figure.name: rates[figure] for figure in FIGURES},
        "totals": {figure.name: view.now.reading.totals[figure] for figure in FIGURES},
        "flows": view.now.flows,
        "max_flows": view.now.max_flows,
        "directors": [vars(each) | {"address": str(each.address)} for each in view.around.directors],
        "refusals": {
            count.meaning.name: {
                "rate": rate,
                "total": count.total,
                "last_source": None if count.last_source is None else str(count.last_source),
            }
            for count, rate in view.refusals
        },
        "programs": None
        if costs is None
        else {
            name: {"runs": spent.runs / view.seconds, "cpu_seconds": spent.seconds / view.seconds}
            for name, spent in costs
        },
    }
