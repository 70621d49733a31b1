"""What a file that the settings name has to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ipvsca.errors import Problem
from ipvsca.settings import DEFAULTS
from ipvsca.web.server import _login, _tls


@pytest.mark.parametrize(("content", "sent"), [("a:b", b"YTpi"), ("a:b\n", b"YTpi"), ("a:b:c", b"YTpiOmM=")])
def test_a_login(tmp_path: Path, content: str, sent: bytes) -> None:
    file = tmp_path / "login"
    file.write_text(content)
    assert _login(replace(DEFAULTS, metrics_login=file)) == sent


@pytest.mark.parametrize("content", ["", "\n", "a", "a:", ":b", "a:b\nc:d"])
def test_no_login(tmp_path: Path, content: str) -> None:
    file = tmp_path / "login"
    file.write_text(content)
    with pytest.raises(Problem, match=f"^metrics_login: {file} has to be one line, USER:PASSWORD$"):
        _login(replace(DEFAULTS, metrics_login=file))


def test_no_certificate(tmp_path: Path) -> None:
    file = tmp_path / "certificate"
    file.write_text("nothing")
    for one in (file, tmp_path / "nowhere"):
        with pytest.raises(Problem, match=f"^metrics_tls: {one} and {file} cannot be used: "):
            _tls(replace(DEFAULTS, metrics_tls=(one, file)))


def test_neither_is_asked_for_by_default() -> None:
    assert _login(DEFAULTS) == b""
    assert _tls(DEFAULTS) is None
