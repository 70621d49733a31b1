"""What a command imports: a verb does not wait for what only others need, nor does the daemon carry it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ipvsca.cli import VERBS

# Prints, last of all, the names of all modules that the verb's help has brought in.
PROGRAM = "import sys; from ipvsca import cli; cli.main([sys.argv[1], '--help']); print(*sys.modules)"

HEAVY = {"bcc", "http.server", "prometheus_client", "rich"}
READS_MAPS_ONLY = {"list", "set", "stats"}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_brings_in_what_it_needs(verb: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, verb], capture_output=True, text=True, check=True)
    modules = set(done.stdout.splitlines()[-1].split())
    assert f"ipvsca.cli.{VERBS[verb]}" in modules
    assert not modules & HEAVY
    assert ("ipvsca.loader" in modules) == (verb not in READS_MAPS_ONLY)
