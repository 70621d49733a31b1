"""Print the completion of ipvsca's command line for a shell: `python3 -m tools.completion bash`, or `zsh`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tools.facts import Argument, Verb, verbs

_BASH = """\
# bash completion for ipvsca

_ipvsca() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} words=
    case ${{COMP_WORDS[COMP_CWORD - 1]}} in
{values}
    *) case $COMP_CWORD:${{COMP_WORDS[1]}} in
        1:*) words="--help --version {names}" ;;
{verbs}
        esac ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    [[ ${{COMPREPLY[0]-}} != *= ]] || compopt -o nospace
}}

complete -o default -F _ipvsca ipvsca
"""

_ZSH = """\
#compdef ipvsca

local -a verbs=(
{names}
)
local curcontext=$curcontext state line
_arguments -C '(- *)'{{-h,--help}}'[show help]' '(- *)--version[show the version]' '1:verb:->verb' '*::argument:->rest'
case $state in
verb) _describe verb verbs ;;
rest)
    case $words[1] in
{verbs}
    esac ;;
esac
"""


def _bash() -> str:
    described = list(verbs())
    options = [argument for verb in described for argument in verb.arguments if argument.flags and argument.value]
    return _BASH.format(
        names=" ".join(verb.name for verb in described),
        values="\n".join(dict.fromkeys(map(_bash_value, options))),
        verbs="\n".join(f'        *:{verb.name}) words="{" ".join(_words(verb))}" ;;' for verb in described),
    )


def _bash_value(option: Argument) -> str:
    return f'    {"|".join(option.flags)}) words="{" ".join(option.words)}" ;;'


def _words(verb: Verb) -> Iterator[str]:
    for argument in verb.arguments:
        yield from argument.flags[-1:] or argument.words


def _zsh() -> str:
    described = list(verbs())
    return _ZSH.format(
        names="\n".join(f"    {_quoted(f'{verb.name}:{verb.summary}')}" for verb in described),
        verbs="\n".join(map(_zsh_verb, described)),
    )


def _zsh_verb(verb: Verb) -> str:
    return f"    {verb.name}) _arguments {' '.join(map(_zsh_argument, verb.arguments))} ;;"


def _zsh_argument(argument: Argument) -> str:
    """As _arguments takes it: `--option[what it does]:VALUE:what completes it`; a word may come again and again."""
    how = f"({' '.join(argument.words)})" if argument.words else "_files" if argument.value == "FILE" else " "
    value = f":{argument.value}:{how}" if argument.value else ""
    if not argument.flags:
        return _quoted(f"*{value}")
    return _quoted(f"{argument.flags[-1]}[{argument.help.replace('[', '(').replace(']', ')')}]{value}")


def _quoted(text: str) -> str:
    escaped = text.replace("'", "'\\''")
    return f"'{escaped}'"


print({"bash": _bash, "zsh": _zsh}[sys.argv[1]](), end="")
