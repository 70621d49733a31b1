"""The page at /: state, rates, what is wrong, in one document without scripts or anything from elsewhere."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ipvsca import __version__, health, traffic
from ipvsca.ageing import Sweeps
from ipvsca.dataplane import NANOSECONDS, Count, DataPlane
from ipvsca.durations import duration, since
from ipvsca.errors import Problem
from ipvsca.health import Finding, Health
from ipvsca.settings import Settings
from ipvsca.traffic import FIGURES, REFUSALS, Figure
from ipvsca.web.history import INTERVAL_S, History

REFRESH_S = 10

_STYLE = """\
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --text: #1c2024; --dim: #60646c; --line: #dcdfe4;
  --good: #18794e; --bad: #c62a2f; --warn: #8a5a00; --accent: #3a5bc7 }
@media (prefers-color-scheme: dark) { :root { --page: #111316; --card: #1a1d21; --text: #edeef0; --dim: #a0a5ad;
  --line: #2e3238; --good: #4cc38a; --bad: #ff8b8e; --warn: #f1c264; --accent: #8da4ef } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 68rem; padding: 1rem; background: var(--page); color: var(--text);
  font: 1rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere }
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline }
h1 { font-size: 1.4rem; margin: 0 }
h2 { font-size: 1rem; margin: 1.75rem 0 .5rem }
.dim, small { color: var(--dim) }
.state small { display: block; font-weight: 400 }
.state { border-left: .4rem solid; border-radius: .25rem; background: var(--card); padding: .6rem .9rem;
  margin: 1rem 0; font-weight: 600 }
