"""What a run has measured, as it is kept in JSON: flat, one record for each variant of each thing."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Record:
    """Figures of one variant of one thing, in order of their rounds."""

    part: str
    what: str
    variant: str
    unit: str
    samples: Sequence[float]


@dataclass
class Judged:
    """How many addresses that servers saw were right, of somebody else, or not restored; `failed` had no answer."""

    right: int = 0
    wrong: int = 0
    missing: int = 0
    failed: int = 0

    def add(self, other: Judged) -> None:
        self.right += other.right
        self.wrong += other.wrong
        self.missing += other.missing
        self.failed += other.failed

    @property
    def is_clean(self) -> bool:
        return not self.wrong and not self.missing and not self.failed


@dataclass
class Results:
    """Everything about one run."""

    machine: dict[str, Any]
    command: dict[str, Any]
    records: list[Record] = field(default_factory=list)
    judged: dict[str, Judged] = field(default_factory=dict)
    """By part."""

    def keep(self, part: str, what: str, unit: str, samples: Mapping[str, Sequence[float]]) -> None:
        """One thing, all of its variants."""
        self.records += [Record(part, what, variant, unit, figures) for variant, figures in samples.items()]

    def judge(self, part: str, judged: Judged) -> None:
        self.judged.setdefault(part, Judged()).add(judged)

    def of(self, part: str) -> dict[str, dict[str, Record]]:
        """A part's records, by what and by variant, in the order in which they were kept."""
        found: dict[str, dict[str, Record]] = {}
        for record in self.records:
            if record.part == part:
                found.setdefault(record.what, {})[record.variant] = record
        return found

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        kept = json.loads(path.read_text())
        return cls(
            kept["machine"],
            kept["command"],
            [Record(**record) for record in kept["records"]],
            {part: Judged(**judged) for part, judged in kept["judged"].items()},
        )


def this_machine() -> dict[str, Any]:
    """What a figure depends on."""
    cpu = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    commit = subprocess.run(
        ["git", "-c", f"safe.directory={REPOSITORY}", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "kernel": platform.release(),
        "commit": commit or "unknown",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "load_before": round(os.getloadavg()[0], 2),
    }
