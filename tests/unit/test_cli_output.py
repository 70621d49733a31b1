"""What the command line prints, from invented numbers: layouts, words, exit statuses. No kernel is asked."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import pytest

from ipvsca import __version__, cli, counters, durations, health
from ipvsca.address import Endpoint
from ipvsca.cli import check, list_, output, stats
from ipvsca.cli.status import status_of
from ipvsca.dataplane import NANOSECONDS, Count
from ipvsca.errors import ConfigurationError, Problem
from ipvsca.health import Finding, Health, Hint, Source

Capture = pytest.CaptureFixture[str]

VERBS = ("load", "unload", "run", "check", "stats", "list", "top", "get", "set")

NOW_NS = 1_000_000 * NANOSECONDS

every_verb = pytest.mark.parametrize("verb", VERBS)


@pytest.fixture(autouse=True)
def _stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic_ns", lambda: NOW_NS)


def count(name: str, *per_cpu: int, seconds_ago: float | None = None, source: str | None = None) -> Count:
    meanings = (*counters.meanings(), *counters.SWEPT.values())
    meaning = next(meaning for meaning in meanings if meaning.name == name)
    last_ns = 0 if seconds_ago is None else NOW_NS - int(seconds_ago * NANOSECONDS)
    return Count(meaning, per_cpu, last_ns, None if source is None else IPv4Address(source))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.04, "0.0 s"),
        (0.44, "0.4 s"),
        (0.99, "1.0 s"),
        (1, "1 s"),
        (12.4, "12 s"),
        (119, "119 s"),
        (120, "2 min"),
        (150, "2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (172799, "48 h"),
        (172800, "2 d"),
        (8640000, "100 d"),
    ],
)
def test_a_duration_has_one_unit(seconds: float, text: str) -> None:
    assert durations.duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(None, "never"), (0.0, "0.0 s ago"), (90.0, "90 s ago")])
def test_how_long_ago(seconds: float | None, text: str) -> None:
    assert durations.since(seconds) == text


class Terminal:
    """Standard output that says whether it is a terminal."""

    def __init__(self, is_terminal: bool) -> None:
        self.isatty = lambda: is_terminal


@pytest.mark.parametrize(
    ("stdout", "text"), [(Terminal(True), "\x1b[32mok\x1b[0m"), (Terminal(False), "ok"), (None, "ok")]
)
def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch, stdout: object, text: str) -> None:
    monkeypatch.setattr(sys, "stdout", stdout)
    assert output.coloured("ok", 32) == text


COUNTS = {
    "tcp_restored_ack": count("tcp_restored_ack", 10_000_000_000, 5, seconds_ago=3, source="10.90.0.2"),
    "tcp_restored_syn": count("tcp_restored_syn", 2, 0, seconds_ago=90, source="10.90.0.3"),
    "tcp_restored_announcement": count("tcp_restored_announcement", 0, 30),
    "tcp_no_client": count("tcp_no_client", 0, 7),
    "syn_expired": count("syn_expired", 0, 1),
    "flows_new": count("flows_new", 100_000, 2),
    "flows_replaced": count("flows_replaced", 20, 10),
    "flows_taken_over": count("flows_taken_over", 300, 0, seconds_ago=240, source="10.90.0.3"),
    "refused_announcement_untrusted": count("refused_announcement_untrusted", 0, 0),
    "flows_expired": count("flows_expired", 4000, 0),
    "flows_evicted": count("flows_evicted", 50_000, 0),
}


def prints(monkeypatch: pytest.MonkeyPatch, capsys: Capture, *options: str) -> str:
    """What stats prints of COUNTS."""

    class Plane:
        def __init__(self, pin_path: Path) -> None: ...
        def __enter__(self) -> Plane:
            return self

        def __exit__(self, *_: object) -> None: ...
        def counts(self) -> dict[str, Count]:
            return COUNTS

    monkeypatch.setattr(stats, "DataPlane", Plane)
    assert cli.main(["stats", "--config", "/dev/null", *options]) == 0
    return capsys.readouterr().out


def test_stats_are_a_table(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert prints(monkeypatch, capsys) == (
        " 10000000005  tcp_restored_ack                TCP connections whose client came in the segment that ended the"
        " handshake  (last 3 s ago, from 10.90.0.2)\n"
        "           2  tcp_restored_syn                TCP connections whose client came in their SYN  (last 90 s ago,"
        " from 10.90.0.3)\n"
        "          30  tcp_restored_announcement       TCP connections whose client came in an announcement\n"
        "           7  tcp_no_client                   TCP connections accepted for which no client was told\n"
        "           1  syn_expired                     clients learnt from a SYN whose connection was established after"
        " tcp_timeout\n"
        "      100002  flows_new                       flows that became known\n"
        "          30  flows_replaced                  flows whose LIP:lport was announced for another client\n"
        "         300  flows_taken_over                flows that a TCP connection took over when it was established"
        "  (last 4 min ago, from 10.90.0.3)\n"
        "           0  refused_announcement_untrusted  announcement from a source that is not trusted\n"
        "        4000  flows_expired                   flows forgotten because their time had run out\n"
        "       50000  flows_evicted                   flows dropped by the kernel to make room for new ones\n"
    )


def test_stats_of_each_cpu_are_columns(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert prints(monkeypatch, capsys, "--per-cpu") == (
        "                                        CPU0        CPU1\n"
        "tcp_restored_ack                 10000000000           5\n"
        "tcp_restored_syn                           2           0\n"
        "tcp_restored_announcement                  0          30\n"
        "tcp_no_client                              0           7\n"
        "syn_expired                                0           1\n"
        "flows_new                             100000           2\n"
        "flows_replaced                            20          10\n"
        "flows_taken_over                         300           0\n"
        "refused_announcement_untrusted             0           0\n"
        "flows_expired                           4000           0\n"
        "flows_evicted                          50000           0\n"
    )


def test_no_counter_is_wider_than_its_column() -> None:
    names = [meaning.name for meaning in (*counters.meanings(), *counters.SWEPT.values())]
    assert max(map(len, names)) <= 30


def test_stats_as_ip_vs_ca_printed_them(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Made with the formats of its source: "%-25s ", " %10s", "%-25s:" and " %10lu"."""
    rows = {
        "syn_recv_sock_ip_vs_ca": (10_000_000_002, 35),
        "syn_recv_sock_no_ip_vs_ca": (0, 7),
        "conn_new": (100_020, 12),
        "conn_del": (54_320, 10),
    }
    lines = [f"IP_VS_CA({__version__})", "%-25s " % "" + " %10s" % "CPU0" + " %10s" % "CPU1"]  # noqa: UP031
    lines += ["%-25s:" % name + "".join(" %10lu" % value for value in values) for name, values in rows.items()]  # noqa: UP031
    assert prints(monkeypatch, capsys, "--procfs").splitlines() == lines


