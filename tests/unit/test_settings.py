"""Every mistake is told with its place, key, value and what is accepted; whatever is written, nothing worse happens."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, time
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsca import settings
from ipvsca.errors import ConfigurationError
from ipvsca.settings import DEFAULTS, MEANINGS, SegmentsWithOption, Settings
from tests.definitions import defined

REPOSITORY = Path(__file__).parents[2]

# What each message ends with. A setting that is missing here is a setting without tests.
TAKES = {
    "tcpopt_addr": "a TCP option kind or a list of them, 9 to 255 without 19, 28, 29, 30, 34, e.g. [200, 254]",
    "tcpopt_in": '"both", "syn", "ack" (what ends the handshake) or "none" (announcements alone)',
    "trusted": 'a prefix without host bits or a list of them, e.g. ["10.8.0.0/24", "fd00::/8"]',
    "tcp_timeout": "whole seconds, 1 to 604800",
    "udp_timeout": "whole seconds, 1 to 604800",
    "tcp_connect": "true or false",
    "udp_restore": "true or false",
    "lookup_calls": "true or false",
    "max_flows": "a whole number, 1024 to 16777216",
    "interfaces": (
        '"auto" (every interface where packets first arrive), a name or a list of names, e.g. ["eth0"]; [] for none'
    ),
    "cgroup": '"auto" (the root of cgroup v2: all services) or the absolute path of a cgroup',
    "pin_path": 'an absolute path in a BPF file system, without " and \\',
    "metrics": 'an address and port, e.g. "127.0.0.1:9255" or "[::]:9255", or "off"',
    "metrics_tls": (
        "the absolute paths of a certificate (with its chain) and its key, e.g. "
        '["/etc/ipvsca/cert.pem", "/etc/ipvsca/key.pem"], or "off"'
    ),
    "metrics_login": 'the absolute path of a file with one line, USER:PASSWORD, or "off"',
}

OTHER = Settings(
    tcpopt_addr=(253,),
    trusted=(IPv4Network("192.0.2.0/24"),),
    tcpopt_in=SegmentsWithOption.ACK,
    tcp_timeout=17,
    udp_timeout=18,
    tcp_connect=True,
    udp_restore=False,
    lookup_calls=True,
    max_flows=4096,
    interfaces=("eth7",),
    cgroup="/somewhere",
    pin_path=Path("/elsewhere"),
    metrics="[::1]:9000",
    metrics_tls=(Path("/cert.pem"), Path("/key.pem")),
    metrics_login=Path("/login"),
)
"""Differs from the defaults in every setting."""

MOST_PREFIXES = 2000
LONGEST_PIN_PATH = 200

every_setting = pytest.mark.parametrize("key", TAKES)

# What is wrong | as it stands in the file | the reason, where the message has one
WRONG = """
a kind in quotes                  | tcpopt_addr = "254"                  |
a truth value for a kind          | tcpopt_addr = true                   |
a fraction for a kind             | tcpopt_addr = 254.0                  |
a fraction in a list of kinds     | tcpopt_addr = [200, 254.0]           |
a list in a list of kinds         | tcpopt_addr = [[200, 254]]           |
no kind at all                    | tcpopt_addr = []                     |
end of list                       | tcpopt_addr = 0                      |
no operation                      | tcpopt_addr = 1                      |
maximum segment size              | tcpopt_addr = 2                      |
window scale                      | tcpopt_addr = 3                      |
SACK permitted                    | tcpopt_addr = 4                      |
SACK                              | tcpopt_addr = [254, 5]               |
echo                              | tcpopt_addr = [6, 7]                 |
timestamps                        | tcpopt_addr = 8                      |
MD5 signature                     | tcpopt_addr = 19                     |
user timeout                      | tcpopt_addr = 28                     |
TCP authentication                | tcpopt_addr = 29                     |
multipath TCP                     | tcpopt_addr = [30, 200]              |
fast open                         | tcpopt_addr = 34                     |
a kind of more than a byte        | tcpopt_addr = 256                    |
a negative kind                   | tcpopt_addr = -1                     |
a number for a prefix             | trusted = 10                         |
a truth value for a prefix        | trusted = false                      |
no prefix at all                  | trusted = []                         |
a number among prefixes           | trusted = ["10.0.0.0/8", 7]          |
host bits                         | trusted = "10.0.0.1/8"               | 10.0.0.1/8 has host bits set
host bits in IPv6                 | trusted = ["fd00::1/8"]              | fd00::1/8 has host bits set
no prefix                         | trusted = "the directors"            | 'the directors' NO_NETWORK
an empty prefix                   | trusted = ""                         | '' NO_NETWORK
a port                            | trusted = "10.0.0.0/8:80"            | '10.0.0.0/8:80' NO_NETWORK
a prefix that is too long         | trusted = ["10.0.0.0/33"]            | '10.0.0.0/33' NO_NETWORK
too many bytes                    | trusted = "10.0.0.0.0/8"             | '10.0.0.0.0/8' NO_NETWORK
white space                       | trusted = " 10.0.0.0/8"              | ' 10.0.0.0/8' NO_NETWORK
two in one string                 | trusted = "10.0.0.0/8,fd00::/8"      | '10.0.0.0/8,fd00::/8' NO_NETWORK
a scope                           | trusted = "fe80::%eth0/64"           | fe80::%eth0/64 NAMES_AN_INTERFACE
another segment                   | tcpopt_in = "data"                   |
a list of segments                | tcpopt_in = ["syn", "ack"]           |
an empty word for segments        | tcpopt_in = ""                       |
a truth value for segments        | tcpopt_in = true                     |
no time                           | tcp_timeout = 0                      |
a negative time                   | tcp_timeout = -1                     |
more than a week                  | tcp_timeout = 604801                 |
more than 64 bits                 | tcp_timeout = 18446744073709551616   |
a time in quotes                  | tcp_timeout = "60"                   |
a time with a unit                | tcp_timeout = "60s"                  |
a fraction of seconds             | tcp_timeout = 1.5                    |
a truth value for a time          | tcp_timeout = true                   |
a list of times                   | tcp_timeout = [60]                   |
no time for a flow                | udp_timeout = 0                      |
a negative time for a flow        | udp_timeout = -1                     |
more than a week for a flow       | udp_timeout = 604801                 |
a flow's time in quotes           | udp_timeout = "180"                  |
a flow's time with a unit         | udp_timeout = "3min"                 |
a fraction of seconds for a flow  | udp_timeout = 0.5                    |
a truth value for a flow's time   | udp_timeout = false                  |
no time for a flow at all         | udp_timeout = []                     |
1 for true                        | tcp_connect = 1                      |
0 for false                       | tcp_connect = 0                      |
a truth value in quotes           | tcp_connect = "true"                 |
another word for true             | tcp_connect = "on"                   |
a list of truth values            | tcp_connect = [true]                 |
an empty word for a truth value   | tcp_connect = ""                     |
a number for no                   | udp_restore = 0                      |
0 for no lookup calls             | lookup_calls = 0                     |
a truth value in quotes, again    | lookup_calls = "false"               |
no flows                          | max_flows = 0                        |
a flow too few                    | max_flows = 1023                     |
a flow too many                   | max_flows = 16777217                 |
flows of more than 64 bits        | max_flows = 18446744073709551616     |
a negative number of flows        | max_flows = -1024                    |
flows in quotes                   | max_flows = "131072"                 |
flows with a unit                 | max_flows = "128k"                   |
a fraction of flows               | max_flows = 2048.0                   |
a truth value for flows           | max_flows = true                     |
a list of flows                   | max_flows = [2048]                   |
auto for flows                    | max_flows = "auto"                   |
a number for an interface         | interfaces = 7                       |
a truth value for interfaces      | interfaces = true                    |
a number among interfaces         | interfaces = ["eth0", 7]             |
an empty name                     | interfaces = ""                      |
an empty name among others        | interfaces = ["eth0", ""]            |
a name of 16 bytes                | interfaces = "sixteen-bytes-16"      |
a name of 16 bytes, 8 characters  | interfaces = "éééééééé"              |
a line break in a name            | interfaces = "eth\\n"                |
auto beside a name                | interfaces = ["auto", "eth0"]        |
a relative cgroup                 | cgroup = "system.slice"              |
an empty cgroup                   | cgroup = ""                          |
a number for a cgroup             | cgroup = 1                           |
a list of cgroups                 | cgroup = ["/sys/fs/cgroup"]          |
a zero byte in a cgroup           | cgroup = "/sys/fs/cgroup\\u0000"     |
a relative pin_path               | pin_path = "ipvsca"                  |
auto for pin_path                 | pin_path = "auto"                    |
an empty pin_path                 | pin_path = ""                        |
a number for pin_path             | pin_path = 7                         |
a truth value for pin_path        | pin_path = true                      |
a list for pin_path               | pin_path = ["/sys/fs/bpf/ipvsca"]    |
a zero byte in pin_path           | pin_path = "/sys/fs/bpf/\\u0000"     |
a line break in pin_path          | pin_path = "/sys/fs/bpf/a\\nb"       |
a quote in pin_path               | pin_path = "/sys/fs/bpf/a\\"b"       |
a backslash in pin_path           | pin_path = "/sys/fs/bpf/a\\\\b"      |
a port alone for metrics          | metrics = 9255                       |
a truth value for metrics         | metrics = false                      |
metrics at two addresses          | metrics = ["[::1]:9255", "[::]:9255"] |
metrics without a port            | metrics = "127.0.0.1"                | '127.0.0.1' NO_ENDPOINT
metrics without an address        | metrics = ":9255"                    | '' NO_ADDRESS
metrics at a name                 | metrics = "localhost:9255"           | 'localhost' NO_ADDRESS
metrics at IPv6 without brackets  | metrics = "::1:9255"                 | '::1:9255' NO_ENDPOINT
metrics at any port               | metrics = "127.0.0.1:0"              | port 0 is none to be found at
metrics at too high a port        | metrics = "127.0.0.1:65536"          | port 65536 is not in 0..65535
on for metrics                    | metrics = "on"                       | 'on' NO_ENDPOINT
a certificate without a key       | metrics_tls = "/cert.pem"            |
a certificate alone in a list     | metrics_tls = ["/cert.pem"]          |
three files for TLS               | metrics_tls = ["/a", "/b", "/c"]     |
no file for TLS                   | metrics_tls = []                     |
a relative key                    | metrics_tls = ["/cert.pem", "key"]   |
a truth value for TLS             | metrics_tls = true                   |
a login instead of its file       | metrics_login = "me:secret"          |
a list of logins                  | metrics_login = ["/login"]           |
a truth value for a login         | metrics_login = false                |
"""
REASONS = {
    "NO_ENDPOINT": "is not ADDRESS:PORT (IPv6 in brackets)",
    "NO_ADDRESS": "does not appear to be an IPv4 or IPv6 address",
    "NO_NETWORK": "does not appear to be an IPv4 or IPv6 network",
    "NAMES_AN_INTERFACE": "names an interface, and packets are not told apart by that",
}


def wrong_values() -> list[Any]:
    rows = [[cell.strip() for cell in line.split("|")] for line in WRONG.strip().splitlines()]
    return [pytest.param(line, _spelt_out(reason), id=what) for what, line, reason in rows]


def _spelt_out(reason: str) -> str:
    for short, words in REASONS.items():
        reason = reason.replace(short, words)
    return f" ({reason})" if reason else ""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "ipvsca.toml"


Read = Callable[[str], Settings]


@pytest.fixture(scope="module")
def read(file: Path) -> Read:
    """Settings from a file with this text."""

    def write_and_read(text: str) -> Settings:
        file.write_text(text, "utf-8")
        return settings.read_file(file)

    return write_and_read


def refusal(function: Callable[..., object], *arguments: object) -> str:
    """The message with which a configuration is refused."""
    with pytest.raises(ConfigurationError) as refused:
        function(*arguments)
    assert refused.value.exit_status == 2
    return str(refused.value)


def test_every_setting_has_its_tests() -> None:
    assert {key: meaning.accepts for key, meaning in MEANINGS.items()} == TAKES


@every_setting
def test_the_other_settings_differ_from_the_defaults(key: str) -> None:
    assert getattr(OTHER, key) != getattr(DEFAULTS, key)


@every_setting
def test_a_default_is_read_from_its_own_text(key: str) -> None:
    text = settings.as_text(getattr(DEFAULTS, key))
    assert settings.changed(OTHER, [f"{key}={text}"]) == (replace(OTHER, **{key: getattr(DEFAULTS, key)}), {key})


@every_setting
def test_a_default_is_read_from_its_own_toml(read: Read, key: str) -> None:
    assert read(f"{key} = {json.dumps(settings.as_json(getattr(DEFAULTS, key)))}") == DEFAULTS


@every_setting
def test_another_value_is_read_from_its_toml_and_changes_nothing_else(read: Read, key: str) -> None:
    value = getattr(OTHER, key)
    assert read(f"{key} = {json.dumps(settings.as_json(value))}") == replace(DEFAULTS, **{key: value})


def test_the_defaults() -> None:
    assert {key: settings.as_json(getattr(DEFAULTS, key)) for key in TAKES} == {
        "tcpopt_addr": [200, 254],
        "trusted": [
            "127.0.0.0/8",
            "::1/128",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "fc00::/7",
            "fe80::/10",
        ],
        "tcpopt_in": "both",
        "tcp_timeout": 90,
        "udp_timeout": 300,
        "tcp_connect": False,
        "udp_restore": True,
        "lookup_calls": False,
        "max_flows": 131072,
        "interfaces": "auto",
        "cgroup": "auto",
        "pin_path": "/sys/fs/bpf/ipvsca",
        "metrics": "127.0.0.1:9255",
        "metrics_tls": "off",
        "metrics_login": "off",
    }


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "\n\n"])
def test_a_file_without_settings_is_the_defaults(read: Read, text: str) -> None:
    assert read(text) == DEFAULTS


def test_settings_beside_each_other(read: Read) -> None:
    lines = (f"{key} = {json.dumps(settings.as_json(getattr(OTHER, key)))}\n" for key in TAKES)
    assert read("".join(lines)) == OTHER


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", (REPOSITORY / "docs/configure.md").read_text(), re.S))
def test_files_in_the_documentation(read: Read, text: str) -> None:
    read(text)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tcpopt_addr = 254", {"tcpopt_addr": (254,)}),
        ("tcpopt_addr = 0xfe", {"tcpopt_addr": (254,)}),
        ("tcpopt_addr = [254, 200, 254, 200]", {"tcpopt_addr": (200, 254)}),
        ("tcpopt_addr = [9, 18, 20, 27, 31, 33, 35, 255]", {"tcpopt_addr": (9, 18, 20, 27, 31, 33, 35, 255)}),
        ('trusted = "10.0.0.0/8"', {"trusted": (IPv4Network("10.0.0.0/8"),)}),
        ('trusted = "10.8.0.1"', {"trusted": (IPv4Network("10.8.0.1/32"),)}),
        ('trusted = "fd00::1"', {"trusted": (IPv6Network("fd00::1/128"),)}),
        ('trusted = ["fd00::/8", "10.0.0.0/8"]', {"trusted": (IPv6Network("fd00::/8"), IPv4Network("10.0.0.0/8"))}),
        ('trusted = ["fd00::/8", "fd00:0::/8"]', {"trusted": (IPv6Network("fd00::/8"),)}),
        ('trusted = ["10.0.0.0/8", "10.0.0.0/255.0.0.0"]', {"trusted": (IPv4Network("10.0.0.0/8"),)}),
        ('trusted = ["::ffff:10.0.0.0/104", "10.0.0.0/8"]', {"trusted": (IPv4Network("10.0.0.0/8"),)}),
        ('trusted = "::ffff:0:0/96"', {"trusted": (IPv4Network("0.0.0.0/0"),)}),
        ('trusted = "::fffe:0:0/95"', {"trusted": (IPv6Network("::fffe:0:0/95"),)}),
        ('trusted = "::/0"', {"trusted": (IPv6Network("::/0"),)}),
        ("tcp_timeout = 1", {"tcp_timeout": 1}),
        ("tcp_timeout = 604_800", {"tcp_timeout": 604800}),
        ("udp_timeout = 1", {"udp_timeout": 1}),
        ("udp_timeout = 604_800", {"udp_timeout": 604800}),
        ('tcpopt_in = "syn"', {"tcpopt_in": SegmentsWithOption.SYN}),
        ("tcp_connect = true", {"tcp_connect": True}),
        ("tcp_connect = false", {}),
        ("udp_restore = false", {"udp_restore": False}),
        ("lookup_calls = true", {"lookup_calls": True}),
        ("lookup_calls = false", {}),
        ("max_flows = 1024", {"max_flows": 1024}),
        ("max_flows = 0x100_0000", {"max_flows": 16777216}),
        ('interfaces = ["auto"]', {"interfaces": "auto"}),
        ('interfaces = "eth0"', {"interfaces": ("eth0",)}),
        ('interfaces = ["eth1", "eth0", "eth1"]', {"interfaces": ("eth1", "eth0")}),
        ('interfaces = "fifteen-bytes-1"', {"interfaces": ("fifteen-bytes-1",)}),
        ("interfaces = []", {"interfaces": ()}),
        ('cgroup = "/sys/fs/cgroup/a\\\\x2db.slice/"', {"cgroup": "/sys/fs/cgroup/a\\x2db.slice"}),
        ('pin_path = "/sys/fs/bpf/my directors"', {"pin_path": Path("/sys/fs/bpf/my directors")}),
        (f'pin_path = "/{"x" * 199}"', {"pin_path": Path("/" + "x" * 199)}),
        (f'pin_path = "/{"x" * 199}/"', {"pin_path": Path("/" + "x" * 199)}),
        (f'pin_path = "/{"é" * 99}"', {"pin_path": Path("/" + "é" * 99)}),
        ('metrics = ""', {"metrics": "off"}),
        ('metrics = "off"', {"metrics": "off"}),
        ('metrics = "0.0.0.0:1"', {"metrics": "0.0.0.0:1"}),
        ('metrics = "[0::0]:65535"', {"metrics": "[::]:65535"}),
    ],
)
def test_what_is_accepted(read: Read, line: str, expected: dict[str, Any]) -> None:
    assert read(line) == replace(DEFAULTS, **expected)


@pytest.mark.parametrize(("line", "reason"), wrong_values())
def test_a_wrong_value(read: Read, file: Path, line: str, reason: str) -> None:
    key = line.partition(" ")[0]
    assert refusal(read, line) == f"{file}: {line} is not accepted{reason}; it takes {TAKES[key]}"


@every_setting
def test_a_date_is_never_accepted(read: Read, file: Path, key: str) -> None:
    expected = f'{file}: {key} = "1979-05-27" is not accepted; it takes {TAKES[key]}'
    assert refusal(read, f"{key} = 1979-05-27") == expected


@every_setting
def test_a_table_with_the_name_of_a_setting(read: Read, file: Path, key: str) -> None:
    expected = f'{file}: {key} = {{"a": {{"b": 1}}}} is not accepted; it takes {TAKES[key]}'
    assert refusal(read, f"[{key}]\na.b = 1") == expected


@every_setting
def test_a_number_that_python_cannot_write(read: Read, file: Path, key: str) -> None:
    expected = f"{file}: {key} = such a number is not accepted; it takes {TAKES[key]}"
    assert refusal(read, f"{key} = 0x1{'0' * 5000}") == expected


def test_a_long_value_is_not_shown_as_a_whole(read: Read, file: Path) -> None:
    shown = f'"{"x" * 199}...'
    reason = f"'{'x' * 5000}' {REASONS['NO_NETWORK']}"
    expected = f"{file}: trusted = {shown} is not accepted ({reason}); it takes {TAKES['trusted']}"
    assert refusal(read, f'trusted = "{"x" * 5000}"') == expected


@pytest.mark.parametrize("character", ["x", "é"])
def test_a_pin_path_that_is_too_long(read: Read, file: Path, character: str) -> None:
    """It is counted in bytes, as the kernel counts them."""
    path = "/" + character * (LONGEST_PIN_PATH // len(character.encode()))
    reason = f"{LONGEST_PIN_PATH + 1} bytes, at most {LONGEST_PIN_PATH}"
    shown = f'"{path}"' if len(path) < 199 else f'"{path[:199]}...'
    expected = f"{file}: pin_path = {shown} is not accepted ({reason}); it takes {TAKES['pin_path']}"
    assert refusal(read, f'pin_path = "{path}"') == expected


def prefixes(number: int) -> list[str]:
    return [f"10.{at >> 8}.{at & 255}.0/24" for at in range(number)]


def test_as_many_prefixes_as_the_map_takes(read: Read) -> None:
    """While they are replaced, the map holds the old and the new ones, and that IPv6's prefixes do not trust IPv4."""
    assert defined("MAX_TRUSTED") > 2 * MOST_PREFIXES
    assert len(read(f"trusted = {json.dumps(prefixes(MOST_PREFIXES))}").trusted) == MOST_PREFIXES


