"""Change settings at once, until the next load; what lasts is the configuration file.

Values are written as in the file; quotes may be left out, and several are separated by commas.

examples:
  ipvsca set tcp_timeout=60
  ipvsca set tcpopt_addr=200,254
  ipvsca set trusted=10.8.0.0/24,fd00::/8
"""

from __future__ import annotations

import argparse

from ipvsca import settings
from ipvsca.dataplane import DataPlane
from ipvsca.errors import ConfigurationError
from ipvsca.kernel.pins import Pins
from ipvsca.settings import MEANINGS


def arguments(parser: argparse.ArgumentParser) -> None:
    live = ", ".join(key for key, meaning in MEANINGS.items() if meaning.live)
    parser.add_argument("assignment", nargs="+", metavar="KEY=VALUE", help=f"KEY is one of: {live}")


def run(parsed: argparse.Namespace) -> None:
    pin_path = settings.read_file(parsed.config).pin_path
    _, keys = settings.changed(settings.DEFAULTS, parsed.assignment)
    for key in sorted(keys):
        if not MEANINGS[key].live:
            raise ConfigurationError(
                f"command line: {key} cannot be set: change the file; it takes effect with {MEANINGS[key].steps}"
            )
    with Pins.at(pin_path).locked(), DataPlane(pin_path) as plane:
        wanted, _ = settings.changed(plane.settings(), parsed.assignment)
        plane.apply(wanted)
    for key in sorted(keys):
        print(f"{key}={settings.as_text(getattr(wanted, key))}")
