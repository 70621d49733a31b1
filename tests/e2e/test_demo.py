"""`make demo`, run as its users run it: what it shows, what it returns, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from ipvsca.address import Endpoint
from tests.lab import addresses as a
from tests.lab.control import REPOSITORY
from tests.lab.sandbox import PREFIX, cgroup2_mount

COLUMNS = 100
TIMEOUT = 60.0
COMMAND = ["-m", "tests.demo"]
ROW = re.compile(r' {3}(?P<client>\S+:\d+) +(?P<address>\S+) (?P<port>\d+) \S+ \d+ "GET / HTTP/1.0" +(?P<named>.+)')

# As if nginx's log should name the director where it names the client.
IN_DISGUISE = """
import sys
from dataclasses import replace
from tests import demo

demo.CLIENT = replace(demo.CLIENT, of=lambda visit: visit.local)
sys.exit(demo.main())
"""


@dataclass(frozen=True)
class Shown:
    """A row of one of the demo's tables."""

    client: Endpoint
    logged: Endpoint
    named: str


@contextmanager
def demo(arguments: list[str], temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """A running demo; at the end of the block it must have ended and left nothing behind."""
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(
        [sys.executable, "-u", *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield process
        process.wait(TIMEOUT)
    assert list(temporary.iterdir()) == []
    assert list(cgroup2_mount().glob(f"{PREFIX}{process.pid}-*")) == []


def output(arguments: list[str], temporary: Path, status: int) -> str:
    with demo(arguments, temporary) as process:
        text, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == status, text
    return str(text)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the demo prints."""
    return output(COMMAND, tmp_path_factory.mktemp("demo"), status=0)


def scene(text: str, number: int) -> str:
    """The part of the output under the heading `number.`."""
    return re.split(r"^\d\. ", text, flags=re.MULTILINE)[number]


def rows(part: str) -> list[Shown]:
    matches = [match for line in part.splitlines() if (match := ROW.fullmatch(line))]
    return [Shown(Endpoint.parse(m["client"]), Endpoint.of(m["address"], int(m["port"])), m["named"]) for m in matches]


def test_before_ipvsca_the_log_shows_the_director(text: str) -> None:
    before = rows(scene(text, 1))
    mapped = {ip_address(f"::ffff:{lip}") for lip in a.LIPS_V4}  # on the dual-stack socket of NAT64
    assert [row.client.address for row in before] == [*a.CLIENTS_V4[:3], *a.CLIENTS_V6[:5]]
    assert {row.logged.address for row in before} == {*a.LIPS_V4, *a.LIPS_V6, *mapped}
    assert {row.named for row in before} == {"the director"}


def test_with_ipvsca_the_log_shows_each_client_and_its_port(text: str) -> None:
    restored = rows(scene(text, 2))
    assert [row.client.address for row in restored] == [*a.CLIENTS_V4[:3], *a.CLIENTS_V6[:5]]
    assert [row.logged for row in restored] == [row.client for row in restored]
    assert {row.named for row in restored} == {"the client"}


def test_it_shows_real_commands_and_their_output(text: str) -> None:
    assert "server# ipvsca load --config demo.toml\n" in scene(text, 2)
    assert "\n   loaded\n" in scene(text, 2)
    told = scene(text, 3)
    assert re.search(rf"^   tcp {a.CLIENTS_V4[0]}:\d+ 10\.90\.0\.\d:\d+ 10\.80\.0\.10:80 ack established", told, re.M)
    assert re.search(r"^ +10  tcp_restored_ack ", told, re.M)
    assert "\n   Addresses are being restored.\n" in told
    assert "\n   unloaded\n" in scene(text, 4)


def test_unloaded_the_log_shows_the_director_again(text: str) -> None:
    (again,) = rows(scene(text, 4))
    assert again.logged.address in a.LIPS_V4


def test_it_ends_with_the_verdict(text: str) -> None:
    *_, cleaned, verdict = text.splitlines()
    assert cleaned.startswith("Everything is cleaned up")
    assert verdict.startswith("Every address and every port was right")


def test_it_reads_well_in_a_plain_terminal(text: str) -> None:
    assert "\x1b" not in text
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= COLUMNS


def test_a_wrong_address_is_marked_and_makes_it_fail(tmp_path: Path) -> None:
    text = output(["-c", IN_DISGUISE], tmp_path, status=1)
    wrong = rows(scene(text, 2))
    assert len(wrong) == 8
    assert all(re.fullmatch(r"WRONG, not \S+:\d+", row.named) for row in wrong)
    assert text.splitlines()[-1].startswith("WRONG")


@pytest.mark.parametrize("heading", ["ipvsca demo", "1. ", "2. ", "3. "])
def test_interrupted_it_cleans_up(tmp_path: Path, heading: str) -> None:
    with demo(COMMAND, tmp_path) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith(heading))
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 128 + signal.SIGINT
    assert rest.endswith("interrupted; everything is cleaned up\n")
    assert "Traceback" not in rest
