"""Load where needed, then stay in the foreground and keep the tables tidy.

SIGTERM or SIGINT ends it. What is loaded stays in force then, also after kill -9: `ipvsca unload` takes it off.

examples:
  ipvsca run
  ipvsca run --config /etc/ipvsca/ipvsca.toml
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from ipvsca import daemon, settings


def arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(parsed: argparse.Namespace) -> int:
    wanted = settings.read_file(parsed.config)
    # Loading brings in a compiler; a process of its own takes it away again.
    config = [] if parsed.config is None else ["--config", str(parsed.config)]
    status = subprocess.run([sys.executable, "-m", "ipvsca", "load", *config], check=False).returncode
    if status == 0:
        daemon.run(wanted.pin_path)
    return status
