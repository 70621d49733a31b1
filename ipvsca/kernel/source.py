"""The data plane's source: bpf/ joined into one text, and its digest. No bcc here.

bcc rewrites map calls only in the main source text, so that headers with map calls have to be part of it. `#line`
markers keep the compiler's messages pointing at the right file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ipvsca.kernel.programs import PROGRAMS, Program

_PACKAGE = Path(__file__).resolve().parent.parent
_INCLUDE = re.compile(r'#include "([\w./]+)"\s*')

SHOWN_OF_DIGEST = 12
"""So many digits are enough for people to tell two sources apart."""


def folder() -> Path:
    """Where the BPF sources are: inside the installed package, or beside it in a checkout."""
    installed = _PACKAGE / "bpf"
    return installed if installed.is_dir() else _PACKAGE.parent / "bpf"


def compat() -> Path:
    """The few header files that stand for a kernel tree, so that a server needs no kernel headers."""
    return folder() / "compat"


def join(*files: Path) -> str:
    """One text of all files and of what they include with quotes, each once."""
    seen: set[Path] = set()
    return "".join(line for file in files for line in _expand(file, seen))


def text(programs: Iterable[Program] = PROGRAMS) -> str:
    """The data plane, as far as these programs need it."""
    return join(*(folder() / file for file in dict.fromkeys(program.file for program in programs)))


def digest(programs: Iterable[Program] = PROGRAMS) -> str:
    """SHA-256 (64 hexadecimal digits) of everything that decides what is compiled."""
    content = hashlib.sha256(text(programs).encode())
    for header in sorted(compat().rglob("*.h")):
        content.update(header.read_bytes())
    return content.hexdigest()


def _expand(file: Path, seen: set[Path]) -> Iterator[str]:
    if file in seen:
        return
    seen.add(file)
    yield f'#line 1 "{file.name}"\n'
    for number, line in enumerate(file.read_text().splitlines(keepends=True), 1):
        if include := _INCLUDE.fullmatch(line):
            # A header is looked for beside the file that includes it, then in bpf/ (test programs include from there).
            near = file.parent / include[1]
            yield from _expand(near if near.is_file() else folder() / include[1], seen)
            yield f'#line {number + 1} "{file.name}"\n'
        else:
            yield line
