"""The long-running process: it keeps tables tidy. Nothing depends on it: programs judge an entry's age themselves."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from ipvsca.dataplane import NANOSECONDS, DataPlane

SWEEP_INTERVAL_S = 10

_STOP = {signal.SIGTERM, signal.SIGINT}


def run(pin_path: Path) -> None:
    """Sweep until SIGTERM or SIGINT comes. Raises Problem once nothing is loaded any more."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    try:
        print("running", flush=True)
        while signal.sigtimedwait(_STOP, SWEEP_INTERVAL_S) is None:
            sweep(pin_path)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def sweep(pin_path: Path) -> int:
    """Take out what is past its time; gives how many entries that were. Opened anew, to see that it is still loaded."""
    with DataPlane(pin_path) as plane:
        oldest_ns = time.monotonic_ns() - plane.settings().tcp_timeout * NANOSECONDS
        return plane.forget_handshakes(oldest_ns)
