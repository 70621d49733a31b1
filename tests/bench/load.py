"""How long `ipvsca load` takes: where nothing is loaded, and where everything is."""

from __future__ import annotations

import time
from functools import partial

from tests.bench.run import Bench

PART = "load"


def run(bench: Bench) -> None:
    """Seconds from the start of the process to its end."""
    bench.stage.restoring(False)
    measures = {"cold": partial(_load, bench, False), "nothing to do": partial(_load, bench, True)}
    bench.interleave(PART, "ipvsca load", "s", measures)


def _load(bench: Bench, again: bool) -> float:
    bench.stage.restoring(again)
    began = time.monotonic()
    bench.stage.ipvsca.run("load")
    took = time.monotonic() - began
    bench.stage.restoring(True)  # so that the stage knows
    return took