.good { color: var(--good) } .bad { color: var(--bad) } .warn { color: var(--warn) }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(max(10rem, 30%), 1fr)); gap: .75rem }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem .9rem }
.card b { display: block; font-size: 1.7rem; line-height: 1.3; font-variant-numeric: tabular-nums }
.card b small { font-size: .95rem; font-weight: 400 }
svg { display: block; width: 100%; height: 2rem; margin-top: .4rem; color: var(--accent) }
svg path { stroke: var(--line); vector-effect: non-scaling-stroke }
ul { margin: 0; padding: 0; list-style: none; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem }
li { padding: .45rem .9rem } li + li { border-top: 1px solid var(--line) }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem }
td, th { text-align: left; vertical-align: top; padding: .4rem .9rem; border-top: 1px solid var(--line) }
th { font-weight: 600; color: var(--dim); border: 0 } .number { text-align: right; font-variant-numeric: tabular-nums }
td.number, td code { white-space: nowrap; overflow-wrap: normal }
code { font: .92em ui-monospace, monospace }
footer { margin-top: 2rem; color: var(--dim) } a { color: var(--accent) }
@media (max-width: 40rem) { .wide { display: none } td, th { padding: .4rem .5rem } }
"""


@dataclass(frozen=True)
class Table:
    """What can be read where programs are loaded."""

    counts: Mapping[str, Count]
    max_flows: int
    loaded_s: float
    """Since the epoch."""


@dataclass(frozen=True)
class View:
    """All that the page shows. `rates` are per second, None where they are not known yet."""

    host: str
    health: Health
    table: Table | None
    rates: Mapping[Figure, float] | None
    courses: Mapping[Figure, Sequence[float]]
    sweep_seconds_ago: float | None


def of(settings: Settings, history: History, sweeps: Sweeps) -> str:
    """The page as things are now."""
    return html(
        View(
            socket.gethostname(),
            health.examine(settings),
            _read(settings),
            history.rates(),
            {figure: history.course(figure) for figure in FIGURES},
            None if sweeps.last_s is None else time.time() - sweeps.last_s,
        )
    )


def _read(settings: Settings) -> Table | None:
    try:
        with DataPlane(settings.pin_path) as plane:
            return Table(plane.counts(), plane.settings().max_flows, plane.build().loaded_ns / NANOSECONDS)
    except (Problem, OSError):
        return None


def html(view: View) -> str:
    """The document."""
    return "".join(
        (
            "<!doctype html><html lang=en><meta charset=utf-8>",
            '<meta name=viewport content="width=device-width, initial-scale=1">',
            f"<meta http-equiv=refresh content={REFRESH_S}>",
            f"<title>{escape(_title(view))}</title><style>{_STYLE}</style>",
            *_head(view),
            *_hooks(view.health),
            *(_figures(view, view.table) if view.table else ()),
            *_hints(view.health),
            *(_counters(view.table.counts) if view.table else ()),
            *_foot(view),
        )
    )


def _title(view: View) -> str:
    return f"{'' if view.health.is_restoring else 'NOT restoring: '}{view.host} - ipvsca"


def _head(view: View) -> Iterator[str]:
    yield f"<header><h1>{escape(view.host)}</h1><span class=dim>ipvsca {escape(__version__)}"
    if view.table and view.table.loaded_s:
        yield f", loaded {since(time.time() - view.table.loaded_s)}"
    yield "</span></header>"
    if view.health.is_restoring:
        last = view.health.last_option
        told = (
            f"last told {since(last.last_seconds_ago)} by director {escape(str(last.last_source))}"
            if last
            else "no client has been told by a trusted director yet"
        )
        hooks = len(view.health.attachments) - 1  # the first one is that programs are loaded
        yield f"<div class='state good'>Addresses are being restored <small>{hooks} hooks, {told}</small></div>"
    else:
        yield "<div class='state bad'>Addresses are NOT being restored</div>"


def _hooks(found: Health) -> Iterator[str]:
    """All of them where one is missing; where none is, there is nothing to read."""
    if not found.is_restoring:
        yield "<h2>Hooks</h2><ul>"
        yield from map(_item, sorted(found.attachments, key=lambda finding: finding.ok))
        yield "</ul>"


def _item(finding: Finding) -> str:
    if finding.ok:
        return f"<li><b class=good>ok</b> {escape(finding.what)}</li>"
    return f"<li><b class=bad>NO</b> {escape(finding.what)}: {_marked_up(str(finding.remedy))}</li>"


def _marked_up(text: str) -> str:
    """Words in backticks are code."""
    return "".join(f"<code>{word}</code>" if at % 2 else word for at, word in enumerate(escape(text).split("`")))


def _figures(view: View, table: Table) -> Iterator[str]:
    yield "<h2>Traffic</h2><div class=cards>"
    for figure in FIGURES:
        rate = view.rates[figure] if view.rates else None
        alarming = " class=warn" if figure is REFUSALS and rate else ""
        yield f"<div class=card>{escape(figure.label)}<b{alarming}>{_rate(rate)}</b>"
        yield f"<small>{figure.total(table.counts):,} in all</small>{_curve(view.courses[figure])}</div>"
    yield _flows(table)
    yield "</div>"


def _rate(rate: float | None) -> str:
    return "… <small>soon</small>" if rate is None else f"{traffic.as_text(rate)} <small>/ s</small>"


def _curve(course: Sequence[float]) -> str:
    """The rate over the last minutes, the present at the right."""
    highest = max(course, default=0.0) or 1.0
    points = " ".join(f"{at},{30 - 28 * rate / highest:.1f}" for at, rate in enumerate(course, 120 - len(course)))
    return (
        "<svg viewBox='0 0 119 32' preserveAspectRatio=none><path d='M0 31H119'/><polyline fill=none "
        f"stroke=currentColor stroke-width=1.5 vector-effect=non-scaling-stroke points='{points}'/></svg>"
    )


def _flows(table: Table) -> str:
    flows = traffic.flows(table.counts, table.max_flows)
    alarming = " class=warn" if flows > traffic.ALMOST_FULL * table.max_flows else ""
    width = 119 * flows / table.max_flows
    return (
        f"<div class=card>flows in the table<b{alarming}>{flows:,}</b><small>of {table.max_flows:,} at most</small>"
        "<svg viewBox='0 0 119 32' preserveAspectRatio=none><rect y=20 width=119 height=8 fill=currentColor "
        f"opacity=.2 /><rect y=20 width='{width:.1f}' height=8 fill=currentColor /></svg></div>"
    )


def _hints(found: Health) -> Iterator[str]:
    if not found.hints:
        return
    yield "<h2>Look at</h2><ul>"
    for hint in found.hints:
        count = hint.count
        source = "" if count.last_source is None else f", last from {escape(str(count.last_source))}"
        ago = "" if count.last_seconds_ago is None else f" {since(count.last_seconds_ago)}"
        yield (
            f"<li><b class=warn>{escape(count.meaning.name)} {count.total:,}</b>{source}{ago}: "
            f"{_marked_up(hint.text)}</li>"
        )
    yield "</ul>"


def _counters(counts: Mapping[str, Count]) -> Iterator[str]:
    counted = [count for count in counts.values() if count.total]
    if not counted:
        return
    yield "<h2>Counters that are not 0</h2><table><tr><th class=number>total<th>counter<th class=wide>meaning"
    for count in counted:
        yield f"<tr><td class=number>{count.total:,}<td><code>{escape(count.meaning.name)}</code>"
        if count.last_source:
            yield f"<br><small>{since(count.last_seconds_ago)}, {escape(str(count.last_source))}</small>"
        yield f"<td class='wide dim'>{escape(count.meaning.help)}"
    yield "</table>"


def _foot(view: View) -> Iterator[str]:
    swept = since(view.sweep_seconds_ago)
    yield f"<footer>Rates over {2 * INTERVAL_S:.0f} s, curves over {duration(120 * INTERVAL_S)}. "
    yield f"Last sweep {swept}. This page is read anew every {REFRESH_S} s. "
    yield "<a href=metrics>metrics</a> · <a href=healthz>health</a></footer></html>\n"
