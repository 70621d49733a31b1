"""What the programs cost: the kernel's own measurements of how often and how long each has run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ipvsca.dataplane import NANOSECONDS
from ipvsca.kernel import bpf
from ipvsca.kernel.pins import Pins
from ipvsca.kernel.programs import PROGRAMS

_SWITCH = Path("/proc/sys/kernel/bpf_stats_enabled")


@dataclass(frozen=True)
class Cost:
    """What the kernel has measured of one program, since it was loaded and while it measured."""

    seconds: float
    runs: int

    def __sub__(self, earlier: Cost) -> Cost:
        """What came in between; nothing where the program was replaced meanwhile."""
        return Cost(max(0.0, self.seconds - earlier.seconds), max(0, self.runs - earlier.runs))


def is_measured() -> bool:
    """Whether the sysctl kernel.bpf_stats_enabled is on."""
    return _SWITCH.exists() and _SWITCH.read_text().strip() == "1"


def costs(pin_path: Path) -> Mapping[str, Cost]:
    """By program, of those pinned there. Raises OSError."""
    pins = Pins.at(pin_path)
    return {program.name: _cost(pins.program(program)) for program in PROGRAMS if pins.program(program).exists()}


def _cost(pin: Path) -> Cost:
    with bpf.opened(pin) as program:
        info = bpf.program_info(program)
    return Cost(info.run_time_ns / NANOSECONDS, info.run_count)
