"""One line an event, with its level where the journal reads it; a complaint is not repeated all the time."""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from collections.abc import Iterator

import pytest

from ipvsca import log

Capture = pytest.CaptureFixture[str]

_log = logging.getLogger("ipvsca.somewhere")


@pytest.fixture(autouse=True)
def _started() -> Iterator[None]:
    log.start()
    yield
    logging.getLogger("ipvsca").handlers.clear()


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")


def test_a_line_for_each_event(capsys: Capture) -> None:
    _log.debug("nothing")
    _log.info("attached to %s", "eth0")
    _log.warning("careful:\nthere is more")
    _log.error("no")
    assert capsys.readouterr() == ("", "attached to eth0\nwarning: careful: there is more\nerror: no\n")


@pytest.mark.usefixtures("journal")
def test_the_journal_is_told_the_level(capsys: Capture) -> None:
    _log.info("attached")
    _log.warning("careful")
    _log.error("no")
    assert capsys.readouterr().err == "<6>attached\n<4>warning: careful\n<3>error: no\n"


def test_another_stream_of_the_journal_is_not_ours(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """As of a program that a service starts with its standard error elsewhere."""
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    _log.error("no")
    assert capsys.readouterr().err == "error: no\n"


def test_a_complaint_is_repeated_once_a_minute(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for now in (1000.0, 1001.0, 1059.0, 1060.0, 1061.0):
        _log.warning("eth0 refuses")
        _log.warning("eth1 refuses at %.0f", now)
        _log.info("reloaded")
    said = capsys.readouterr().err.splitlines()
    assert said.count("warning: eth0 refuses") == 2
    assert sum("eth1" in line for line in said) == said.count("reloaded") == 5


class Unread(io.StringIO):
    """A pipe whose reader is gone."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_log_that_nobody_reads_disturbs_nothing(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Unread())
        _log.error("unheard")
    _log.error("heard")
    assert capsys.readouterr().err == "error: heard\n"


def test_starting_twice_says_nothing_twice(capsys: Capture) -> None:
    log.start()
    _log.info("once")
    assert capsys.readouterr().err == "once\n"
