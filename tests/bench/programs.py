"""The bench's own programs: C compiled by gcc, BPF by bcc, and what the kernel says of how long BPF programs run."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ipvsca.kernel import bpf, compiler, source
from ipvsca.kernel.programs import AttachType, Program, ProgramType

HERE = Path(__file__).resolve().parent
_RUN_TIME = 0  # BPF_STATS_RUN_TIME of linux/bpf.h


class Where(StrEnum):
    """Which segments carry the option: directors write it into one or both."""

    NOWHERE = "none"
    ACK = "ack"
    SYN = "syn"
    BOTH = "both"


def build(name: str, folder: Path) -> Path:
    """A C program of this folder, compiled unless it has been."""
    program = folder / name
    if not program.exists():
        flags = ["-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["gcc", *flags, "-o", program, HERE / f"{name}.c"], check=True)
    return program


@contextmanager
def option(where: Where, cgroup: Path, until_answered: bool = False) -> Iterator[None]:
    """option.c on the client's cgroup inside the block.

    An ACK's option comes once, which costs a benchmark least, or in each segment until the server has answered.
    """
    if where is Where.NOWHERE:
        yield
        return
    written = {
        "WRITE_SYN": where in (Where.SYN, Where.BOTH),
        "WRITE_ACK": where in (Where.ACK, Where.BOTH),
        "WRITE_UNTIL_ANSWERED": until_answered,
    }
    text = "".join(f"#define {name} {int(value)}\n" for name, value in written.items())
    program = Program("bench_option", "option.c", ProgramType.SOCK_OPS, AttachType.CGROUP_SOCK_OPS, "writes the option")
    with (
        compiler.compiled(text + source.join(HERE / program.file), HERE, 1) as module,
        attached(compiler.load(module, program), cgroup, AttachType.CGROUP_SOCK_OPS),
    ):
        yield


@dataclass(frozen=True)
class Runs:
    """How long a program has run by the kernel's account."""

    nanoseconds: int
    count: int

    @classmethod
    def of(cls, program: int) -> Runs:
        """Until now; of a program's descriptor."""
        text = Path(f"/proc/self/fdinfo/{program}").read_text()
        figures = dict(re.findall(r"^(run_time_ns|run_cnt):\s*(\d+)$", text, re.MULTILINE))
        return cls(int(figures["run_time_ns"]), int(figures["run_cnt"]))

    def since(self, before: Runs) -> Runs:
        return Runs(self.nanoseconds - before.nanoseconds, self.count - before.count)

    @property
    def mean(self) -> float:
        """Nanoseconds a run; 0 where there was none."""
        return self.nanoseconds / self.count if self.count else 0.0


@contextmanager
def run_time_kept() -> Iterator[None]:
    """The kernel keeps every BPF program's run time inside the block, and stops with us however we end."""
    kept = ctypes.CDLL("libbpf.so.1", use_errno=True).bpf_enable_stats(_RUN_TIME)
    if kept < 0:
        raise OSError(-kept, os.strerror(-kept))
    try:
        yield
    finally:
        os.close(kept)


@contextmanager
def attached(program: int, cgroup: Path, attach: AttachType) -> Iterator[None]:
    """A program (its descriptor) on a cgroup inside the block; a link without a pin goes with its descriptor."""
    folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        link = bpf.link_create(program, folder, attach)
        try:
            yield
        finally:
            os.close(link)
    finally:
        os.close(folder)
