"""From source to loaded programs: the only module that imports bcc.

bcc brings LLVM, 100 MB of memory and a compiler's start-up time, which is why loading is done by a short-lived process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from ipvsca.errors import Problem
from ipvsca.kernel import bpf, machine, source
from ipvsca.kernel.programs import LOOKUP, LOOKUP_VARIANTS, PROGRAMS, LookupVariant, Program, ProgramType

_NO_ATTACH_TYPE = -1
_KTIME_GET_COARSE_NS = 160  # of enum bpf_func_id
_WARNINGS = ("-Wall", "-Wno-unused-function")
_OPTIMIZED_ONCE = ("-Xclang", "-disable-llvm-passes")  # by bcc: what clang has done before it does all over again

Flags = tuple[str, ...]


@contextmanager
def compiled(text: str, maps: Path, max_flows: int, flags: Flags = ()) -> Iterator[Any]:
    """A bcc module of `text`, whose maps are pinned in `maps` (those already there are used). Raises Problem."""
    os.environ["BCC_KERNEL_SOURCE"] = str(source.compat())
    machine.require_bcc()
    try:
        from bcc import BPF
    except (ImportError, OSError) as error:
        raise Problem(f"bcc cannot be used ({error}): {machine.INSTALL_BCC}") from error

    class Module(BPF):  # type: ignore[misc]  # bcc has no types
        def _trace_autoload(self) -> None:
            """We load and attach by ourselves; bcc would read all of the kernel's symbols to find out what to."""

    cflags = [f'-DPIN_MAPS="{maps}"', f"-DMAX_FLOWS={max_flows}", *_WARNINGS, *_OPTIMIZED_ONCE]
    cflags += [*_for_this_kernel(), *flags]
    with _said_by_bcc() as said:
        try:
            module = Module(text=text.encode(), cflags=cflags)
        except Exception as error:
            raise Problem(f"bcc cannot compile the programs: {_gist(said()) or error}") from error
    try:
        yield module
    finally:
        module.cleanup()


def _for_this_kernel() -> Flags:
    """What the programs use where they can."""
    kinds = (ProgramType.SCHED_CLS, ProgramType.SOCK_OPS, ProgramType.CGROUP_SOCK_ADDR)
    return ("-DCOARSE_CLOCK",) if all(bpf.has_helper(kind, _KTIME_GET_COARSE_NS) for kind in kinds) else ()


def load(module: Any, program: Program) -> int:
    """Have the kernel check one program. Gives a descriptor that lives as long as the module. Raises Problem."""
    attach = _NO_ATTACH_TYPE if program.attach is None else int(program.attach)
    with _said_by_bcc() as said:
        try:
            function = module.load_func(program.name.encode(), int(program.type), None, attach)
        except Exception as error:
            raise Problem(f"the kernel refuses {program.name} ({program.does}): {_gist(said()) or error}") from error
    return int(function.fd)


Loaded = tuple[dict[Program, int], LookupVariant]


@contextmanager
def loaded_programs(maps: Path, max_flows: int, programs: Sequence[Program] = PROGRAMS) -> Iterator[Loaded]:
    """Compile and load these programs; their descriptors are open for the length of a `with` block.

    Gives them, and the variant in which the kernel accepts LOOKUP. Raises Problem.
    """
    with ExitStack() as stack:
        yield _first_accepted(stack, maps, max_flows, programs)


def _first_accepted(stack: ExitStack, maps: Path, max_flows: int, programs: Sequence[Program]) -> Loaded:
    *better, last = LOOKUP_VARIANTS if LOOKUP in programs else LOOKUP_VARIANTS[:1]
    for variant in better:
        with suppress(Problem):
            return stack.enter_context(_loaded(maps, max_flows, programs, variant.flags)), variant
    return stack.enter_context(_loaded(maps, max_flows, programs, last.flags)), last


@contextmanager
def _loaded(maps: Path, max_flows: int, programs: Sequence[Program], flags: Flags) -> Iterator[dict[Program, int]]:
    with compiled(source.text(programs), maps, max_flows, flags) as module:
        yield {program: load(module, program) for program in programs}


@contextmanager
def _said_by_bcc() -> Iterator[Any]:
    """Collect what bcc's C++ side and the verifier print on standard error; gives a function that reads it."""
    with open(os.memfd_create("said"), "w+b") as collected:  # no disk is needed, which may be full
        stderr = os.dup(2)
        os.dup2(collected.fileno(), 2)

        def said() -> str:
            collected.seek(0)
            return collected.read().decode(errors="replace")

        try:
            yield said
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _gist(output: str) -> str:
    """The line of a compiler's or verifier's output that says what is wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line]
    verdicts = [before for before, line in pairwise(lines) if line.startswith("processed ")]
    return (errors or verdicts or lines or [""])[0 if errors else -1]
