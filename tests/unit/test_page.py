"""The page: it says what is, shows nothing as markup that is not ours, and fetches nothing."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from ipaddress import ip_address

import pytest

from ipvsca import counters
from ipvsca.dataplane import Count
from ipvsca.health import Finding, Health, Hint
from ipvsca.traffic import CONNECTIONS_RESTORED, FIGURES, REFUSALS
from ipvsca.web import page
from ipvsca.web.page import Table, View

MEANINGS = {meaning.name: meaning for meaning in (*counters.meanings(), *counters.SWEPT.values())}
VOID = {"br", "meta", "path", "polyline", "rect"}
CLOSED_BY_OTHERS = {"tr", "th", "td"}

LOADED = Finding("programs of version 1 are loaded")
SOUND = Health((), (LOADED, Finding("tc ingress of eth0")), (), None)
BROKEN = Health((), (LOADED, Finding("tc ingress of <b>&", "not attached: `ipvsca load`")), (), None)
UNLOADED = Health((), (Finding("programs are loaded", "nothing is loaded"),), (), None)


def count(name: str, total: int = 0, source: str | None = None) -> Count:
    last_ns = time.monotonic_ns() if source else 0
    return Count(MEANINGS[name], (total,), last_ns, ip_address(source) if source else None)


def counts(*these: Count) -> dict[str, Count]:
    return {name: count(name) for name in MEANINGS} | {each.meaning.name: each for each in these}


def view(health: Health = SOUND, table: Table | None = None, rate: float | None = None) -> View:
    rates = None if rate is None else dict.fromkeys(FIGURES, rate)
    courses = dict.fromkeys(FIGURES, [] if rate is None else [0.0, rate, 2 * rate])
    return View("host", health, table, rates, courses, 3.0)


class Text(HTMLParser):
    """What is to be read, and that every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.words = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attributes: object) -> None:
        if tag not in VOID | CLOSED_BY_OTHERS:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self._open[-1] != "style":
            self.words += f"{data} "

    def close(self) -> None:
        super().close()
        assert self._open == []


def words(view: View) -> str:
    text = Text()
    text.feed(page.html(view))
    text.close()
    return " ".join(text.words.split())


TABLE = Table(counts(), 1000, time.time() - 7200)


def test_no_traffic() -> None:
    said = words(view(table=TABLE))
    assert "Addresses are being restored 1 hooks, no client has been told by a trusted director yet" in said
    assert "loaded 2 h ago" in said
    assert "flows in the table 0 of 1,000 at most" in said
    assert "TCP connections restored … soon 0 in all" in said
    assert "Look at" not in said
    assert "Counters" not in said


def test_some_traffic() -> None:
    told = count("tcp_restored_ack", 12345, "10.90.0.2")
    table = Table(counts(told, count("flows_new", 7)), 1000, time.time())
    said = words(view(Health((), SOUND.attachments, (), told), table, rate=1234.5))
    assert "last told 0.0 s ago by director 10.90.0.2" in said
    assert "TCP connections restored 1,234 / s 12,345 in all" in said
    assert "flows in the table 7 of 1,000" in said
    assert f"12,345 tcp_restored_ack 0.0 s ago, 10.90.0.2 {MEANINGS['tcp_restored_ack'].help}" in said
    assert "tcp_restored_syn" not in said


def test_a_hook_is_missing() -> None:
    html = page.html(view(BROKEN, TABLE))
    assert "<title>NOT restoring: host - ipvsca</title>" in html
    assert "tc ingress of &lt;b&gt;&amp;: not attached: <code>ipvsca load</code>" in html
    said = words(view(BROKEN, TABLE))
    assert said.index("NO tc ingress of <b>&") < said.index("ok programs of version 1")


def test_nothing_is_loaded() -> None:
    said = words(view(UNLOADED))
    assert "Addresses are NOT being restored" in said
    assert "NO programs are loaded: nothing is loaded" in said
    assert "Traffic" not in said


def test_hints() -> None:
    hint = Hint(count("refused_ack_untrusted", 3, "fd00::1"), "a director is missing in `trusted` <i>")
    html = page.html(view(Health((), SOUND.attachments, (hint,), None), TABLE))
    assert "refused_ack_untrusted 3</b>, last from fd00::1 0.0 s ago: a director is missing in <code>trusted" in html
    assert "<i>" not in html


@pytest.mark.parametrize("shown", [view(UNLOADED), view(BROKEN, TABLE), view(table=TABLE, rate=1.0)])
def test_it_fetches_nothing(shown: View) -> None:
    html = page.html(shown)
    assert re.findall(r"(?:href|src)=(\S+?)>", html) == ["metrics", "healthz"]
    assert not re.search(r"<script|javascript|url\(|@import|https?:|\bon\w+=", html)


@pytest.mark.parametrize(
    ("rate", "shown"),
    [(0, "0"), (0.001, "0.01"), (0.1, "0.10"), (5, "5.0"), (99.94, "99.9"), (1234567, "1,234,567")],
)
def test_a_rate(rate: float, shown: str) -> None:
    assert f"TCP connections restored {shown} / s" in words(view(table=TABLE, rate=rate))


def test_only_refusals_that_grow_alarm() -> None:
    assert "<b class=warn>1.0" in page.html(view(table=TABLE, rate=1.0))
    html = page.html(view(table=TABLE, rate=0.0))
    assert "class=warn>" not in html
    assert REFUSALS.label in html
    assert CONNECTIONS_RESTORED.label in html
