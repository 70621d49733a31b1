"""What the generated files tell: the verbs as the command line's parser has them, the settings as their table does.

What is in this folder runs when a package is built, from the repository's root, and needs nothing but Python.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass

from ipvsca import cli
from ipvsca.settings import DEFAULTS, MEANINGS, as_json


@dataclass(frozen=True)
class Argument:
    """An option or, without flags, a word."""

    flags: tuple[str, ...]
    value: str
    """What stands for its value, `FILE`; empty where it has none."""
    words: tuple[str, ...]
    """All values there are, where they can be listed."""
    help: str


@dataclass(frozen=True)
class Verb:
    name: str
    usage: str
    summary: str
    text: str
    """Paragraphs, and blocks with a heading: `examples:` and indented lines."""
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Key:
    name: str
    help: str
    accepts: str
    default: str
    """As TOML."""
    effect: str


def program() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    return cli.parser()


def verbs() -> Iterator[Verb]:
    """In the order of `ipvsca --help`."""
    for name, parser in _parsers().items():
        yield Verb(
            name,
            " ".join(parser.format_usage().removeprefix("usage:").split()),
            parser.description or "",
            parser.epilog or "",
            tuple(map(_argument, parser._actions)),
        )


def keys() -> Iterator[Key]:
    """In the order of the table."""
    for name, meaning in MEANINGS.items():
        default = json.dumps(as_json(getattr(DEFAULTS, name)))  # of strings, numbers, booleans, lists: also TOML
        effect = f"at once with `ipvsca set`, or with {meaning.steps}" if meaning.live else f"with {meaning.steps}"
        yield Key(name, meaning.help, meaning.accepts, default, effect)


def _parsers() -> dict[str, argparse.ArgumentParser]:
    (verbs_,) = (action for action in program()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(verbs_.choices)


def _argument(action: argparse.Action) -> Argument:
    words = tuple(map(str, action.choices or ()))
    value = "" if action.nargs == 0 else str(action.metavar or "|".join(words) or action.dest.upper())
    return Argument(tuple(action.option_strings), value, words or _KEYS.get(value, ()), action.help or "")


_KEYS = {
    "KEY": tuple(MEANINGS),
    "KEY=VALUE": tuple(f"{key}=" for key, meaning in MEANINGS.items() if meaning.live),
}
