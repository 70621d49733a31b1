"""Stop restoring and take everything off: programs, links, filters, maps, pins.

Connections that are open lose their client: getpeername gives the director's address from then on. Other network
namespaces in which `ipvsca load` was run keep their filters until they are unloaded there.

examples:
  ipvsca unload
"""

from __future__ import annotations

import argparse

from ipvsca import loader, settings


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="say nothing where it works")


def run(parsed: argparse.Namespace) -> None:
    removed = loader.unload(settings.read_file(parsed.config).pin_path)
    if parsed.quiet:
        return
    for change in removed:
        print(f"taken off: {change}")
    print("unloaded" if removed else "nothing was loaded")
