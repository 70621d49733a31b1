"""The long-running process: it keeps tables tidy, follows interfaces, and rereads the settings when it is told to.

Nothing that applications see depends on it: programs judge an entry's age themselves, and go on without it. Where
nothing is loaded it stays, to tell that, until something is.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from ipvsca import ageing, loader
from ipvsca.dataplane import NANOSECONDS, Count, DataPlane
from ipvsca.errors import Problem
from ipvsca.kernel import interfaces
from ipvsca.kernel.links import LinkChanges
from ipvsca.notify import Notifier, watchdog_interval_s
from ipvsca.refusals import Refusals
from ipvsca.settings import MEANINGS, Settings, as_text
from ipvsca.web.server import Web

LONGEST_INTERVAL_S = 10.0

_RESTORING = "restoring"
_AWAITED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGIO}

_log = logging.getLogger(__name__)


def run(settings: Settings, reread: Callable[[], Settings]) -> None:
    """Work until SIGTERM or SIGINT comes; SIGHUP has the settings reread."""
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
        self._sweeps = ageing.Sweeps()
        self._web = Web(settings, self._sweeps)
        self._refusals: Refusals | None = None
        self._state = ""

    def run(self) -> None:
        next_sweep_s = self._sweep()
        self._web.start()
        self._notifier.ready(self._state)
        print("running", flush=True)
        while (received := self._wait(next_sweep_s)) not in (signal.SIGTERM, signal.SIGINT):
            if received == signal.SIGHUP:
                self._reload()
            if received == signal.SIGIO:
                changed = self._links.read()
                if self._state == _RESTORING:  # otherwise the next load attaches to all there are
                    self._follow(changed)
            if time.monotonic() >= next_sweep_s:
                next_sweep_s = self._sweep()
        self._notifier.stopping()
        self._web.stop()

    def _wait(self, until_s: float) -> int | None:
        """The signal that came; None when it is time to sweep, or to show that we are alive."""
        self._notifier.alive()
        longest_s = (watchdog_interval_s() or 2 * LONGEST_INTERVAL_S) / 2
        received = signal.sigtimedwait(_AWAITED, min(longest_s, max(0.0, until_s - time.monotonic())))
        return received.si_signo if received else None

    def _sweep(self) -> float:
        """Gives when the next one is due. Maps are opened anew each time, to see whether they are still there."""
        now_ns = time.monotonic_ns()
        interval_s = LONGEST_INTERVAL_S
        try:
            with DataPlane(self._settings.pin_path) as plane:
                self._sweeps.sweep(plane, now_ns)
                self._tell_refusals(plane.counts(), now_ns)
                settings = plane.settings()
                interval_s = min(interval_s, settings.tcp_timeout / 2, settings.udp_timeout / 2)
        except Problem as problem:
            _log.error("%s", problem)
            self._refusals = None  # what is loaded next counts from 0
            self._enter(f"not restoring: {problem}")
        else:
            if self._enter(_RESTORING):
                self._follow()
        return now_ns / NANOSECONDS + interval_s

    def _enter(self, state: str) -> bool:
        """Tell a state. False where it is no other than before."""
        if state == self._state:
            return False
        self._state = state
        self._notifier.status(state)
        return True

    def _tell_refusals(self, counts: Mapping[str, Count], now_ns: int) -> None:
        self._refusals = self._refusals or Refusals(counts, now_ns)
        for line in self._refusals.grown(counts, now_ns):
            _log.warning("%s", line)

    def _follow(self, changed: Collection[int] | None = None) -> None:
        try:
            followed = loader.follow(self._settings, changed)
        except Problem as problem:
            _log.error("%s", problem)
            return
        for line in followed:
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
            self._notifier.ready(f"{self._state}; the last reload failed: {problem}")
            return
        for line in done.changes:
            _log.info("%s", line)
        for key in done.waiting:
            text = as_text(getattr(wanted, key))
            _log.warning("%s=%s is not in force: it takes effect with %s", key, text, MEANINGS[key].steps)
        _log.info("reloaded" if done.changes else "reloaded: nothing has changed")
        self._settings = replace(wanted, pin_path=self._settings.pin_path)
        self._state = _RESTORING
        self._follow()
        self._web.restart(self._settings)
        self._notifier.ready(self._state)
