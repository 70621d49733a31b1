"""Run tests on the kernels that operators run: `python -m tests.kernels --help`."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.kernels import guest
from tests.kernels.debian import SUITES, Suite, Unavailable, newest

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "ipvsca-kernels")
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no")
CLOSING = re.compile(r"^=+ (.* in [\d.]+s.*?) =+$", re.MULTILINE)
TIMEOUT_S = 2 * 3600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests on each kernel; 0 where all passed on all."""
    parser = argparse.ArgumentParser(prog="tests.kernels", description=__doc__)
    parser.add_argument("--kernel", action="append", choices=[suite.series for suite in SUITES])
    parser.add_argument("tests", nargs="*")
    parsed, options = parser.parse_known_args(arguments)
    suites = [suite for suite in SUITES if suite.series in (parsed.kernel or [suite.series])]
    passed = [run(suite, [*parsed.tests, *options]) for suite in suites]
    return 0 if all(passed) else 1


def run(suite: Suite, tests: Sequence[str]) -> bool:
    """Run tests on a suite's kernel, and say how it went."""
    try:
        kernel = newest(suite, CACHE)
    except Unavailable as missing:
        print(f"{suite.series} ({suite.name}): CANNOT BE HAD: {missing}")
        return False
    log = CACHE / f"{suite.name}.log"
    began = time.monotonic()
    ended = guest.run(kernel, [*PYTEST, *tests], log, TIMEOUT_S)
    took = time.monotonic() - began
    closing = CLOSING.findall(log.read_text(errors="replace"))
    print(f"{kernel.release} ({suite.name}): {ended} {closing} {took:.0f}s {log}")
    return ended.status == 0 and not ended.complaints


if __name__ == "__main__":
    sys.exit(main())
