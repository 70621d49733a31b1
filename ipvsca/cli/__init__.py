"""The command line: one module a verb, and here what they share: arguments, errors, exit statuses."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from ipvsca import __version__
from ipvsca.cli.status import status_of
from ipvsca.settings import DEFAULT_FILE

VERBS = {
    "load": "load",
    "unload": "unload",
    "run": "run",
    "check": "check",
    "stats": "stats",
    "list": "list_",
    "top": "top",
    "get": "get",
    "set": "set_",
}
"""Each verb's module."""

_EPILOG = f"""\
exit status:
  0  done                                   1  something is missing on this machine, or went wrong
  2  wrong usage or wrong configuration     3  (check) addresses could be restored, but are not

examples:
  ipvsca check                     can this machine restore clients' addresses, and is it doing so?
  ipvsca load                      start restoring, with the settings of {DEFAULT_FILE}
  ipvsca stats --json              every counter, for scripts
  ipvsca set tcpopt_addr=254       at once, until the next load; the file is what lasts
  ipvsca unload                    take everything off

`ipvsca VERB --help` tells more about each.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; gives the exit status."""
    return status_of(_run, arguments)


def _run(arguments: Sequence[str] | None) -> int | None:
    words = sys.argv[1:] if arguments is None else arguments
    parsed = parser([word for word in words[:1] if word in VERBS] or VERBS).parse_args(words)
    status: int | None = module(parsed.verb).run(parsed)
    return status


def module(verb: str) -> ModuleType:
    """Imported when it is asked for, so that no verb waits for what another one needs."""
    return import_module(f"ipvsca.cli.{VERBS[verb]}")


def parser(names: Iterable[str] = VERBS) -> argparse.ArgumentParser:
    """The whole command line, or some verbs of it; manual pages and shell completion are made from it too."""
    whole = argparse.ArgumentParser(
        prog="ipvsca",
        description="Show applications the client behind a FULLNAT load balancer (LVS, DPVS), with eBPF.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"ipvsca {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config", type=Path, metavar="FILE", help=f"configuration (TOML); default {DEFAULT_FILE}, where there is one"
    )
    verbs = whole.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name in names:
        of_verb = module(name)
        summary, _, rest = (of_verb.__doc__ or "").partition("\n")
        verb = verbs.add_parser(
            name,
            parents=[common],
            help=summary,
            description=summary,
            epilog=rest.strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        of_verb.arguments(verb)
    return whole