def test_too_many_prefixes(read: Read, file: Path) -> None:
    text = json.dumps(prefixes(MOST_PREFIXES + 1))
    reason = "2001 of them, at most 2000"
    expected = f"{file}: trusted = {text[:200]}... is not accepted ({reason}); it takes {TAKES['trusted']}"
    assert refusal(read, f"trusted = {text}") == expected


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("nope = 1", "nope"),
        ("Trusted = 1", "Trusted"),
        ("tcpopt-addr = 254", "tcpopt-addr"),
        ("[ipvsca]\ntcp_timeout = 60", "ipvsca"),
        ("tcp.timeout = 60", "tcp"),
        ('"" = 1', ""),
        ("help = 1", "help"),
        ("__class__ = 1", "__class__"),
    ],
)
def test_an_unknown_setting(read: Read, file: Path, text: str, name: str) -> None:
    assert refusal(read, text) == f"{file}: there is no setting {name!r}; there are: {', '.join(TAKES)}"


def test_the_first_mistake_is_told(read: Read, file: Path) -> None:
    assert refusal(read, "nope = 1\ntcp_timeout = 0").startswith(f"{file}: there is no setting 'nope'")
    assert refusal(read, "tcp_timeout = 0\nnope = 1").startswith(f"{file}: tcp_timeout = 0 ")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("tcp_timeout = 60\ntrusted = 10.0.0.0/8\n", "line 2, column 15"),
        ("tcp_timeout = 60s\n", "line 1, column 17"),
        ("tcp_timeout: 60\n", "line 1, column 12"),
        ("trusted = ['10.0.0.0/8'\ntcp_timeout = 60\n", "line 2, column 1"),
        ('trusted = "10.0.0.0/8\n', "line 1, column 22"),
        ("tcp_timeout = 60\ntcp_timeout = 90\n", "line 2, column 17"),
        ("tcp_timeout =\n", "line 1, column 14"),
        ("tcp_timeout = 60 tcpopt_addr = 254\n", "line 1, column 18"),
        ("tcp_timeout = [60", "end of document"),
        ("[tcp_timeout\n", "line 1, column 13"),
        ("tcp_timeout = 60\n\x00\n", "line 2, column 1"),
    ],
)
def test_broken_toml_is_told_with_its_place(read: Read, file: Path, text: str, where: str) -> None:
    message = refusal(read, text)
    assert re.fullmatch(rf"{re.escape(str(file))}: is not valid TOML: .+ \(at {where}\)", message), message