def test_stats_as_json(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    printed = json.loads(prints(monkeypatch, capsys, "--json"))
    assert list(printed) == list(COUNTS)
    assert printed["tcp_no_client"] == {
        "total": 7,
        "per_cpu": [0, 7],
        "last_seconds_ago": None,
        "last_source": None,
        "help": "TCP connections accepted for which no client was told",
    }
    assert printed["tcp_restored_ack"]["last_source"] == "10.90.0.2"
    assert printed["tcp_restored_ack"]["last_seconds_ago"] == 3


ROWS = [
    list_.Row(
        "tcp",
        Endpoint(IPv6Address("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"), 65535),
        Endpoint(IPv6Address("fd00:90::2"), 1024),
        Endpoint(IPv6Address("fd00:80::10"), 8000),
        "announcement",
        "established",
        0.25,
    ),
    list_.Row(
        "tcp",
        Endpoint(IPv4Address("198.51.100.1"), 5),
        Endpoint(IPv4Address("10.90.0.2"), 1025),
        Endpoint(IPv4Address("10.80.0.10"), 8000),
        "syn",
        "handshake",
        7.6,
        7.6,
        82.4,
    ),
    list_.Row(
        "udp",
        Endpoint(IPv4Address("203.0.113.255"), 65535),
        Endpoint(IPv4Address("100.100.100.100"), 65535),
        Endpoint(IPv4Address("100.100.100.101"), 53),
        "connect",
        "flow",
        7199,
        120,
        0.04,
    ),
]


def test_a_list_is_a_table(capsys: Capture) -> None:
    list_._print_table(iter(ROWS))
    assert capsys.readouterr().out == (
        "PROTO CLIENT                DIRECTOR              SERVER                LEARNT       STATE      "
        "     AGE    IDLE    LEFT\n"
        "tcp   [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535 [fd00:90::2]:1024     [fd00:80::10]:8000    "
        "announcement established   0.2 s       -       -\n"
        "tcp   198.51.100.1:5        10.90.0.2:1025        10.80.0.10:8000       syn          handshake  "
        "     8 s     8 s    82 s\n"
        "udp   203.0.113.255:65535   100.100.100.100:65535 100.100.100.101:53    connect      flow       "
        " 120 min   2 min   0.0 s\n"
    )


def test_an_empty_list_is_the_head_of_a_table(capsys: Capture) -> None:
    list_._print_table(iter([]))
    assert capsys.readouterr().out.split() == [
        "PROTO",
        "CLIENT",
        "DIRECTOR",
        "SERVER",
        "LEARNT",
        "STATE",
        "AGE",
        "IDLE",
        "LEFT",
    ]


Listed = Callable[..., str]


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Listed:
    """What list prints where ROWS are known."""

    class Plane:
        def __init__(self, pin_path: Path) -> None: ...
        def __enter__(self) -> Plane:
            return self

        def __exit__(self, *_: object) -> None: ...
        def table(self, name: str) -> None: ...

    monkeypatch.setattr(list_, "DataPlane", Plane)

    def run(*options: str, rows: list[list_.Row] = ROWS) -> str:
        monkeypatch.setattr(list_, "_rows", lambda plane: iter(rows))
        assert cli.main(["list", "--config", "/dev/null", *options]) == 0
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS], ids=len)
def test_a_list_is_one_json_array(listed: Listed, rows: list[list_.Row]) -> None:
    assert json.loads(listed("--json", rows=rows)) == [
        vars(row) | {name: str(getattr(row, name)) for name in ("client", "director", "server")} for row in rows
    ]


