"""ipvsca as an operator runs it, by its command line, on the lab's real server; cgroup and pin folder are its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ipvsca.dataplane import DataPlane
from ipvsca.kernel.programs import wanted
from ipvsca.settings import DEFAULTS, changed
from tests.lab.namespace import Namespace

REPOSITORY = Path(__file__).parents[1]

PROGRAMS = wanted(DEFAULTS)
CGROUP_PROGRAMS = tuple(program for program in PROGRAMS if program.attach is not None)
"""What a load with default settings pins, and attaches to the cgroup."""


def other_version(folder: Path) -> Path:
    """A copy of the checkout, in a new folder, whose programs differ in nothing but a comment."""
    for part in ("ipvsca", "bpf"):
        shutil.copytree(REPOSITORY / part, folder / part)
    changed = folder / "bpf" / "peer.c"
    changed.write_text(changed.read_text() + "/* another version */\n")
    return folder


def rewrite(file: Path, old: str, new: str) -> None:
    """Change a text that stands there once."""
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


class Ipvsca:
    """One instance: `pin_path`, `cgroup` and what else its configuration says."""

    def __init__(self, namespace: Namespace, pin_path: Path, cgroup: Path, folder: Path) -> None:
        self.namespace = namespace
        self.pin_path = pin_path
        self.config = folder / f"{pin_path.name}.toml"
        self._settings: dict[str, object] = {"pin_path": str(pin_path), "cgroup": str(cgroup), "metrics": "off"}
        self.configure()

    def configure(self, **settings: object) -> None:
        """Write the configuration file: these settings beside its own, defaults for the others."""
        lines = (f"{key} = {json.dumps(value)}\n" for key, value in (self._settings | settings).items())
        self.config.write_text("".join(lines))

    def run(self, verb: str, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end; fails where its exit status is not `status`."""
        done = self.namespace.run(self.command(verb, *arguments), check=False, cwd=REPOSITORY)
        assert done.returncode == status, f"ipvsca {verb}: status {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def command(self, verb: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "ipvsca", verb, "--config", str(self.config), *arguments]

    def json(self, verb: str, status: int = 0) -> Any:
        return json.loads(self.run(verb, "--json", status=status).stdout)

    def counts(self) -> dict[str, int]:
        """Every counter's total, read from the pinned maps: a test asks too often for a process each time."""
        with DataPlane(self.pin_path) as plane:
            return {name: count.total for name, count in plane.counts().items()}

    @contextmanager
    def loaded(self, **settings: object) -> Iterator[Ipvsca]:
        """Loaded with these settings inside the block, unloaded behind it whatever happens."""
        self.configure(**settings)
        self.run("load")
        try:
            yield self
        finally:
            self.run("unload")
            self.configure()

    @contextmanager
    def having(self, key: str, value: str) -> Iterator[None]:
        """A live setting has this value inside the block, and behind it the one it had before.

        As `ipvsca set` does it, but in this process: a new one costs more than most tests.
        """
        with DataPlane(self.pin_path) as plane:
            before = plane.settings()
            plane.apply(changed(before, [f"{key}={value}"])[0])
            try:
                yield
            finally:
                plane.apply(before)

    @contextmanager
    def daemon(self, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """`ipvsca run`, from when it says that it is running; killed at the end of the block if it still is.

        `options` are those of subprocess.Popen.
        """
        process: subprocess.Popen[str] = self.namespace.popen(
            self.command("run", *arguments), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, **options
        )
        assert process.stdout is not None
        try:
            assert any(line == "running\n" for line in process.stdout), "ipvsca run ended"
            yield process
        finally:
            process.kill()
            process.communicate()

    @contextmanager
    def counted(self, **expected: int) -> Iterator[None]:
        """Inside the block the named counters must grow by exactly so much, and no refusal that is not named."""
        before = self.counts()
        yield
        grown = growth(before, self.counts())
        relevant = {name: by for name, by in grown.items() if name in expected or name.startswith("refused_")}
        assert relevant == {name: by for name, by in expected.items() if by}, f"all that grew: {grown}"


def growth(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """By how much each has grown; what has not is left out, and what was not there before was 0."""
    return {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}
