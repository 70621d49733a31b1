"""Show the settings: the value in force and, where it differs, the file's.

Settings that only the next load brings into force are shown from the file.

examples:
  ipvsca get
  ipvsca get tcpopt_addr
  ipvsca get --json
"""

from __future__ import annotations

import argparse

from ipvsca import settings
from ipvsca.cli import output
from ipvsca.dataplane import DataPlane
from ipvsca.settings import MEANINGS


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", nargs="*", metavar="KEY", help=f"one of: {', '.join(MEANINGS)}")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(parsed: argparse.Namespace) -> None:
    for key in parsed.key:
        settings.require_known(key, "command line")
    keys = parsed.key or list(MEANINGS)
    in_file = settings.read_file(parsed.config)
    with DataPlane(in_file.pin_path) as plane:
        running = plane.settings()
    values = {key: getattr(running if MEANINGS[key].live else in_file, key) for key in keys}
    if parsed.json:
        output.print_json(
            {
                key: {"value": settings.as_json(value), "file": settings.as_json(getattr(in_file, key))}
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