def test_an_entry_as_json(listed: Listed) -> None:
    assert listed("--json", rows=ROWS[:2]) == (
        '[\n{"proto": "tcp", "client": "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535",'
        ' "director": "[fd00:90::2]:1024", "server": "[fd00:80::10]:8000", "learnt_from": "announcement",'
        ' "state": "established", "age_seconds": 0.25, "idle_seconds": null, "left_seconds": null},'
        '\n{"proto": "tcp", "client": "198.51.100.1:5",'
        ' "director": "10.90.0.2:1025", "server": "10.80.0.10:8000", "learnt_from": "syn",'
        ' "state": "handshake", "age_seconds": 7.6, "idle_seconds": 7.6, "left_seconds": 82.4}\n]\n'
    )


@pytest.mark.parametrize(
    ("options", "which"),
    [
        ("", [0, 1, 2]),
        ("--proto tcp", [0, 1]),
        ("--proto udp", [2]),
        ("--client 203.0.113.0/24", [2]),
        ("--director ::/0", [0]),
        ("--proto udp --director ::/0", []),
        ("--proto tcp --client 0.0.0.0/0", [1]),
        ("--limit 0", []),
        ("--limit 1", [0]),
        ("--limit 3", [0, 1, 2]),
        ("--limit 99999999999999999999", [0, 1, 2]),
        ("--limit 1 --proto udp", [2]),
        ("--limit 1 --client 0.0.0.0/0", [1]),
    ],
)
def test_what_is_listed(listed: Listed, options: str, which: list[int]) -> None:
    """A limit counts what is listed, not what was looked at. --json and the table are of the same entries."""
    clients = [str(ROWS[row].client) for row in which]
    assert [row["client"] for row in json.loads(listed("--json", *options.split()))] == clients
    assert [line.split()[1] for line in listed(*options.split()).splitlines()[1:]] == clients


@pytest.mark.parametrize("limit", ["-1", "x", "1.5", ""])
def test_a_wrong_limit(capsys: Capture, limit: str) -> None:
    assert cli.main(["list", f"--limit={limit}"]) == 2
    printed, said = capsys.readouterr()
    assert printed == ""
    assert said.endswith(f"argument --limit: {limit!r} is no number of entries, e.g. 20\n")