@pytest.mark.parametrize(
    "text", ["tcp_timeout = " + "9" * 5000, "tcp_timeout = " + "[" * 5000], ids=["long number", "deep list"]
)
def test_toml_that_python_cannot_read(read: Read, file: Path, text: str) -> None:
    message = refusal(read, text)
    assert message.startswith(f"{file}: is not valid TOML: ")
    assert "\n" not in message


def test_a_binary_file(file: Path) -> None:
    file.write_bytes(bytes(range(256)))
    assert refusal(settings.read_file, file) == f"{file}: is not a text in UTF-8"


def test_a_file_in_latin_1(file: Path) -> None:
    file.write_bytes('interfaces = "é"\n'.encode("latin-1"))
    assert refusal(settings.read_file, file) == f"{file}: is not a text in UTF-8"


def test_a_folder(tmp_path: Path) -> None:
    assert refusal(settings.read_file, tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


def test_a_file_that_was_named_and_is_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert refusal(settings.read_file, missing) == f"{missing}: cannot be read: No such file or directory"


def test_a_file_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "ipvsca.toml"
    assert refusal(settings.read_file, below) == f"{below}: cannot be read: Not a directory"


def test_no_default_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "DEFAULT_FILE", tmp_path / "missing.toml")
    assert settings.read_file(None) == DEFAULTS


