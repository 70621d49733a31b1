"""The package as users install it: whole, and able to restore addresses without the checkout it was made from."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from ipvsca.kernel import source
from tests.lab.control import REPOSITORY
from tests.lab.topology import Lab
from tests.rig import PROGRAMS, Ipvsca

FOLDERS = ("ipvsca", "bpf")
FILES = ("pyproject.toml", "README.md", "LICENSE")
COULD_BUT_DOES_NOT = 3


class Installed(Ipvsca):
    """ipvsca from a virtual environment, with pin folder and cgroup of its own."""

    def __init__(self, environment: Path, lab: Lab, folder: Path) -> None:
        self._program = environment / "bin/ipvsca"
        cgroup = lab.cgroup / "wheel"
        cgroup.mkdir(exist_ok=True)
        super().__init__(lab.server, lab.bpffs / "wheel", cgroup, folder)

    def command(self, verb: str, *arguments: str) -> list[str]:
        return [str(self._program), verb, "--config", str(self.config), *arguments]


def pip(*arguments: str | Path) -> None:
    """Without the network: setuptools is already there."""
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", *map(str, arguments), "--no-index", "--no-deps"], check=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: the checkout is left as it is, and what an earlier build left in it stays out."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for folder in FOLDERS:
        shutil.copytree(REPOSITORY / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(REPOSITORY / file, source)
    pip("wheel", "--no-build-isolation", "--wheel-dir", built, source)
    (wheel,) = built.iterdir()
    return wheel


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; bcc and the rest are the distribution's."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", folder], check=True)
    pip("--python", folder / "bin/python", "install", wheel)
    return folder


def test_the_wheel_holds_all_modules_and_bpf_sources(wheel: Path) -> None:
    modules = {str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("ipvsca/**/*.py")}
    sources = {f"ipvsca/{path.relative_to(REPOSITORY)}" for path in REPOSITORY.glob("bpf/**/*.[ch]")}
    assert len(sources) > 10
    with ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == modules | sources


def test_installed_it_reads_the_sources_from_site_packages(environment: Path) -> None:
    program = "from ipvsca.kernel import source; print(source.folder())"
    folder = subprocess.check_output([environment / "bin/python", "-c", program], text=True, cwd="/")
    (site_packages,) = environment.glob("lib/python3*/site-packages")
    assert folder == f"{site_packages}/ipvsca/bpf\n"


def test_installed_it_loads_and_unloads(environment: Path, lab: Lab, tmp_path: Path) -> None:
    installed = Installed(environment, lab, tmp_path)
    assert not installed.json("check", status=COULD_BUT_DOES_NOT)["is_restoring"]
    with installed.loaded():
        found = installed.json("check")
        assert found["is_restoring"]
        assert found["source"] == dict.fromkeys(("here", "loaded"), source.digest(PROGRAMS))
    assert not installed.json("check", status=COULD_BUT_DOES_NOT)["is_restoring"]
    assert not installed.pin_path.exists()