UNTRUSTED = count("refused_ack_untrusted", 3, 1, seconds_ago=5, source="192.0.2.1")
UNSHOWABLE = count("getpeername_unshowable", 2)

SOUND = Health(
    requirements=(Finding("cgroup v2"),),
    attachments=(Finding("programs of version 1 are loaded"), Finding("tc ingress of eth0")),
    hints=(Hint(UNTRUSTED, "who is that?"), Hint(UNSHOWABLE, "listen on [::]")),
    last_option=COUNTS["tcp_restored_ack"],
)
IDLE = Health(SOUND.requirements, SOUND.attachments, (), None)
UNLOADED = Health(SOUND.requirements, (Finding("programs are loaded", "nothing is loaded"),), (), None)
IMPOSSIBLE = Health((Finding("cgroup v2", "mount it"),), UNLOADED.attachments, (), None)
STILL_RUNNING = Health(IMPOSSIBLE.requirements, SOUND.attachments, (), None)

Checked = Callable[..., tuple[int, str]]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Checked:
    """Status and output of check, where this is what was found."""

    def run(found: Health, *options: str, narrower: str = "") -> tuple[int, str]:
        monkeypatch.setattr(health, "examine", lambda settings: found)
        monkeypatch.setattr(check, "_narrower_trust", lambda pin_path: tuple(map(ip_network, narrower.split())) or None)
        status = cli.main(["check", "--config", "/dev/null", *options])
        return status, capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    ("found", "status", "text"),
    [
        (
            SOUND,
            0,
            "This machine\n"
            "  ok    cgroup v2\n"
            "Hooks\n"
            "  ok    programs of version 1 are loaded\n"
            "  ok    tc ingress of eth0\n"
            "Traffic\n"
            "  last option 3 s ago, from director 10.90.0.2 (TCP connections whose client came in the segment that"
            " ended the handshake)\n"
            "  note  refused_ack_untrusted 4, last from 192.0.2.1 5 s ago: who is that?\n"
            "  note  getpeername_unshowable 2: listen on [::]\n"
            "Addresses are being restored.\n",
        ),
        (
            IDLE,
            0,
            "This machine\n"
            "  ok    cgroup v2\n"
            "Hooks\n"
            "  ok    programs of version 1 are loaded\n"
            "  ok    tc ingress of eth0\n"
            "Traffic\n"
            "  no client has been told by a trusted director yet\n"
            "Addresses are being restored.\n",
        ),
        (
            UNLOADED,
            3,
            "This machine\n"
            "  ok    cgroup v2\n"
            "Hooks\n"
            "  NO    programs are loaded: nothing is loaded\n"
            "Addresses could be restored here, but are not: see NO above.\n",
        ),
        (
            IMPOSSIBLE,
            1,
            "This machine\n"
            "  NO    cgroup v2: mount it\n"
            "Hooks\n"
            "  NO    programs are loaded: nothing is loaded\n"
            "Addresses cannot be restored here as it is: see NO above.\n",
        ),
        (
            STILL_RUNNING,
            0,
            "This machine\n"
            "  NO    cgroup v2: mount it\n"
            "Hooks\n"
            "  ok    programs of version 1 are loaded\n"
            "  ok    tc ingress of eth0\n"
            "Traffic\n"
            "  no client has been told by a trusted director yet\n"
            "Addresses are being restored.\n",
        ),
    ],
    ids=["sound", "idle", "not loaded", "impossible", "still running"],
)
def test_what_check_says(checked: Checked, found: Health, status: int, text: str) -> None:
    assert checked(found) == (status, text)


def test_what_check_proposes(checked: Checked) -> None:
    said = checked(IDLE, narrower="10.90.0.2/32 10.91.0.0/24 fd00:90::2/128")[1]
    assert said == checked(IDLE)[1].replace(
        "Addresses are",
        "  tip   trusted is wider than the directors seen so far; compare with yours, add those that are idle, and name"
        ' them:\n        trusted = ["10.90.0.2", "10.91.0.0/24", "fd00:90::2"]\nAddresses are',
    )
    assert checked(UNLOADED, narrower="10.90.0.2/32") == checked(UNLOADED), "what was not read is not known"


