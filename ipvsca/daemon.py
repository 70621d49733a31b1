"""The long-running process: it keeps tables tidy. Nothing depends on it: programs judge an entry's age themselves."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from ipvsca import ageing
from ipvsca.dataplane import DataPlane

LONGEST_INTERVAL_S = 10.0

_STOP = {signal.SIGTERM, signal.SIGINT}


def run(pin_path: Path) -> None:
    """Sweep until SIGTERM or SIGINT comes. Raises Problem once nothing is loaded any more."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    try:
        print("running", flush=True)
        while signal.sigtimedwait(_STOP, _sweep(pin_path)) is None:
            pass
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _sweep(pin_path: Path) -> float:
    """Gives the seconds until the next one. Maps are opened anew each time, to see whether they are still there."""
    with DataPlane(pin_path) as plane:
        ageing.sweep(plane, time.monotonic_ns())
        settings = plane.settings()
    return min(LONGEST_INTERVAL_S, settings.tcp_timeout / 2, settings.udp_timeout / 2)
