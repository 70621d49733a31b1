"""Show the settings: the value in force and, where it differs, the file's.

Of `interfaces`, what is in force is those of this network namespace that programs are attached to.

examples:
  ipvsca get
  ipvsca get tcpopt_addr
  ipvsca get --json
"""

from __future__ import annotations

import argparse

from ipvsca import loader, settings
from ipvsca.cli import output
from ipvsca.settings import MEANINGS


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", nargs="*", metavar="KEY", help=f"one of: {', '.join(MEANINGS)}")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(parsed: argparse.Namespace) -> None:
    for key in parsed.key:
        settings.require_known(key, "command line")
    keys = parsed.key or list(MEANINGS)
    in_file = settings.read_file(parsed.config)
    in_force = loader.in_force(in_file)
    values = {key: getattr(in_force, key) for key in keys}
    if parsed.json:
        output.print_json(
            {
                key: {
                    "value": settings.as_json(value),
                    "file": settings.as_json(getattr(in_file, key)),
                    "differs": not _same(getattr(in_file, key), value),
                }
                for key, value in values.items()
            }
        )
        return
    for key, value in values.items():
        wanted = getattr(in_file, key)
        note = "" if _same(wanted, value) else f"    # the file says {settings.as_text(wanted)}"
        print(f"{key}={settings.as_text(value)}{note}")


def _same(one: object, other: object) -> bool:
    """The order of a list of kinds or prefixes means nothing."""
    return set(one) == set(other) if isinstance(one, tuple) and isinstance(other, tuple) else one == other
