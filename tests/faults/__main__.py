"""Kill ipvsca before each system call that changes something, and have the kernel refuse each, with traffic going on.

exit status:
  0  nobody was shown a wrong address, and what was left could be finished or taken off each time
  1  not so
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.e2e.traffic import Traffic
from tests.faults.calls import MISSING, Call
from tests.faults.scenarios import Scenario, Stage
from tests.lab.topology import Lab
from tests.rig import Ipvsca


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all trials; gives the exit status."""
    parsed = parser().parse_args(arguments)
    if MISSING:
        print(MISSING, file=sys.stderr)
        return 1
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lab = stack.enter_context(Lab())
        traffic = Traffic(lab, lab.start_director(), folder)
        stage = Stage.set(traffic, Ipvsca(lab.server, lab.bpffs / "ipvsca", lab.cgroup, folder), folder)
        wanted = [scenario for scenario in Scenario if scenario.value in (parsed.only or [scenario.value])]
        failed = [scenario for scenario in wanted if not _passes(stage, scenario, parsed.every)]
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="make faults", description=__doc__.partition("\n")[0])
    whole.add_argument("--every", type=int, default=1, metavar="N", help="only each nth call; default 1")
    names = [scenario.value for scenario in Scenario]
    whole.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    return whole


def _passes(stage: Stage, scenario: Scenario, every: int) -> bool:
    calls = stage.calls(scenario)[::every]
    said: Counter[str] = Counter()
    killed = [_holds(stage, partial(stage.kill, scenario, call)) for call in calls if call.is_lasting]
    refused = [_holds(stage, partial(_refuse, stage, scenario, call, said)) for call in calls]
    failed = [*killed, *refused].count(False)
    print(f"{scenario.value}: killed {len(killed)} times, refused {len(refused)} times; {failed} failed")
    for line, times in said.most_common():
        print(f"  {times:4} x {line}")
    sys.stdout.flush()
    return not failed


def _refuse(stage: Stage, scenario: Scenario, call: Call, said: Counter[str]) -> None:
    said[stage.refuse(scenario, call)] += 1


def _holds(stage: Stage, trial: Callable[[], None]) -> bool:
    try:
        trial()
    except Exception:
        traceback.print_exc()
        stage.ipvsca.run("unload")
        return False
    return True


if __name__ == "__main__":
    raise SystemExit(main())
