"""Run tests on the kernels that operators run: Debian's, emulated, with this machine's file system.

exit status:
  0  all tests passed on all kernels, and no kernel complained
  1  they did not, or a kernel could not be had
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.kernels import guest
from tests.kernels.debian import SUITES, Suite, Unavailable, newest
from tests.kernels.selection import SELECTIONS

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "ipvsca-kernels")
LOGS = guest.REPOSITORY / "build/kernels"
PYTEST = (
    sys.executable,
    "-m",
    "pytest",
    "--verbose",
    "--tb=short",
    "--color=no",
    "--durations=10",
    "-p",
    "no:cacheprovider",
)
CLOSING = re.compile(r"^=+ (.* in [\d.]+s.*?) =+$", re.MULTILINE)
LOCKED_DOWN = "lockdown=integrity"
"""As kernels are under Secure Boot: what works so works without it."""
TIMEOUT_S = {"quick": 3600.0, "representative": 2 * 3600.0, "each": 6 * 3600.0, "all": 24 * 3600.0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests on each kernel, and say how it went."""
    parsed = parser().parse_args(arguments)
    # An exception, so that a guest ends with us.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    suites = [suite for suite in SUITES if suite.series in (parsed.kernels or [suite.series])]
    passed = [passes(suite, parsed.tests) for suite in suites]
    return 0 if all(passed) else 1


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.kernels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [suite.series for suite in SUITES]
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=f"of {', '.join(known)}; default: all")
    parser.add_argument("--tests", choices=SELECTIONS, default="representative", help="which; default: %(default)s")
    return parser


def passes(suite: Suite, selection: str) -> bool:
    """Whether a selection of tests passes on a suite's kernel. Says so, and why not."""
    try:
        kernel = newest(suite, CACHE)
    except Unavailable as missing:
        print(f"{suite.series} ({suite.name}): FAILED: this kernel cannot be had: {missing}", flush=True)
        return False
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{suite.series}.log"
    print(f"{kernel.release} ({suite.name}): what the tests say goes to {log}", flush=True)
    began = time.monotonic()
    ended = guest.run(kernel, [*PYTEST, *SELECTIONS[selection]], log, TIMEOUT_S[selection], LOCKED_DOWN)
    took = time.monotonic() - began
    passed = ended.status == 0 and not ended.complaints
    print(f"{kernel.release} ({suite.name}): {'passed' if passed else 'FAILED'}: {closing(log)}; it took {took:.0f} s")
    for complaint in ended.complaints:
        print(f"  the kernel says: {complaint}; all that it says is in {guest.console_of(log)}", flush=True)
    return passed


def closing(log: Path) -> str:
    """What pytest said last: how many tests passed, and how long it took by the guest's clock."""
    found = CLOSING.findall(log.read_text(errors="replace"))
    return found[-1] if found else "the guest ended, or its time was up, before the tests were through"


if __name__ == "__main__":
    sys.exit(main())