def test_the_default_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "DEFAULT_FILE", tmp_path / "ipvsca.toml")
    (tmp_path / "ipvsca.toml").write_text("tcp_timeout = 17")
    assert settings.read_file(None) == replace(DEFAULTS, tcp_timeout=17)


def test_a_default_file_that_cannot_be_read_is_not_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "DEFAULT_FILE", tmp_path)
    assert refusal(settings.read_file, None) == f"{tmp_path}: cannot be read: Is a directory"


TWO_PREFIXES = (IPv4Network("10.0.0.0/8"), IPv6Network("fd00::/8"))


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("tcpopt_addr=200,254", {"tcpopt_addr": (200, 254)}),
        ("tcpopt_addr=254", {"tcpopt_addr": (254,)}),
        ("tcpopt_addr=[254]", {"tcpopt_addr": (254,)}),
        ("tcpopt_addr=[200, 254]", {"tcpopt_addr": (200, 254)}),
        ("tcpopt_addr=254,200,254", {"tcpopt_addr": (200, 254)}),
        ("  tcpopt_addr  =  200 ,  254  ", {"tcpopt_addr": (200, 254)}),
        ("trusted=10.0.0.0/8,fd00::/8", {"trusted": TWO_PREFIXES}),
        ("trusted=10.0.0.0/8, fd00::/8", {"trusted": TWO_PREFIXES}),
        ('trusted="10.0.0.0/8","fd00::/8"', {"trusted": TWO_PREFIXES}),
        ('trusted=["10.0.0.0/8", "fd00::/8"]', {"trusted": TWO_PREFIXES}),
        ("trusted='10.0.0.0/8',fd00::/8", {"trusted": TWO_PREFIXES}),
        ("trusted=10.0.0.0/8", {"trusted": TWO_PREFIXES[:1]}),
        ("trusted=::1", {"trusted": (IPv6Network("::1/128"),)}),
        ("tcp_timeout=60", {"tcp_timeout": 60}),
        ("tcp_timeout = 60", {"tcp_timeout": 60}),
        ("udp_timeout=60", {"udp_timeout": 60}),
        ("tcpopt_in=none", {"tcpopt_in": SegmentsWithOption.NONE}),
        ("tcp_connect=true", {"tcp_connect": True}),
        (" tcp_connect = false ", {"tcp_connect": False}),
        ("udp_restore=false", {"udp_restore": False}),
        ("lookup_calls=false", {"lookup_calls": False}),
        ("max_flows=2_048", {"max_flows": 2048}),
        ("interfaces=eth0,eth1", {"interfaces": ("eth0", "eth1")}),
        ("interfaces=[]", {"interfaces": ()}),
        ("interfaces=auto", {"interfaces": "auto"}),
        ("cgroup=/a=b", {"cgroup": "/a=b"}),
        ("cgroup = /a ", {"cgroup": "/a"}),
    ],
)
def test_what_is_accepted_on_the_command_line(assignment: str, expected: dict[str, Any]) -> None:
    assert settings.changed(OTHER, [assignment]) == (replace(OTHER, **expected), set(expected))


