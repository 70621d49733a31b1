"""What `ipvsca top` draws, on a terminal of 80 columns and 24 lines or more. The only import of rich."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from math import ceil

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ipvsca.dataplane import NANOSECONDS
from ipvsca.directors import Director
from ipvsca.errors import Problem
from ipvsca.health import Finding
from ipvsca.traffic import ALMOST_FULL, FIGURES, REFUSALS, Figure, as_text
from ipvsca.watch import Moment, Source, View

_SIZE = 80, 24
_BARS = " ▁▂▃▄▅▆▇█"
_COURSE = 20  # rates in a curve
_FIRST_LOOK_S = 0.5
_FIXED_LINES = 14  # all but rows of directors, refusals and hooks

Courses = Mapping[Figure, Sequence[float]]


class _Event(Enum):
    DUE = auto()
    RESIZED = auto()
    QUIT = auto()


def show_once(view: View) -> None:
    """Print it."""
    width, height = _SIZE
    console = Console(width=width, height=height, highlight=False)
    console.print(_Screen(view, {figure: [rate] for figure, rate in view.rates.items()}))


def show(source: Source, before: Moment, interval_s: float) -> None:
    """Draw it every `interval_s` seconds, until q, Ctrl-C or SIGTERM. Then the terminal is as it was before."""
    courses = {figure: deque[float](maxlen=_COURSE) for figure in FIGURES}
    with _events() as wait, Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        due_s = time.monotonic() + min(interval_s, _FIRST_LOOK_S)
        while (event := wait(due_s)) is not _Event.QUIT:
            if event is _Event.RESIZED:
                live.refresh()
                continue
            due_s = time.monotonic() + interval_s
            try:
                view = source.view(before)
            except (Problem, OSError) as problem:
                live.update(Text(str(problem), style="bold red"), refresh=True)
                continue
            for figure, rate in view.rates.items():
                courses[figure].append(rate)
            live.update(_Screen(view, courses), refresh=True)
            before = view.now


@contextmanager
def _events() -> Iterator[Callable[[float], _Event]]:
    """Gives what waits for an event until a time (CLOCK_MONOTONIC): a key, or a signal."""
    awakened, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH)
    handlers = {number: signal.signal(number, lambda *_: None) for number in signals}
    handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # a shell would begin in our screen
    before = signal.set_wakeup_fd(wakes)
    keyboard = sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None
    try:
        with _unbuffered(keyboard):
            yield lambda until_s: _wait(awakened, keyboard, until_s)
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(awakened)
        os.close(wakes)


@contextmanager
def _unbuffered(keyboard: int | None) -> Iterator[None]:
    """Keys are read as they are pressed, and not shown."""
    if keyboard is None:
        yield
        return
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _wait(awakened: int, keyboard: int | None, until_s: float) -> _Event:
    sources = [awakened] if keyboard is None else [awakened, keyboard]
    while ready := select.select(sources, [], [], max(0.0, until_s - time.monotonic()))[0]:
        if awakened in ready:
            return _Event.RESIZED if set(os.read(awakened, 64)) == {signal.SIGWINCH} else _Event.QUIT
        if _asks_to_quit(ready[0]):
            return _Event.QUIT
    return _Event.DUE


def _asks_to_quit(keyboard: int) -> bool:
    try:
        typed = os.read(keyboard, 64)
    except OSError:  # the terminal is gone
        typed = b""
    return not typed or b"q" in typed.lower()


@dataclass(frozen=True)
class _Screen:
    """Fits into the terminal, whatever its height is when it is drawn: rows that have no room are left out."""

    view: View
    courses: Courses

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        free = max(2, console.height - _FIXED_LINES)
        found = self.view.around.directors
        for_directors = min(max(1, len(found)), max(1, free * 2 // 5))
        rows = free - for_directors
        below = Table.grid(padding=(0, 2), expand=True)
        below.add_column(ratio=4)
        below.add_column(ratio=3)
        below.add_row(_refusals(self.view, rows), _hooks(self.view, rows))
        yield Group(
            _head(self.view),
            _where(self.view.around.wrong),
            _figures(self.view, self.courses),
            _flows(self.view),
            "",
            _directors(found, for_directors),
            "",
            below,
        )


def _head(view: View) -> Table:
    line = Table.grid(expand=True)
    line.add_column(ratio=1, overflow="ellipsis", no_wrap=True)
    line.add_column(justify="right", no_wrap=True)
    if view.around.wrong:
        state = Text(f"NOT restoring: {view.around.wrong[0].remedy}", style="bold red")
    else:
        state = Text("restoring", style="bold green")
    line.add_row(Text(f"{socket.gethostname()}: ") + state, Text(f" {time.strftime('%H:%M:%S')}  q quits"))
    return line


def _where(wrong: Sequence[Finding]) -> Text:
    """What the first line says is about this; an empty line where all is well."""
    if not wrong:
        return Text("")
    more = f"{len(wrong)} are missing: " if len(wrong) > 1 else ""
    return Text(f"{more}{wrong[0].what}", style="red", no_wrap=True, overflow="ellipsis")


def _table(*columns: tuple[str, int | None]) -> Table:
    """Columns by heading and width; those without a width take what is left, those with one hold numbers."""
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for heading, width in columns:
        if width is None:
            table.add_column(heading, ratio=1, no_wrap=True, overflow="ellipsis")
        else:
            table.add_column(heading, width=width, justify="right", no_wrap=True)
    return table


def _figures(view: View, courses: Courses) -> Table:
    table = _table(("", None), ("a second", 9), ("in all", 13), ("", _COURSE))
    for figure in FIGURES:
        rate = view.rates[figure]
        style = "yellow" if figure is REFUSALS and rate else ""
        total = view.now.reading.totals[figure]
        table.add_row(figure.label, Text(as_text(rate), style), f"{total:,}", _curve(courses[figure]))
    return table


def _flows(view: View) -> Table:
    table = _table(("", None), ("", 9), ("", 13), ("", _COURSE))
    table.show_header = False
    share = view.now.flows / view.now.max_flows
    bar = Text("█" * round(_COURSE * share), "yellow" if share > ALMOST_FULL else "")
    table.add_row("flows in the table", f"{view.now.flows:,}", f"of {view.now.max_flows:,}", bar)
    return table


def _curve(rates: Sequence[float]) -> str:
    """The last one at the right; a rate that is not 0 has a bar."""
    highest = max(rates, default=0.0)
    return "".join(_BARS[ceil(rate / highest * (len(_BARS) - 1))] if highest else " " for rate in rates)


def _directors(found: list[Director], rows: int) -> Table:
    table = _table(("DIRECTOR", None), ("connections", 11), ("flows", 11))
    shown = found if len(found) <= rows else found[: rows - 1]
    for each in shown:
        table.add_row(str(each.address), f"{each.connections:,}", f"{each.flows:,}")
    if not found:
        table.add_row(Text("none", "dim"))
    if len(shown) < len(found):
        table.add_row(Text(f"and {len(found) - len(shown)} more", "dim"))
    return table


def _refusals(view: View, rows: int) -> Table:
    table = _table(("REFUSED", None), ("a second", 8))
    for count, rate in view.refusals[:rows]:
        name = count.meaning.name.removeprefix("refused_").replace("_", " ", 1)
        source = "" if count.last_source is None else f", {count.last_source}"
        table.add_row(Text(f"{name}{source}", "yellow" if rate else ""), as_text(rate))
    if not view.refusals:
        table.add_row(Text("nothing", "dim"))
    return table


def _hooks(view: View, rows: int) -> RenderableType:
    if view.costs is None:
        return Text("HOOK\nnot measured: top --cost does", "dim")
    table = _table(("HOOK", None), ("runs/s", 7), ("ns", 6), ("CPU", 6))
    for name, spent in view.costs[:rows]:
        each = f"{spent.seconds / spent.runs * NANOSECONDS:,.0f}" if spent.runs else ""
        share = f"{spent.seconds / view.seconds:.2%}" if spent.runs else ""
        table.add_row(name.removeprefix("ipvsca_"), as_text(spent.runs / view.seconds), each, share)
    return table
