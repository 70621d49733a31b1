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
from functools import partial

from ipvsca import ageing, loader
from ipvsca.dataplane import Count, DataPlane
from ipvsca.errors import Problem
from ipvsca.kernel import clock, interfaces
from ipvsca.kernel.links import FILTERS, LINKS, Changes
from ipvsca.log import say
from ipvsca.notify import Notifier, watchdog_interval_s
from ipvsca.refusals import Refusals
from ipvsca.settings import MEANINGS, Settings, as_text
from ipvsca.web.server import Web

LONGEST_INTERVAL_S = 10.0
_AGAIN_S = 2.0  # how soon it is looked again, where nothing is loaded or a sweep went wrong

_RESTORING = "restoring"
_AWAITED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGIO}

_log = logging.getLogger(__name__)


def run(settings: Settings, reread: Callable[[], Settings]) -> None:
    """Work until SIGTERM or SIGINT comes; SIGHUP has the settings reread."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)  # what comes is kept until it is waited for
    try:
        with Changes(LINKS) as links, Changes(FILTERS) as filters:
            _Daemon(settings, reread, links, filters).run()
    finally:
        while signal.sigtimedwait(_AWAITED, 0):  # what came too late does nothing any more
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Daemon:
    def __init__(self, settings: Settings, reread: Callable[[], Settings], links: Changes, filters: Changes) -> None:
        self._settings = settings
        self._reread = reread
        self._links = links
        self._filters = filters
        self._is_behind = False
        self._next_sweep_s = 0.0
        self._missing: list[str] = []
        self._notifier = Notifier()
        self._sweeps = ageing.Sweeps()
        self._web = Web(settings, self._sweeps)
        self._refusals: Refusals | None = None
        self._state = ""
        self._loaded_ns = 0

    def run(self) -> None:
        self._attempt("a sweep", self._sweep)
        self._attempt("serving metrics", self._web.start)
        self._notifier.ready(self._state)
        say("running")
        while (received := self._wait()) not in (signal.SIGTERM, signal.SIGINT):
            if received == signal.SIGHUP:
                self._reload()
            if received == signal.SIGIO:
                self._attempt("following interfaces", self._follow_changes)
            if time.monotonic() >= self._next_sweep_s:
                self._attempt("a sweep", self._sweep)
                if self._is_behind:
                    self._attempt("looking at the interfaces", self._follow)
        self._notifier.stopping()
        self._web.stop()

    def _attempt(self, what: str, job: Callable[[], object]) -> None:
        """What goes wrong with one job keeps nobody from the others."""
        try:
            job()
        except Problem as problem:
            _log.error("%s", problem)
        except Exception as error:
            _log.error("%s went wrong: %r", what, error)

    def _wait(self) -> int | None:
        """The signal that came; None when it is time to sweep, or to show that we are alive."""
        self._notifier.alive()
        longest_s = (watchdog_interval_s() or 2 * LONGEST_INTERVAL_S) / 2
        received = signal.sigtimedwait(_AWAITED, min(longest_s, max(0.0, self._next_sweep_s - time.monotonic())))
        return received.si_signo if received else None

    def _sweep(self) -> None:
        """Maps are opened anew each time, to see whether they are still there."""
        began_s = time.monotonic()
        self._next_sweep_s = began_s + _AGAIN_S
        now_ns = clock.now_ns()
        try:
            with DataPlane(self._settings.pin_path) as plane:
                loaded_ns = plane.whole_build().loaded_ns
                self._sweeps.sweep(plane, now_ns)
                self._tell_refusals(plane.counts(), now_ns)
                settings = plane.settings()
        except Problem as problem:
            _log.error("%s", problem)
            self._refusals = None  # what is loaded next counts from 0
            self._enter(f"not restoring: {problem}")
        else:
            self._next_sweep_s = began_s + min(LONGEST_INTERVAL_S, settings.tcp_timeout / 2, settings.udp_timeout / 2)
            if loaded_ns != self._loaded_ns and self._state:
                self._attempt("reading the file again", self._take_up)
            self._loaded_ns = loaded_ns
            if self._enter(_RESTORING):
                self._attempt("looking at the interfaces", self._follow)

    def _take_up(self) -> None:
        """Something was loaded since the file was read: it is what the file says by now."""
        self._refusals = None
        wanted = replace(self._reread(), pin_path=self._settings.pin_path)
        if wanted != self._settings:
            self._settings = wanted
            self._web.restart(wanted)

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

    def _follow_changes(self) -> None:
        links, filters = self._links.read(), self._filters.read()
        if self._state != _RESTORING:
            return  # the next load attaches to all there are
        self._follow(links)
        if filters != set() and self._is_file_in_force():
            self._follow(filters)

    def _is_file_in_force(self) -> bool:
        """Otherwise it may have been `load` that took our filter off an interface, for what the file says by now."""
        try:
            return self._reread().interfaces == self._settings.interfaces
        except Problem:
            return False

    def _follow(self, changed: Collection[int] | None = None) -> None:
        """Look at interfaces; where that failed before, at all of them."""
        changed, self._is_behind = None if self._is_behind else changed, True
        for line in loader.follow(self._settings, changed):
            _log.info("%s", line)
        missing = interfaces.missing(self._settings.interfaces)
        for name in missing:
            if name not in self._missing:
                _log.warning("waiting for interface %s, which does not exist", name)
        self._missing = missing
        self._is_behind = False

    def _reload(self) -> None:
        """All of the file or, where anything is wrong, nothing of it."""
        self._notifier.reloading()
        try:
            wanted = self._reread()
            done = loader.reload(wanted, self._settings.pin_path)
        except Exception as problem:
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
        self._attempt("looking at the interfaces", self._follow)
        self._attempt("serving metrics", partial(self._web.restart, self._settings))
        self._notifier.ready(self._state)