def test_an_empty_list_is_read_from_its_own_text() -> None:
    assert settings.changed(OTHER, [f"interfaces={settings.as_text(())}"])[0].interfaces == ()


@pytest.mark.parametrize(
    ("assignment", "shown", "reason"),
    [
        ("tcpopt_addr=", '""', ""),
        ("tcpopt_addr=2", "2", ""),
        ("tcpopt_addr=200,", '[200, ""]', ""),
        ("tcpopt_addr=200;254", '"200;254"', ""),
        ("tcpopt_addr=200 254", '"200 254"', ""),
        ("tcp_timeout=60s", '"60s"', ""),
        ("tcp_timeout=1m", '"1m"', ""),
        ("tcp_timeout=60,90", "[60, 90]", ""),
        ("tcp_timeout=60\ntcpopt_addr=254", '"60\\ntcpopt_addr=254"', ""),
        (f"tcp_timeout={'9' * 5000}", f'"{"9" * 199}...', ""),
        (f"tcp_timeout={'[' * 5000}", f'"{"[" * 199}...', ""),
        ("udp_timeout=", '""', ""),
        ("udp_timeout=3m", '"3m"', ""),
        ("tcp_connect=", '""', ""),
        ("tcp_connect=1", "1", ""),
        ("tcp_connect=yes", '"yes"', ""),
        ("tcp_connect=True", '"True"', ""),
        ("tcp_connect=true,false", "[true, false]", ""),
        ("udp_restore=no", '"no"', ""),
        ("max_flows=1023", "1023", ""),
        ("max_flows=128k", '"128k"', ""),
        ("max_flows=131,072", '[131, "072"]', ""),
        ("trusted=2001", "2001", ""),
        ("trusted=10.0.0.1/8", '"10.0.0.1/8"', " (10.0.0.1/8 has host bits set)"),
        ("trusted=[10.0.0.0/8]", '"[10.0.0.0/8]"', f" ('[10.0.0.0/8]' {REASONS['NO_NETWORK']})"),
    ],
)
def test_a_wrong_value_on_the_command_line(assignment: str, shown: str, reason: str) -> None:
    key = assignment.partition("=")[0]
    expected = f"command line: {key} = {shown} is not accepted{reason}; it takes {TAKES[key]}"
    assert refusal(settings.changed, DEFAULTS, [assignment]) == expected


