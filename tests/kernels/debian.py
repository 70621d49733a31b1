"""Debian's kernels: fetched with apt from each suite, unpacked into a folder of ours, installed nowhere."""

from __future__ import annotations

import fcntl
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"
SECURITY_MIRROR = "http://deb.debian.org/debian-security"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
ARCHITECTURE = "amd64"

PARTS = ("image", "binary", "modules", "base")
"""linux-PART-RELEASE: up to Debian 13 all of a kernel is in `image`, later in the others."""


class Unavailable(Exception):
    """A kernel cannot be had. The message says why."""


@dataclass(frozen=True)
class Suite:
    """A release of Debian. `series` is what its kernels' versions begin with; the newest suite has no fixed one."""

    name: str
    series: str
    has_security: bool = True

    @property
    def sources(self) -> str:
        """The suite as sources.list(5) has it."""
        signed = f"deb [arch={ARCHITECTURE} signed-by={KEYRING}]"
        lines = [f"{signed} {MIRROR} {self.name} main\n"]
        if self.has_security:
            lines.append(f"{signed} {SECURITY_MIRROR} {self.name}-security main\n")
        return "".join(lines)


SUITES = (
    Suite("bullseye", "5.10"),
    Suite("bookworm", "6.1"),
    Suite("trixie", "6.12"),
    Suite("sid", "sid", has_security=False),
)


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: its release as `uname -r` tells it, and the folder of its packages."""

    release: str
    folder: Path

    @property
    def usr(self) -> Path:
        """The folder above lib/modules."""
        return self.folder if Path(self.folder, "lib/modules").is_dir() else self.folder / "usr"

    @property
    def modules(self) -> Path:
        return self.usr / "lib/modules" / self.release

    @property
    def image(self) -> Path:
        """The compressed kernel, as a boot loader takes it."""
        in_boot = self.folder / f"boot/vmlinuz-{self.release}"
        return in_boot if in_boot.exists() else self.modules / "vmlinuz"


def newest(suite: Suite, cache: Path) -> Kernel:
    """The newest kernel of a suite; fetched where it is not in `cache` yet. Raises Unavailable."""
    with _apt(suite, cache) as apt:
        kernel = Kernel(release := apt.newest_release(), cache / release)
        if not kernel.folder.is_dir():
            # All or nothing: the folder gets its name when everything is in it.
            with tempfile.TemporaryDirectory(dir=cache) as temporary:
                new = Kernel(release, Path(temporary, "new"))
                apt.unpack(apt.packages(release), new.folder)
                _run(["depmod", "--basedir", new.usr, release])
                new.folder.rename(kernel.folder)
        return kernel


def unpack(suite: Suite, packages: Sequence[str], cache: Path, folder: Path) -> None:
    """Unpack a suite's packages, without those that they need, into a new folder. Raises Unavailable."""
    with _apt(suite, cache) as apt:
        apt.unpack(packages, folder)


@contextmanager
def _apt(suite: Suite, cache: Path) -> Iterator[_Apt]:
    """apt with fresh lists of a suite, for one process at a time. Raises Unavailable where a command fails."""
    cache.mkdir(parents=True, exist_ok=True)
    try:
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield _Apt(suite, cache / "apt" / suite.name)
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{error.cmd[0]} says: {error.stderr.strip()}") from error


class _Apt:
    """apt with sources, lists and a state of its own, just updated: nothing of this machine's is read or changed."""

    def __init__(self, suite: Suite, folder: Path) -> None:
        (folder / "lists/partial").mkdir(parents=True, exist_ok=True)
        (folder / "sources.list").write_text(suite.sources)
        (folder / "status").touch()
        self._options = [
            f"-oDir::State={folder}",
            f"-oDir::State::status={folder}/status",
            f"-oDir::Cache={folder}",
            f"-oDir::Etc::SourceList={folder}/sources.list",
            "-oDir::Etc::SourceParts=-",
            "-oDir::Etc::PreferencesParts=-",
            "-oAPT::Sandbox::User=root",
            f"-oAPT::Architecture={ARCHITECTURE}",
        ]
        self._run("apt-get", "update", "--error-on=any")

    def newest_release(self) -> str:
        """The release of the kernel that a machine with this suite would get today."""
        meta = f"linux-image-{ARCHITECTURE}"
        release = re.search(r"Depends: linux-image-(\S+)", self._run("apt-cache", "depends", meta))
        if not release:
            raise Unavailable(f"{meta} depends on no kernel")
        return release[1]

    def packages(self, release: str) -> list[str]:
        """The packages that a kernel consists of."""
        names = self._run("apt-cache", "pkgnames", "linux-").split()
        return [name for part in PARTS if (name := f"linux-{part}-{release}") in names]

    def unpack(self, packages: Sequence[str], folder: Path) -> None:
        """Download packages and unpack all of them into one folder."""
        with tempfile.TemporaryDirectory() as downloaded:
            self._run("apt-get", "download", *packages, folder=Path(downloaded))
            for package in Path(downloaded).glob("*.deb"):
                _run(["dpkg-deb", "--extract", package, folder])

    def _run(self, program: str, *arguments: str, folder: Path | None = None) -> str:
        return _run([program, "-qq", *self._options, *arguments], folder)


def _run(command: Sequence[str | Path], folder: Path | None = None) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
