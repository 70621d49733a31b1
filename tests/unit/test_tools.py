"""What is made from the parser and from the table of settings: manual pages, completion, the configuration file."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from ipvsca import settings
from ipvsca.cli import VERBS
from ipvsca.settings import DEFAULTS, MEANINGS
from tests.rig import REPOSITORY
from tools import facts

OPTIONS = {flag for verb in facts.verbs() for argument in verb.arguments for flag in argument.flags}


@cache
def made(tool: str, *arguments: str) -> str:
    """What a tool prints."""
    command = [sys.executable, "-m", f"tools.{tool}", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout


def page(name: str) -> str:
    """A manual page without what is markup."""
    return re.sub(r"\\f[BIR]", "", made("manpages", name)).replace("\\-", "-").replace("\\(aq", "'")


def test_the_verbs_are_all_verbs() -> None:
    assert [verb.name for verb in facts.verbs()] == list(VERBS)


def test_the_configuration_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "ipvsca.toml"
    file.write_text(text := made("conffile"))
    assert tomllib.loads(text) == {}
    assert settings.read_file(file) == DEFAULTS


def test_the_configuration_file_shows_the_defaults(tmp_path: Path) -> None:
    """With the comment signs taken away that stand directly before a key."""
    file = tmp_path / "ipvsca.toml"
    file.write_text(text := re.sub(r"^#(?=\w)", "", made("conffile"), flags=re.MULTILINE))
    assert list(tomllib.loads(text)) == list(MEANINGS)
    assert settings.read_file(file) == DEFAULTS


@pytest.mark.parametrize("key", MEANINGS)
def test_every_setting_is_explained(key: str) -> None:
    """In the file and in the manual page: what it is, what it accepts, how it takes effect."""
    meaning = MEANINGS[key]
    for text in (made("conffile").replace("\n#  ", ""), page("ipvsca.toml.5").replace("\\e", "\\")):
        for each in (meaning.help[1:], meaning.accepts, meaning.steps.replace("`", "")):
            assert " ".join(each.split()) in " ".join(text.replace("`", "").split())


def test_every_verb_and_option_is_in_the_manual() -> None:
    text = page("ipvsca.8")
    for verb in facts.verbs():
        assert f"\n.SS {verb.usage}\n{verb.summary}" in text
        assert all(argument.help in text for argument in verb.arguments)
    assert all(re.search(rf"^{option}|, {option}", text, re.MULTILINE) for option in OPTIONS)


@pytest.mark.parametrize("name", ["ipvsca.8", "ipvsca.toml.5"])
def test_a_manual_page_is_set_without_warnings(name: str, tmp_path: Path) -> None:
    if not shutil.which("groff"):
        pytest.skip("needs groff: apt install groff-base")
    command = ["groff", "-man", "-Tutf8", "-ww", "-z"]
    done = subprocess.run(command, input=made("manpages", name), capture_output=True, text=True, check=True)
    assert done.stderr == ""


def offered(*words: str) -> set[str]:
    """What bash offers for the last word."""
    script = f"""
        {made("completion", "bash")}
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ipvsca; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script, "bash", "ipvsca", *words], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_bash_offers_every_verb() -> None:
    assert offered("") == {*VERBS, "--help", "--version"}


@pytest.mark.parametrize("verb", [*facts.verbs()], ids=lambda verb: verb.name)
def test_bash_offers_every_option(verb: facts.Verb) -> None:
    assert offered(verb.name, "--") == {argument.flags[-1] for argument in verb.arguments if argument.flags}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("l",), {"load", "list"}),
        (("list", "--proto", ""), {"tcp", "udp"}),
        (("list", "--proto", "u"), {"udp"}),
        (("get", "tcp_"), {"tcp_timeout", "tcp_connect"}),
        (("get", "tcp_timeout", "udp_t"), {"udp_timeout"}),
        (("set", "tcp_"), {"tcp_timeout=", "tcp_connect="}),
        (("set", "tcpopt_"), {"tcpopt_addr=", "tcpopt_in="}),
        (("load", "--config", ""), set()),
    ],
)
def test_bash_offers_words(words: tuple[str, ...], expected: set[str]) -> None:
    """Where it offers none, bash completes file names."""
    assert offered(*words) == expected


def test_zsh_knows_every_verb_and_option() -> None:
    text = made("completion", "zsh")
    for verb in facts.verbs():
        assert f"\n    '{verb.name}:" in text
        (line,) = re.findall(rf"^    {verb.name}\) _arguments (.*) ;;$", text, re.MULTILINE)
        assert all(f"'{argument.flags[-1]}[" in line for argument in verb.arguments if argument.flags)
