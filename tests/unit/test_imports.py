"""Modules import downwards only, and what is pure imports nothing that can touch the world."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ipvsca"

# From top to bottom: a module imports from its own layer and from those below it.
LAYERS = (
    ("ipvsca.__main__",),
    ("ipvsca.cli",),
    ("ipvsca.daemon",),
    ("ipvsca.web", "ipvsca.watch"),
    ("ipvsca.health",),
    ("ipvsca.ageing", "ipvsca.refusals"),
    ("ipvsca.loader",),
    ("ipvsca.cost", "ipvsca.directors", "ipvsca.traffic"),
    ("ipvsca.dataplane",),
    ("ipvsca.layouts",),
    ("ipvsca.counters", "ipvsca.settings"),
    ("ipvsca.kernel",),
    ("ipvsca.wire",),
    ("ipvsca.address", "ipvsca.durations", "ipvsca.errors", "ipvsca.log", "ipvsca.notify"),
    ("ipvsca",),
)

ONLY_IMPORTED_BY = {
    "bcc": "ipvsca.kernel.compiler",
    "prometheus_client": "ipvsca.web.metrics",
    "rich": "ipvsca.cli.screen",
}

PURE = ("ipvsca.address", "ipvsca.errors", "ipvsca.wire")
HARMLESS = {"__future__", "collections", "dataclasses", "enum", "ipaddress", "struct", "typing"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> set[str]:
    """What a module imports, inside functions too: names of our modules, and top-level names of others'."""
    return {_ours_or_top_level(name) for name in _imported_names(MODULES[module])}


def _imported_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _ours_or_top_level(name: str) -> str:
    """`ipvsca.wire.toa.parse` is an import of ipvsca.wire.toa."""
    top = name.partition(".")[0]
    if top != PACKAGE.name:
        return top
    while name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def layer(module: str) -> int:
    """The layer named by the longest beginning of the module's name."""
    named = {prefix: index for index, layer in enumerate(LAYERS) for prefix in layer}
    name = module
    while name not in named:
        name = name.rpartition(".")[0]
    assert (name == PACKAGE.name) == (module == PACKAGE.name), f"{module} is in no layer: put it into the table"
    return named[name]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module: str) -> None:
    upwards = [name for name in imports(module) if name in MODULES and layer(name) < layer(module)]
    assert not upwards


def test_no_imports_in_a_circle() -> None:
    TopologicalSorter({module: imports(module) & MODULES.keys() for module in MODULES}).prepare()


@pytest.mark.parametrize(("library", "where"), ONLY_IMPORTED_BY.items())
def test_libraries_that_one_module_may_import(library: str, where: str) -> None:
    assert {module for module in MODULES if library in imports(module)} == {where}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_else_has_to_be_installed(module: str) -> None:
    others = imports(module) - MODULES.keys() - ONLY_IMPORTED_BY.keys()
    assert others <= sys.stdlib_module_names


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith(PURE)])
def test_pure_modules_touch_nothing(module: str) -> None:
    assert imports(module) - MODULES.keys() <= HARMLESS
