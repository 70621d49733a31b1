"""Which tests run on other kernels: what is selected is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.kernels.selection import ALL, EACH, REPRESENTATIVE


def collected(*arguments: str) -> set[str]:
    """The tests that pytest finds. It fails where one that is named does not exist."""
    argv = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(argv, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"^tests/.+::.+$", done.stdout, re.MULTILINE))


def functions(tests: set[str]) -> set[str]:
    return {test.partition("[")[0] for test in tests}


def test_each_has_every_function_and_what_is_representative() -> None:
    each = collected(*EACH)
    assert functions(each) == functions(collected(*ALL))
    representative = collected(*REPRESENTATIVE)
    assert representative < each
    once = functions(each) - functions(representative)
    assert len([test for test in each if test.partition("[")[0] in once]) == len(once)
