"""What ipvsca is made with is pinned, and what it is made of starts no shell and runs no text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.rig import REPOSITORY
from tools.dependencies import development

LOCK = (REPOSITORY / "requirements-dev.txt").read_text()
PIN = re.compile(r"^([a-z0-9.-]+)==(\S+)[^\\]*((?:\\\n    --hash=sha256:[0-9a-f]{64} ?)+)$", re.MULTILINE)
PINNED = {name: version for name, version, _ in PIN.findall(LOCK)}

SOURCES = sorted(path for folder in ("ipvsca", "tools") for path in (REPOSITORY / folder).rglob("*.py"))

RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
STARTS_PROGRAMS = re.compile(r"os\.(system|popen|exec\w+|spawn\w+|posix_spawn\w*)|pty\.spawn")
UNPACKS_OBJECTS = {"marshal", "pickle", "shelve"}


@pytest.mark.parametrize("requirement", list(map(Requirement, development())), ids=str)
def test_every_tool_is_pinned(requirement: Requirement) -> None:
    """To a version that pyproject.toml accepts."""
    assert requirement.specifier.contains(PINNED[canonicalize_name(requirement.name)])


def test_every_pin_has_hashes() -> None:
    """Each line of the lock is a pin's, one of its hashes or a comment."""
    rest = re.sub(r"^ *#.*\n", "", PIN.sub("", LOCK), flags=re.MULTILINE)
    assert rest.strip() == ""
    assert LOCK.count("==") - LOCK.count(" == ") == len(PINNED)


def test_what_is_installed_is_asked_for_by_hash() -> None:
    installed = re.findall(
        r"^\t\$\(VENV\)/pip (?:install|wheel) (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE
    )
    assert installed == [
        "--quiet --no-deps --no-build-isolation --wheel-dir dist .",
        "--quiet --require-hashes --requirement $(LOCK)",
        "--quiet --no-deps --no-build-isolation --editable .",
    ]


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def imported(path: Path) -> set[str]:
    tree = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module or "" for node in tree if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_shell_and_no_text_that_is_run(path: Path) -> None:
    names = {ast.unparse(call.func) for call in calls(path)}
    assert not names & RUNS_TEXT
    assert not [name for name in names if STARTS_PROGRAMS.fullmatch(name)]
    assert not any(keyword.arg == "shell" for call in calls(path) for keyword in call.keywords)
    assert not imported(path) & {"subprocess", *UNPACKS_OBJECTS}
