"""The pin folder: what is pinned where, and the lock that lets one ipvsca at a time change it.

maps/NAME   programs/NAME   links/NAME      (a link holds its program on a cgroup)
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ipvsca import log
from ipvsca.errors import Problem
from ipvsca.kernel import bpf
from ipvsca.kernel.maps import KEYS_AND_VALUES
from ipvsca.kernel.programs import PROGRAMS, Program


@dataclass(frozen=True)
class Pins:
    """Where things are pinned, under a folder of a BPF file system."""

    root: Path

    @classmethod
    def at(cls, path: Path) -> Pins:
        """Under one name, whichever way (symbolic links, ..) a setting spells it."""
        return cls(path.resolve())

    @property
    def maps(self) -> Path:
        return self.root / "maps"

    @property
    def folders(self) -> tuple[Path, ...]:
        return self.root, self.maps, self.root / "programs", self.root / "links"

    def program(self, program: Program) -> Path:
        return self.root / "programs" / program.name

    def link(self, program: Program) -> Path:
        return self.root / "links" / program.name

    def make_folders(self) -> None:
        """Only root may look into them."""
        for folder in self.folders:
            folder.mkdir(mode=0o700, exist_ok=True)

    def remove(self) -> None:
        """Take out everything of ours, and the folders where nothing else is in them."""
        for pin in self._all():
            for name in (pin, bpf.beside(pin)):
                name.unlink(missing_ok=True)
        for folder in reversed(self.folders):
            with suppress(OSError):  # somebody else's pins are in it, or it is not there
                folder.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """A lock on the folder that holds the pin folder; it goes with its process. Raises Problem."""
        if not self.root.parent.is_dir():
            raise Problem(f"{self.root.parent} does not exist: create it, or set another pin_path")
        folder = os.open(self.root.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _wait_for(folder)
            yield
        finally:
            os.close(folder)

    def _all(self) -> Iterator[Path]:
        yield from (self.link(program) for program in PROGRAMS)
        yield from (self.program(program) for program in PROGRAMS)
        yield from (self.maps / name for name in KEYS_AND_VALUES)


def _wait_for(folder: int) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.tell(logging.INFO, "waiting for another ipvsca to finish")
        fcntl.flock(folder, fcntl.LOCK_EX)