def test_check_as_json(checked: Checked) -> None:
    status, text = checked(replace(SOUND, source=Source("12ab", "34cd")), "--json", narrower="10.90.0.2/32")
    printed = json.loads(text)
    assert status == 0
    assert printed == {
        "can_restore": True,
        "is_restoring": True,
        "requirements": [{"what": "cgroup v2", "ok": True, "remedy": None}],
        "attachments": [
            {"what": "programs of version 1 are loaded", "ok": True, "remedy": None},
            {"what": "tc ingress of eth0", "ok": True, "remedy": None},
        ],
        "lookup_variant": None,
        "last_option": {"seconds_ago": 3, "director": "10.90.0.2"},
        "hints": [
            {"counter": "refused_ack_untrusted", "total": 4, "last_source": "192.0.2.1", "text": "who is that?"},
            {"counter": "getpeername_unshowable", "total": 2, "last_source": None, "text": "listen on [::]"},
        ],
        "source": {"here": "12ab", "loaded": "34cd"},
        "narrower_trust": {"trusted": ["10.90.0.2"], "toml": 'trusted = ["10.90.0.2"]'},
    }


def test_check_as_json_where_nothing_is_right(checked: Checked) -> None:
    status, text = checked(IMPOSSIBLE, "--json")
    assert (status, json.loads(text)) == (
        1,
        {
            "can_restore": False,
            "is_restoring": False,
            "requirements": [{"what": "cgroup v2", "ok": False, "remedy": "mount it"}],
            "attachments": [{"what": "programs are loaded", "ok": False, "remedy": "nothing is loaded"}],
            "lookup_variant": None,
            "last_option": None,
            "hints": [],
            "source": None,
            "narrower_trust": None,
        },
    )


