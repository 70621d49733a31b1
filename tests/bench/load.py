"""How long `ipvsca load` takes: where nothing is loaded, and where everything is; and what of it is the compiler's."""

from __future__ import annotations

import shutil
import sys
import time
from functools import partial

from tests.bench.run import Bench

PART = "load"
START_BCC = "import bcc"
COMPILE = """
import sys
from pathlib import Path
from ipvsca.kernel import compiler, source
from ipvsca.kernel.programs import PROGRAMS
from ipvsca.settings import DEFAULTS

wanted = [program for program in PROGRAMS if program.is_wanted(DEFAULTS)]
with compiler.compiled(source.text(wanted), Path(sys.argv[1]), DEFAULTS.max_flows):
    pass
"""


def run(bench: Bench) -> None:
    """Seconds from the start of the process to its end."""
    bench.stage.restoring(False)
    measures = {
        "cold": partial(_load, bench, False),
        "nothing to do": partial(_load, bench, True),
        "of it starting bcc": partial(_python, bench, START_BCC),
        "of it starting bcc, and compiling": partial(_python, bench, COMPILE),
    }
    bench.interleave(PART, "ipvsca load", "s", measures)


def _load(bench: Bench, again: bool) -> float:
    bench.stage.restoring(again)
    began = time.monotonic()
    bench.stage.ipvsca.run("load")
    took = time.monotonic() - began
    bench.stage.restoring(True)  # so that the stage knows
    return took


def _python(bench: Bench, program: str) -> float:
    """A process of its own that does this much; maps that it pins are taken away again."""
    maps = bench.stage.bpffs / "maps"
    maps.mkdir()
    began = time.monotonic()
    bench.stage.server.run([sys.executable, "-c", program, maps])
    took = time.monotonic() - began
    shutil.rmtree(maps)
    return took