@pytest.mark.parametrize("word", ["tcp_timeout", "", "tcp_timeout:60", "--tcp_timeout"])
def test_a_word_without_a_value(word: str) -> None:
    expected = f"command line: {word!r} is not KEY=VALUE, e.g. tcp_timeout=60"
    assert refusal(settings.changed, DEFAULTS, [word]) == expected


@pytest.mark.parametrize(("word", "name"), [("nope=1", "nope"), ("=60", ""), ("--tcp_timeout=60", "--tcp_timeout")])
def test_an_unknown_setting_on_the_command_line(word: str, name: str) -> None:
    expected = f"command line: there is no setting {name!r}; there are: {', '.join(TAKES)}"
    assert refusal(settings.changed, DEFAULTS, [word]) == expected


def test_several_assignments() -> None:
    expected = (replace(OTHER, tcp_timeout=60, tcpopt_addr=(254,)), {"tcp_timeout", "tcpopt_addr"})
    assert settings.changed(OTHER, ["tcp_timeout=60", "tcpopt_addr=254"]) == expected


# Values of every kind that TOML has, many of them almost right.
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
almost = st.sampled_from(["auto", "eth0", "10.0.0.0/8", "10.0.0.1/8", "fd00::/8", "fe80::1%eth0", "/sys/fs/bpf/x", "/"])
numbers = st.integers() | st.integers(-1, 300) | st.sampled_from([604800, 604801, 1023, 1024, 2**24, 2**24 + 1])
scalars = st.one_of(words, almost, numbers, st.booleans(), st.floats(), st.dates(), st.times(), st.datetimes())
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=3), max_leaves=6
)


