"""The long-running process: it keeps tables tidy, follows interfaces, and rereads the settings when it is told to.

Nothing that applications see depends on it: programs judge an entry's age themselves, and go on without it.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import replace

from ipvsca import ageing, loader
from ipvsca.dataplane import NANOSECONDS, DataPlane
from ipvsca.errors import Problem
from ipvsca.kernel import interfaces
from ipvsca.kernel.links import LinkChanges
from ipvsca.notify import Notifier, watchdog_interval_s
from ipvsca.refusals import Refusals
from ipvsca.settings import MEANINGS, Settings, as_text

LONGEST_INTERVAL_S = 10.0

_AWAITED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGIO}

_log = logging.getLogger(__name__)


def run(settings: Settings, reread: Callable[[], Settings]) -> None:
    """Work until SIGTERM or SIGINT comes; SIGHUP has the settings reread. Raises Problem where nothing is loaded."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)  # what comes is kept until it is waited for
    try:
        with LinkChanges() as links:
            _Daemon(settings, reread, links).run()
    finally:
        while signal.sigtimedwait(_AWAITED, 0):  # what came too late does nothing any more
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Daemon:
    def __init__(self, settings: Settings, reread: Callable[[], Settings], links: LinkChanges) -> None:
        self._settings = settings
        self._reread = reread
        self._links = links
        self._missing: list[str] = []
        self._notifier = Notifier()
        with DataPlane(settings.pin_path) as plane:
            self._refusals = Refusals(plane.counts(), time.monotonic_ns())

    def run(self) -> None:
        self._follow()
        next_sweep_s = self._sweep()
        self._notifier.ready("restoring")
        print("running", flush=True)
        while (received := self._wait(next_sweep_s)) not in (signal.SIGTERM, signal.SIGINT):
            if received == signal.SIGHUP:
                self._reload()
            if received == signal.SIGIO:
                self._follow(self._links.read())
            if time.monotonic() >= next_sweep_s:
                next_sweep_s = self._sweep()
        self._notifier.stopping()

    def _wait(self, until_s: float) -> int | None:
        """The signal that came; None when it is time to sweep, or to show that we are alive."""
        self._notifier.alive()
        longest_s = (watchdog_interval_s() or 2 * LONGEST_INTERVAL_S) / 2
        received = signal.sigtimedwait(_AWAITED, min(longest_s, max(0.0, until_s - time.monotonic())))
        return received.si_signo if received else None

    def _sweep(self) -> float:
        """Gives when the next one is due. Maps are opened anew each time, to see whether they are still there."""
        now_ns = time.monotonic_ns()
        with DataPlane(self._settings.pin_path) as plane:
            ageing.sweep(plane, now_ns)
            settings = plane.settings()
            for line in self._refusals.grown(plane.counts(), now_ns):
                _log.warning("%s", line)
        interval_s = min(LONGEST_INTERVAL_S, settings.tcp_timeout / 2, settings.udp_timeout / 2)
        return now_ns / NANOSECONDS + interval_s

    def _follow(self, changed: Collection[int] | None = None) -> None:
        for line in loader.follow(self._settings, changed):
            _log.info("%s", line)
        missing = interfaces.missing(self._settings.interfaces)
        for name in missing:
            if name not in self._missing:
                _log.warning("waiting for interface %s, which does not exist", name)
        self._missing = missing

    def _reload(self) -> None:
        """All of the file or, where anything is wrong, nothing of it."""
        self._notifier.reloading()
        try:
            wanted = self._reread()
            done = loader.reload(wanted, self._settings.pin_path)
        except (Problem, OSError) as problem:
            _log.error("nothing is reloaded: %s", problem)
            self._notifier.ready(f"restoring; the last reload failed: {problem}")
            return
        for line in done.changes:
            _log.info("%s", line)
        for key in done.waiting:
            text = as_text(getattr(wanted, key))
            _log.warning("%s=%s is not in force: it takes effect with %s", key, text, MEANINGS[key].steps)
        _log.info("reloaded" if done.changes else "reloaded: nothing has changed")
        self._settings = replace(wanted, pin_path=self._settings.pin_path)
        self._follow()
        self._notifier.ready("restoring")
