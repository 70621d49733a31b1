"""docs/performance.md: its tables and plots are made of what a run has recorded, and of nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tests.bench import counts, report
from tests.bench.records import REPOSITORY, Results
from tests.bench.table import Table

DOCUMENT = REPOSITORY / "docs/performance.md"
FOLDER = REPOSITORY / "docs/performance"
RECORDED = FOLDER / "bench.json"

MARKED = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def record(run: Path) -> None:
    """Take a run's figures into the documents."""
    Results.read(run).write(RECORDED)
    for path, content in made().items():
        path.write_text(content)


def made() -> dict[Path, str]:
    """What the document and its plots have to be, by what is recorded."""
    results = Results.read(RECORDED)
    tables = report.tables(results) | {"instructions": counts.table(counts.recorded())}
    plots = {FOLDER / f"{name}.svg": svg for name, svg in report.plots(results).items()}
    return {DOCUMENT: filled(DOCUMENT.read_text(), tables), **plots}


def filled(document: str, tables: Mapping[str, Table]) -> str:
    """A document with its marked tables made anew. Raises KeyError for a marker of a table that there is not."""
    return MARKED.sub(lambda match: f"{match[1]}\n{tables[match[2]].as_markdown()}\n{match[3]}", document)
