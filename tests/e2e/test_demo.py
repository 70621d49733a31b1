"""`make demo`, run as its users run it: what it shows, what it returns, and that it leaves nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from ipvsca.address import Endpoint
from tests.lab import addresses as a
from tests.tidy import tidy

COLUMNS = 100
TIMEOUT = 60.0
COMMAND = ["-m", "tests.demo"]
HTTP_ROW = re.compile(
    r' {3}(?P<client>\S+:\d+) +(?P<address>\S+) (?P<port>\d+) \S+ \d+ "GET / HTTP/1.0" +(?P<named>.+)'
)
DNS_ROW = re.compile(
    r" {3}(?P<client>\S+:\d+) +\d+ (?P<address>\S+)/(?P<port>\d+) query\[A\] \S+ from (?P=address) +(?P<named>.+)"
)
ASKERS = list(a.CLIENTS_V4[:4])

# As if the logs should name the director where they name the client.
IN_DISGUISE = """
import sys
from dataclasses import replace
from tests import demo

demo.CLIENT = replace(demo.CLIENT, of=lambda visit: visit.local)
sys.exit(demo.main())
"""

# As if each client got the answer to a question that it did not ask.
MIXED_UP = """
import sys
from tests import demo

read_answer = demo.read_answer
demo.read_answer = lambda question, answer: read_answer(demo.Question("z.lab.test"), answer)
sys.exit(demo.main())
"""


@dataclass(frozen=True)
class Shown:
    """A row of one of the demo's tables."""

    client: Endpoint
    logged: Endpoint
    named: str


def demo(arguments: list[str], temporary: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    return tidy(arguments, temporary, TIMEOUT)


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


def rows(part: str, pattern: re.Pattern[str] = HTTP_ROW) -> list[Shown]:
    matches = [match for line in part.splitlines() if (match := pattern.fullmatch(line))]
    return [Shown(Endpoint.parse(m["client"]), Endpoint.of(m["address"], int(m["port"])), m["named"]) for m in matches]


def test_before_ipvsca_the_logs_show_the_director(text: str) -> None:
    before, asked = rows(scene(text, 1)), rows(scene(text, 1), DNS_ROW)
    mapped = {ip_address(f"::ffff:{lip}") for lip in a.LIPS_V4}  # on the dual-stack socket of NAT64
    assert [row.client.address for row in before] == [*a.CLIENTS_V4[:3], *a.CLIENTS_V6[:5]]
    assert {row.logged.address for row in before} == {*a.LIPS_V4, *a.LIPS_V6, *mapped}
    assert [row.client.address for row in asked] == ASKERS
    assert {row.logged.address for row in asked} == set(a.LIPS_V4)
    assert {row.named for row in before + asked} == {"the director"}


def test_with_ipvsca_the_logs_show_each_client_and_its_port(text: str) -> None:
    restored, asked = rows(scene(text, 2)), rows(scene(text, 2), DNS_ROW)
    assert [row.client.address for row in restored] == [*a.CLIENTS_V4[:3], *a.CLIENTS_V6[:5]]
    assert [row.client.address for row in asked] == ASKERS
    assert [row.logged for row in restored + asked] == [row.client for row in restored + asked]
    assert {row.named for row in restored + asked} == {"the client"}


def test_answers_arrive_at_their_clients_without_and_with_ipvsca(text: str) -> None:
    for number in (1, 2):
        assert "Each client has got the answer to its own question." in scene(text, number)


def test_it_shows_real_commands_and_their_output(text: str) -> None:
    assert "server# ipvsca load --config demo.toml" in scene(text, 2)
    assert "\n   loaded\n" in scene(text, 2)
    told = scene(text, 3)
    assert re.search(r"^ +10  tcp_restored_ack ", told, re.M)
    assert re.search(r"^ +4  recvmsg_restored ", told, re.M)
    assert re.search(r"^ +4  sendmsg_redirected ", told, re.M)
    assert "\n   Addresses are being restored.\n" in told
    assert "\n   unloaded\n" in scene(text, 4)


def test_it_lists_connections_and_flows_in_columns_that_fit(text: str) -> None:
    table = scene(text, 3).partition("server# ipvsca list ")[2].partition("\n\n")[0].splitlines()[1:]
    heads = re.findall(r"\S+", table[0])
    assert heads == ["PROTO", "CLIENT", "DIRECTOR", "LEARNT", "STATE", "AGE", "IDLE", "LEFT"]
    line = re.compile(
        r"   (?P<proto>tcp|udp) +(?P<client>\S+):\d+ +10\.90\.0\.\d:\d+ +"
        r"(?P<learnt>ack|announcement|ipo) +(?P<state>established|flow) +"
        r"\d\S* s +(?P<idle>-|\d\S* s) +(?P<left>-|5 min)"
    )
    listed = [match.groupdict() for each in table[1:] if (match := line.fullmatch(each))]
    tcp = {"proto": "tcp", "learnt": "ack", "state": "established", "idle": "-", "left": "-"}
    udp = {"proto": "udp", "state": "flow", "left": "5 min"}
    assert len(listed) == len(table) - 1
    assert [each for each in listed if each["proto"] == "tcp"] == [
        tcp | {"client": str(a.CLIENTS_V4[0])},
        tcp | {"client": f"[{a.CLIENTS_V6[3]}]"},
    ]
    flows = [each for each in listed if each["proto"] == "udp"]
    assert all(udp.items() <= each.items() for each in flows)
    assert sorted((each["client"], each["learnt"]) for each in flows) == [
        *((str(client), "announcement") for client in ASKERS[:2]),
        *((str(client), "ipo") for client in ASKERS[2:]),
    ]


def test_unloaded_the_logs_show_the_director_again(text: str) -> None:
    (again,), (asked_again,) = rows(scene(text, 4)), rows(scene(text, 4), DNS_ROW)
    assert again.logged.address in a.LIPS_V4
    assert asked_again.logged.address in a.LIPS_V4


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
    wrong = rows(scene(text, 2)) + rows(scene(text, 2), DNS_ROW)
    assert len(wrong) == 12
    assert all(re.fullmatch(r"WRONG, not \S+:\d+", row.named) for row in wrong)
    assert text.splitlines()[-1].startswith("WRONG")


def test_an_answer_at_the_wrong_client_makes_it_fail(tmp_path: Path) -> None:
    text = output(["-c", MIXED_UP], tmp_path, status=1)
    assert re.match(rf"FAILED: {a.CLIENTS_V4[0]}:\d+ has not got the answer", text.splitlines()[-1])
    assert "Traceback" not in text


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
