"""The command line: which parts, how long, and where the figures go."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench import documents, growth, hooks, load, parts, proxy, report, tcp, udp
from tests.bench.programs import Where
from tests.bench.records import REPOSITORY, Results, this_machine
from tests.bench.run import Bench
from tests.bench.stage import Stage

PARTS: dict[str, Callable[[Bench], None]] = {
    "load": load.run,
    "tcp": tcp.run,
    "udp": udp.run,
    "hooks": hooks.run,
    "parts": parts.run,
    "growth": growth.run,
    "proxy": proxy.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, print and keep what they measured, and return 0 if every address was right."""
    options = _parser().parse_args(arguments)
    if options.docs:
        documents.record(options.docs)
        return 0
    if os.geteuid():
        print("bench: run it as root (sudo make bench): it makes network namespaces and loads BPF programs")
        return 1
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    began = time.monotonic()
    command = {"pairs": options.pairs, "seconds": options.seconds, "where": options.where.value}
    results = Results(this_machine(), command)
    try:
        with Stage() as stage:
            bench = Bench(stage, results, options.pairs, options.seconds, options.where)
            for part in options.only:
                PARTS[part](bench)
    except KeyboardInterrupt:
        print("\nbench: interrupted; everything is cleaned up")
        return 128 + signal.SIGINT
    except (RuntimeError, subprocess.SubprocessError) as failure:
        print("\n".join([f"FAILED: {failure}", *getattr(failure, "__notes__", [])]))
        return 1
    results.command["took"] = round(time.monotonic() - began)
    results.write(options.json)
    return _end(results, options.json)


def _end(results: Results, file: Path) -> int:
    """Print everything; 0 if every address was right."""
    print()
    for table in report.tables(results).values():
        print(table.as_text())
    print(f'All figures are in {file}; `make bench BENCH="--docs {file}"` puts them into docs/.')
    if all(judged.is_clean for judged in results.judged.values()):
        return 0
    print("FAILED: an address was wrong, missing or without an answer: see the last table")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="What restoring costs, on this machine.",
    )
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"of {','.join(PARTS)}; default: all")
    parser.add_argument("--pairs", type=_positive, default=7, help="rounds of each measurement; default: %(default)s")
    parser.add_argument("--seconds", type=_positive, default=2, help="of each measurement; default: %(default)s")
    parser.add_argument(
        "--where",
        type=Where,
        choices=list(Where)[1:],
        default=Where.BOTH,
        help="segments that carry the option; default: both, which costs most",
    )
    parser.add_argument(
        "--json", type=Path, default=REPOSITORY / "dist/bench.json", help="where figures go; default: dist/bench.json"
    )
    parser.add_argument("--docs", type=Path, metavar="JSON", help="measure nothing: put this run into the documents")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of 1 or more")
    return int(text)


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if unknown := set(parts) - set(PARTS):
        raise argparse.ArgumentTypeError(f"there is no part {', '.join(sorted(unknown))}")
    return parts


if __name__ == "__main__":
    sys.exit(main())
