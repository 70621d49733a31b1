"""Print a manual page, in man(7)'s language: `python3 -m tools.manpages ipvsca.8`, or `ipvsca.toml.5`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence

from ipvsca import __version__
from ipvsca.settings import DEFAULT_FILE
from tools.facts import Argument, Key, Verb, keys, program, verbs

_ESCAPED = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "^": r"\(ha", "~": r"\(ti"}


def _program() -> Iterator[str]:
    yield from _head("ipvsca", 8, "show applications the client behind a FULLNAT load balancer")
    yield from _section("SYNOPSIS", r"\fBipvsca\fR \fIVERB\fR [\fIoption\fR ...]")
    parser = program()
    yield from _section("DESCRIPTION", _prose(parser.description or ""), *_text(parser.epilog or ""))
    yield from _section("VERBS")
    described = list(verbs())
    common = [argument for argument in described[0].arguments if all(argument in verb.arguments for verb in described)]
    for verb in described:
        yield from _verb(verb, common)
    yield from _section("OPTIONS OF EVERY VERB")
    yield from _arguments(common)
    yield from _section("FILES")
    yield from _item(_bold(str(DEFAULT_FILE)), "The settings, see ipvsca.toml(5).")
    yield from _item(_bold("/sys/fs/bpf/ipvsca"), "Where programs and maps are pinned.")
    yield from _section("SEE ALSO", r"\fBipvsca.toml\fR(5), \fBbpftool\fR(8)")


def _verb(verb: Verb, common: Sequence[Argument]) -> Iterator[str]:
    yield f".SS {_escaped(verb.usage)}"
    yield _prose(verb.summary)
    yield from _text(verb.text)
    yield from _arguments(argument for argument in verb.arguments if argument not in common)


def _arguments(arguments: Iterable[Argument]) -> Iterator[str]:
    for argument in arguments:
        yield from _item(_name(argument), argument.help)


def _name(argument: Argument) -> str:
    value = f" \\fI{_escaped(argument.value)}\\fR" if argument.value else ""
    return ", ".join(map(_bold, argument.flags)) + value if argument.flags else value.strip()


def _settings() -> Iterator[str]:
    yield from _head("ipvsca.toml", 5, "settings of ipvsca")
    yield from _section("SYNOPSIS", _bold(str(DEFAULT_FILE)))
    yield from _section(
        "DESCRIPTION",
        _prose(
            "A file in TOML, one `KEY = VALUE` a line. There need not be one: a key that is left out has its default. "
            "A key that does not exist, and a value that is not accepted, is an error: nothing is changed then. "
            "`ipvsca load` puts the file into force, `ipvsca get` shows what is."
        ),
    )
    yield from _section("SETTINGS")
    for key in keys():
        yield from _setting(key)
    yield from _section("SEE ALSO", r"\fBipvsca\fR(8)")


def _setting(key: Key) -> Iterator[str]:
    yield from _item(f"{_bold(key.name)} = {_escaped(key.default)}", f"{key.help[0].upper()}{key.help[1:]}.")
    yield from (".IP", _prose(f"Accepts {key.accepts}."))
    yield from (".IP", _prose(f"Takes effect {key.effect}."))


def _head(name: str, section: int, purpose: str) -> Iterator[str]:
    yield f'.TH {name.upper()} {section} "" "ipvsca {__version__}"'
    yield from _section("NAME", rf"{name} \- {_escaped(purpose)}")


def _section(title: str, *lines: str) -> Iterable[str]:
    return (f".SH {title}", *lines)


def _item(term: str, text: str) -> Iterable[str]:
    return (".TP", term, _prose(text))


def _text(text: str) -> Iterator[str]:
    """Paragraphs, and blocks as they stand in the help: a heading with a colon, indented lines."""
    for paragraph in filter(None, text.strip().split("\n\n")):
        heading, _, lines = paragraph.partition("\n")
        yield ".PP"
        if heading.endswith(":") and lines.startswith(" "):
            yield from (_escaped(heading[0].upper() + heading[1:]), ".PP", ".RS 4", ".EX")
            yield from (_escaped(line.removeprefix("  ")) for line in lines.splitlines())
            yield from (".EE", ".RE")
        else:
            yield _prose(paragraph.replace("\n", " "))


def _prose(text: str) -> str:
    """What stands in backticks is set bold."""
    return re.sub(r"`([^`]*)`", r"\\fB\1\\fR", _escaped(text))


def _bold(text: str) -> str:
    return f"\\fB{_escaped(text)}\\fR"


def _escaped(text: str) -> str:
    escaped = "".join(_ESCAPED.get(character, character) for character in text)
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


print("\n".join({"ipvsca.8": _program, "ipvsca.toml.5": _settings}[sys.argv[1]]()))
