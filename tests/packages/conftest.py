"""Packages of this checkout, of two versions, and a fresh Debian 12 that has what they depend on, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import traffic  # noqa: F401  (a fixture)
from tests.rig import REPOSITORY

SUITE = os.environ.get("SUITE", "bookworm")
INIT = "systemd"
IGNORED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def next_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A higher version, whose programs have to be compiled anew."""
    return build(tmp_path_factory.mktemp("next"), suffix="+next")


@pytest.fixture(scope="session")
def debian(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of a machine: it has systemd, and of other packages only those that ours depends on."""
    if not shutil.which("mmdebstrap"):
        pytest.skip("needs mmdebstrap: apt install mmdebstrap")
    root = tmp_path_factory.mktemp("debian") / "root"
    depends = subprocess.run(["dpkg-deb", "--field", package, "Depends"], check=True, capture_output=True, text=True)
    names = [each.split()[0].partition(":")[0] for each in depends.stdout.split(",")]
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join([INIT, *names])}", SUITE, root], check=True
    )
    yield root
    shutil.rmtree(root)  # half a gigabyte, and pytest would keep three


@pytest.fixture(scope="session")
def images(debian: Path, package: Path, next_package: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What containers' images of the two versions hold: layers, as overlayfs takes them."""
    return [image(debian, each, tmp_path_factory.mktemp("image")) for each in (package, next_package)]


def build(folder: Path, suffix: str = "") -> Path:
    """`make deb` in a copy of this checkout, with a suffix to the version and to the programs' source."""
    copy = folder / "ipvsca"
    shutil.copytree(REPOSITORY, copy, ignore=IGNORED)
    if suffix:
        append(copy / "ipvsca/__init__.py", f'__version__ += "{suffix}"\n')
        append(copy / "bpf/types.h", f"/* {suffix} */\n")
    subprocess.run(["make", "deb"], cwd=copy, check=True, capture_output=True)
    (package,) = (copy / "dist").iterdir()
    return package


def image(debian: Path, package: Path, folder: Path) -> str:
    """Installed as images are built: without systemd, BPF file system and network."""
    upper, work, root = folder / "upper", folder / "work", folder / "root"
    for each in (upper, work, root):
        each.mkdir()
    shutil.copy(package, upper / "package.deb")
    layers = f"lowerdir={debian},upperdir={upper},workdir={work}"
    script = 'mount -t overlay overlay -o "$0" "$1" && exec chroot "$1" dpkg --install /package.deb'
    subprocess.run(["unshare", "--mount", "--net", "sh", "-c", script, layers, root], check=True, capture_output=True)
    return f"{upper}:{debian}"


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)
