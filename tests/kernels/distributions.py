"""Run tests with another distribution's bcc, libbpf and Python, on this kernel (Debian 12's are at home).

Each distribution is a folder made by debootstrap in the cache; nothing of it is installed here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kernels.__main__ import CACHE
from tests.kernels.debian import KEYRING, MIRROR, SUITES, Unavailable, unpack
from tests.kernels.guest import HERE, REPOSITORY

PACKAGES = (
    *("gcc", "iproute2", "libc6-dev", "liburing-dev", "procps"),
    *("python3-bpfcc", "python3-hypothesis", "python3-pytest", "python3-scapy"),
)
TESTS = (
    "tests/bpf/test_layout.py",
    "tests/bpf/test_verifier.py",
    "tests/e2e/test_tcp.py::test_list_shows_who_is_behind_whom",
    "tests/e2e/test_tcp.py::test_every_application_sees_its_client[ipv6-c-accept4]",
    "tests/e2e/test_udp.py::test_every_application_sees_its_client[any-c-recvmsg]",
)
PYTEST = ("python3", "-m", "pytest", "-p", "no:cacheprovider")
VERSIONS = ("dpkg-query", "--show", "python3", "python3-bpfcc", "libbpf1")


@dataclass(frozen=True)
class Distribution:
    """`script` is debootstrap's: an older one, because it need not know every suite by name."""

    suite: str
    mirror: str
    components: str
    script: str
    is_ubuntu: bool = False


DISTRIBUTIONS = {
    "debian13": Distribution("trixie", MIRROR, "main", "sid"),
    "ubuntu24.04": Distribution("noble", "http://archive.ubuntu.com/ubuntu", "main,universe", "gutsy", is_ubuntu=True),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests in each distribution; 0 where all passed in all."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernels.distributions", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(DISTRIBUTIONS)}; default: all")
    names = parser.parse_args(arguments).names or list(DISTRIBUTIONS)
    passed = [passes(name) for name in names]
    return 0 if all(passed) else 1


def passes(name: str) -> bool:
    """Whether the tests pass in a distribution. Says so."""
    try:
        root = unpacked(DISTRIBUTIONS[name], CACHE / name)
    except (Unavailable, subprocess.CalledProcessError) as missing:
        print(f"{name}: FAILED: it cannot be had: {missing}", flush=True)
        return False
    run(root, VERSIONS)
    passed = run(root, [*PYTEST, *TESTS]) == 0
    print(f"{name}: {'passed' if passed else 'FAILED'}", flush=True)
    return passed


def run(root: Path, command: Sequence[str]) -> int:
    """Run a command in a distribution, in the repository. Gives its exit status."""
    enter = ["unshare", "--mount", "--propagation", "private", "sh"]
    return subprocess.run([*enter, HERE / "enter.sh", root, REPOSITORY, *command], check=False).returncode


def unpacked(distribution: Distribution, root: Path) -> Path:
    """The distribution's folder. It is made where it is not there yet."""
    if not root.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent) as temporary:
            new = Path(temporary, "root")
            _debootstrap(distribution, new, Path(temporary))
            new.rename(root)
    return root


def _debootstrap(distribution: Distribution, root: Path, temporary: Path) -> None:
    command: list[str | Path] = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    command += [f"--components={distribution.components}", f"--keyring={_keyring(distribution, temporary)}"]
    script = Path("/usr/share/debootstrap/scripts", distribution.script)
    subprocess.run(
        [*command, distribution.suite, root, distribution.mirror, script], check=True, stdout=subprocess.DEVNULL
    )


def _keyring(distribution: Distribution, temporary: Path) -> Path:
    """Debian 12 has no package of Ubuntu's keys; Debian 13's is signed with keys that are here."""
    if not distribution.is_ubuntu:
        return Path(KEYRING)
    trixie = next(suite for suite in SUITES if suite.name == "trixie")
    unpack(trixie, ["ubuntu-keyring"], CACHE, temporary / "keys")
    return temporary / "keys/usr/share/keyrings/ubuntu-archive-keyring.gpg"


if __name__ == "__main__":
    sys.exit(main())
