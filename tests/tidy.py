"""A command of the checkout as its users start it, of which nothing may be left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.kernel_state import wait_until
from tests.lab.control import REPOSITORY
from tests.lab.sandbox import PREFIX, cgroup2_mount


@contextmanager
def tidy(arguments: Sequence[str], temporary: Path, timeout_s: float, *kept: str) -> Iterator[subprocess.Popen[str]]:
    """Python with these arguments, running; at the end of the block it must have ended and left nothing behind.

    `temporary` is its folder for temporary files, of which those that are named in `kept` may stay.
    """
    with subprocess.Popen(
        [sys.executable, "-u", *arguments],
        cwd=REPOSITORY,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield process
        process.wait(timeout_s)
    assert [path.name for path in temporary.iterdir() if path.name not in kept] == []
    # A guard that was interrupted as it started takes the cgroup away by itself, a moment later.
    assert wait_until(lambda: not list(cgroup2_mount().glob(f"{PREFIX}{process.pid}-*")))