def toml(value: object) -> str:
    """A value as TOML."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, date | time | datetime):
        return value.isoformat()
    return str(value).lower()


@given(values)
def test_the_values_of_this_test_are_toml(value: object) -> None:
    tomllib.loads(f"value = {toml(value)}")


def is_read_or_refused(function: Callable[..., object], *arguments: object) -> None:
    """Refused means: a message of one line that says where. Anything else ends the test."""
    message = None
    try:
        function(*arguments)
    except ConfigurationError as refused:
        message = str(refused)
    assert message is None or re.fullmatch(r"(/.*\.toml|command line): .+", message), message


@every_setting
@given(value=values)
def test_any_value_is_read_or_refused(read: Read, key: str, value: object) -> None:
    is_read_or_refused(read, f"{key} = {toml(value)}")


@given(words, values)
def test_any_name_is_read_or_refused(read: Read, key: str, value: object) -> None:
    is_read_or_refused(read, f"{toml(key)} = {toml(value)}")


@given(st.binary())
def test_any_file_is_read_or_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    is_read_or_refused(settings.read_file, file)


@every_setting
@given(text=st.text() | words | values.map(toml))
def test_any_assignment_is_read_or_refused(key: str, text: str) -> None:
    is_read_or_refused(settings.changed, DEFAULTS, [f"{key}={text}"])


kinds = st.integers(35, 255)
networks = st.ip_addresses(network="0.0.0.0/0") | st.ip_addresses(network="::/0")


@given(
    st.lists(kinds, min_size=1, max_size=5).map(lambda some: {"tcpopt_addr": some})
    | st.lists(networks.map(str), min_size=1, max_size=5).map(lambda some: {"trusted": some})
    | st.integers(1, 604800).map(lambda seconds: {"tcp_timeout": seconds})
    | st.integers(1, 604800).map(lambda seconds: {"udp_timeout": seconds})
    | st.sampled_from(SegmentsWithOption).map(lambda segments: {"tcpopt_in": str(segments)})
    | st.booleans().map(lambda is_wanted: {"tcp_connect": is_wanted})
    | st.booleans().map(lambda is_wanted: {"udp_restore": is_wanted})
)
def test_what_can_be_set_is_read_back_from_its_text_and_from_json(read: Read, one: dict[str, object]) -> None:
    ((key, value),) = one.items()
    as_read = getattr(read(f"{key} = {toml(value)}"), key)
    assert MEANINGS[key].live
    assert settings.changed(OTHER, [f"{key}={settings.as_text(as_read)}"])[0] == replace(OTHER, **{key: as_read})
    assert read(f"{key} = {json.dumps(settings.as_json(as_read))}") == replace(DEFAULTS, **{key: as_read})
