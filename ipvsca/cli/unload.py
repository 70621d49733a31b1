"""Stop restoring and take everything off: programs, links, filters, maps, pins.

Connections that are open lose their client: getpeername gives the director's address from then on. Other network
namespaces in which `ipvsca load` was run keep their filters until they are unloaded there.

Of the configuration file only `pin_path` matters, so that no other mistake in it keeps anything loaded.

examples:
  ipvsca unload
  ipvsca unload --config /dev/null     the file is no TOML: what is at the default pin_path
"""

from __future__ import annotations

import argparse

from ipvsca import loader, settings


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="say nothing where it works")


def run(parsed: argparse.Namespace) -> None:
    removed = loader.unload(settings.read_pin_path(parsed.config))
    if parsed.quiet:
        return
    for change in removed:
        print(f"taken off: {change}")
    print("unloaded" if removed else "nothing was loaded")
