"""System calls of a command: which of them change something, and the command run so that one of them goes wrong.

strace does it: it counts the calls, and kills the process as it enters one, or has the kernel refuse it. So a fault
comes at an exact place instead of some time after the start.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.namespace import Namespace
from tests.rig import REPOSITORY

TIMEOUT_S = 120.0
KILLED = -signal.SIGKILL
"""How strace ends where what it ran was killed: the same way."""

MISSING = None if shutil.which("strace") else "needs strace: apt install strace"

# With a question mark: not every architecture has all of them.
_TRACED = "bpf,?mkdir,mkdirat,?rename,?renameat,renameat2,?rmdir,?unlink,unlinkat,sendto"
_LINE = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<arguments>.*)")
_FAILED = re.compile(r"\) += -1 ")
_LASTING = re.compile(
    r"BPF_(OBJ_PIN|LINK_CREATE|LINK_UPDATE|LINK_DETACH|MAP_UPDATE_ELEM|MAP_UPDATE_BATCH|MAP_DELETE_ELEM)|RTM_(NEW|DEL)"
)
_OF_THE_PROCESS = re.compile(r"BPF_(MAP_CREATE|PROG_LOAD)")  # gone with it, but they may fail


@dataclass(frozen=True)
class Call:
    """The nth call of this name that a command's first thread makes."""

    name: str
    number: int
    arguments: str
    """As strace prints them."""

    def __str__(self) -> str:
        return f"{self.name} {self.number}"

    @property
    def is_lasting(self) -> bool:
        """Whether it changes what outlives the process."""
        return self.name not in ("bpf", "sendto") or bool(_LASTING.search(self.arguments))

    @property
    def is_temporary(self) -> bool:
        """Whether it makes what goes with the process."""
        return bool(_OF_THE_PROCESS.search(self.arguments))


def changing(namespace: Namespace, command: Sequence[str], folder: Path, record: Path) -> list[Call]:
    """Run a command to its end; gives the calls that changed the kernel's state or the pin folder, in their order."""
    namespace.run([*_strace(record), *command], cwd=REPOSITORY, timeout=TIMEOUT_S)
    made = _calls(record.read_text())
    ours = (call for call in made if call.name in ("bpf", "sendto") or str(folder) in call.arguments)
    return [call for call in ours if call.is_lasting or call.is_temporary]


def killed_before(
    namespace: Namespace, command: Sequence[str], call: Call, record: Path
) -> subprocess.CompletedProcess[str]:
    """Run a command and kill it (SIGKILL) as it is about to make this call."""
    return _with(namespace, command, call, "signal=KILL", record)


def refused(
    namespace: Namespace, command: Sequence[str], call: Call, error: str, record: Path
) -> subprocess.CompletedProcess[str]:
    """Run a command; this call fails with `error` (ENOMEM), and nothing of it is done."""
    return _with(namespace, command, call, f"error={error}", record)


def _with(
    namespace: Namespace, command: Sequence[str], call: Call, fault: str, record: Path
) -> subprocess.CompletedProcess[str]:
    inject = f"--inject={call.name}:{fault}:when={call.number}"
    return namespace.run([*_strace(record), inject, *command], cwd=REPOSITORY, check=False, timeout=TIMEOUT_S)


def _strace(record: Path) -> list[str]:
    return ["strace", "--follow-forks", f"--output={record}", f"--trace={_TRACED}"]


def _calls(record: str) -> Iterator[Call]:
    numbers: Counter[str] = Counter()
    lines = [line for line in map(_LINE.match, record.splitlines()) if line]
    for line in lines:
        if line["pid"] != lines[0]["pid"]:
            continue
        numbers[line["name"]] += 1
        if not _FAILED.search(line["arguments"]):
            yield Call(line["name"], numbers[line["name"]], line["arguments"])
