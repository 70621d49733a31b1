"""`make bench`, as its users run it but as shortly as can be: what it judges, and that it leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.bench.records import Results
from tests.tidy import tidy

TIMEOUT = 300.0
SHORT = ["--pairs", "1", "--seconds", "1"]
PROGRAMS = ("dnsperf", "gcc", "haproxy", "iperf3", "nginx", "wrk")
missing = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"needs: {', '.join(missing)} (make packages-bench)")

# As if servers should see clients where nothing is loaded.
MISTAKEN = """
import sys
from tests.bench import __main__, applications

new_connections = applications.new_connections
applications.new_connections = lambda stage, port, seconds, restored: new_connections(stage, port, seconds, True)
sys.exit(__main__.main(sys.argv[1:]))
"""


def bench(temporary: Path, *arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
    figures = "bench.json"
    return tidy([*arguments, *SHORT, "--json", str(temporary / figures)], temporary, TIMEOUT, figures)


def test_every_address_is_judged_and_right(tmp_path: Path) -> None:
    with bench(tmp_path, "-m", "tests.bench", "--only", "tcp,udp,hooks,proxy") as process:
        said, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, said
    results = Results.read(tmp_path / "bench.json")
    assert set(results.judged) == {"tcp", "udp", "hooks", "proxy"}
    assert all(judged.is_clean and judged.right > 1000 for judged in results.judged.values())
    assert all(figure > 0 for record in results.records if record.unit != "ns" for figure in record.samples)
    assert "with / without" in said


def test_a_wrong_address_is_a_failure(tmp_path: Path) -> None:
    with bench(tmp_path, "-c", MISTAKEN, "--only", "tcp") as process:
        said, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert "FAILED" in said
    assert Results.read(tmp_path / "bench.json").judged["tcp"].missing > 1000


def test_interrupted_it_cleans_up(tmp_path: Path) -> None:
    with bench(tmp_path, "-m", "tests.bench", "--only", "hooks") as process:
        assert process.stdout
        assert process.stdout.readline().startswith("hooks: ")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + signal.SIGINT, said
    assert "cleaned up" in said
