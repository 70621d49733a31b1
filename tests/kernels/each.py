"""A pytest plugin: every test function, in the first of its cases and in those that REPRESENTATIVE names.

Which hook does what, which command says what, is seen so on a kernel; the tables of cases are seen on one alone.
"""

from __future__ import annotations

import pytest

from tests.kernels.selection import REPRESENTATIVE


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seen: set[str] = set()
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        function = item.nodeid.partition("[")[0]
        is_wanted = function not in seen or _is_representative(item.nodeid)
        (kept if is_wanted else left_out).append(item)
        seen.add(function)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def _is_representative(test: str) -> bool:
    return any(test == chosen or test.startswith((f"{chosen}::", f"{chosen}[")) for chosen in REPRESENTATIVE)