def test_check_has_something_to_say_of_every_refusal() -> None:
    names = {meaning.name for meaning in (*counters.meanings(), *counters.SWEPT.values())}
    refusals = {meaning.name for meaning in counters.meanings() if meaning.is_refusal}
    assert refusals <= set(health._HINTS) <= names


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (Problem("cgroup v2 is missing"), 1, "ipvsca: cgroup v2 is missing\n"),
        (ConfigurationError("no such key"), 2, "ipvsca: no such key\n"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(2), 2, ""),
        (SystemExit(), 0, ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_how_a_verb_ends(capsys: Capture, error: BaseException, status: int, said: str) -> None:
    def fails() -> None:
        raise error

    assert status_of(fails) == status
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize(("given", "status"), [(None, 0), (0, 0), (3, 3)])
def test_a_verb_gives_its_own_status(given: int | None, status: int) -> None:
    assert status_of(lambda: given) == status


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        status_of(lambda: 1 // 0)


@every_verb
def test_every_verb_has_help_with_an_example(capsys: Capture, verb: str) -> None:
    assert cli.main([verb, "--help"]) == 0
    printed, said = capsys.readouterr()
    assert said == ""
    assert printed.startswith(f"usage: ipvsca {verb} [-h] [--config FILE]")
    assert re.search(rf"^examples:\n  ipvsca {verb}\b", printed, re.MULTILINE)
    assert max(map(len, printed.splitlines())) <= 120


def examples(text: str | None) -> list[str]:
    """The command lines that help and documentation show: without what is piped to, and without comments."""
    lines = re.findall(r"^  (ipvsca [^|\n]*)", text or "", re.MULTILINE)
    return [re.split(r"\s{3,}", line)[0].strip() for line in lines]


EXAMPLES = examples(cli._EPILOG) + [example for name in VERBS for example in examples(cli.module(name).__doc__)]


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_understood(example: str) -> None:
    program, verb, *words = shlex.split(example)
    assert program == "ipvsca"
    assert cli.parser().parse_args([verb, *words]).verb == verb


def test_there_are_as_many_verbs_as_are_tested_here() -> None:
    assert tuple(cli.VERBS) == VERBS
    assert {shlex.split(example)[1] for example in EXAMPLES} == set(VERBS)


def test_help_names_every_verb_and_every_status(capsys: Capture) -> None:
    assert cli.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^    (\w+) ", printed, re.MULTILINE) == list(VERBS)
    assert re.findall(r"(?:^  |\s{3,})(\d)  ", printed, re.MULTILINE) == ["0", "1", "2", "3"]


def test_the_version(capsys: Capture) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"ipvsca {__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: VERB"),
        (["reload"], "invalid choice: 'reload'"),
        (["lis"], "invalid choice: 'lis'"),
        (["stats", "--nope"], "unrecognized arguments: --nope"),
        (["stats", "--json", "--procfs"], "argument --procfs: not allowed with argument --json"),
        (["stats", "tcp_restored_ack"], "unrecognized arguments: tcp_restored_ack"),
        (["set"], "the following arguments are required: KEY=VALUE"),
        (["load", "--config"], "argument --config: expected one argument"),
        (["list", "--client"], "argument --client: expected one argument"),
        (["list", "--proto", "icmp"], "argument --proto: invalid choice: 'icmp'"),
        (["list", "--proto", "TCP"], "argument --proto: invalid choice: 'TCP'"),
        (["list", "--limit"], "argument --limit: expected one argument"),
        (["list", "--count", "--json"], "argument --json: not allowed with argument --count"),
        (["--config", "file", "load"], "invalid choice: 'file'"),
    ],
    ids=" ".join,
)
def test_wrong_usage(capsys: Capture, words: list[str], said: str) -> None:
    assert cli.main(words) == 2
    printed, error = capsys.readouterr()
    assert printed == ""
    assert error.startswith("usage: ipvsca")
    assert said in error.splitlines()[-1]


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("198.51.100.1/24", "198.51.100.1/24 has host bits set"),
        ("198.51.100.1:80", "'198.51.100.1:80' does not appear to be an IPv4 or IPv6 network"),
        ("2001:db8::/129", "'2001:db8::/129' does not appear to be an IPv4 or IPv6 network"),
        ("example.org", "'example.org' does not appear to be an IPv4 or IPv6 network"),
        ("", "'' does not appear to be an IPv4 or IPv6 network"),
    ],
)
@pytest.mark.parametrize("option", ["--client", "--director"])
def test_a_wrong_prefix_to_list(capsys: Capture, option: str, prefix: str, reason: str) -> None:
    assert cli.main(["list", f"{option}={prefix}"]) == 2
    expected = f"ipvsca: {option}: {reason}; it takes an address or a prefix, e.g. 10.8.0.0/24\n"
    assert capsys.readouterr() == ("", expected)


@pytest.mark.parametrize(
    ("word", "steps"),
    [
        ("max_flows=4096", "`ipvsca unload`, then `ipvsca load`; clients known until then are lost"),
        ("interfaces=eth0", "`ipvsca load`"),
        ("cgroup=/a", "`ipvsca load`"),
        ("metrics=off", "`systemctl reload ipvsca-daemon`, or SIGHUP to `ipvsca run`"),
        (
            "pin_path=/a",
            "`ipvsca unload`, then `ipvsca load`; clients known until then are lost; unload before the file is changed",
        ),
    ],
)
def test_a_setting_that_is_not_live_is_not_set(capsys: Capture, word: str, steps: str) -> None:
    assert cli.main(["set", "--config", "/dev/null", "tcp_timeout=60", word]) == 2
    key = word.partition("=")[0]
    said = f"ipvsca: command line: {key} cannot be set: change the file; it takes effect with {steps}\n"
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("words", [["set", "nope=1"], ["get", "nope"], ["get", "tcp_timeout", "nope"]], ids=" ".join)
def test_an_unknown_setting(capsys: Capture, words: list[str]) -> None:
    assert cli.main([*words, "--config", "/dev/null"]) == 2
    printed, said = capsys.readouterr()
    assert printed == ""
    assert said.startswith("ipvsca: command line: there is no setting 'nope'; there are: tcpopt_addr, ")


def test_arguments_default_to_those_of_the_process(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(sys, "argv", ["ipvsca", "--version"])
    assert cli.main() == 0
    assert capsys.readouterr().out.startswith("ipvsca ")
