"""The settings: names, units, defaults and what is accepted, in one table, which reads TOML and the command line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from ipvsca.address import V4_MAPPED, Endpoint
from ipvsca.errors import ConfigurationError
from ipvsca.wire import toa

Network = IPv4Network | IPv6Network

DEFAULT_FILE = Path("/etc/ipvsca/ipvsca.toml")

OFF = "off"
"""The value of a setting that something is not to be done."""

# Option kinds that TCP itself uses (IANA, TCP parameters): taking one for an address would misread ordinary segments.
_TCP_KINDS = {*range(9), 19, 28, 29, 30, 34}
_LONGEST_TIMEOUT_S = 7 * 24 * 3600
_FEWEST_FLOWS = 1024
_MOST_FLOWS = 16 * 1024 * 1024
_MOST_PREFIXES = 2000  # MAX_TRUSTED of bpf/types.h has room for two sets: the old one goes after the new one has come
_LONGEST_PIN_PATH = 200  # bytes; it is part of our tc filters' names, which hold 255
_LONGEST_NAME = 15  # IFNAMSIZ - 1
_LONGEST_SHOWN = 200  # of a wrong value, in a message

_WITH_LOAD = "`ipvsca load`"
_WITH_DAEMON = "`systemctl reload ipvsca-daemon`, or SIGHUP to `ipvsca run`"
_WITH_UNLOAD = "`ipvsca unload`, then `ipvsca load`; clients known until then are lost"


def _option_kinds(value: object) -> tuple[int, ...]:
    kinds = _as_list(value)
    if not kinds or not all(_is_integer(kind) and kind in range(256) and kind not in _TCP_KINDS for kind in kinds):
        raise ValueError
    return tuple(sorted(set(kinds)))


class SegmentsWithOption(StrEnum):
    """In which segments of a handshake options are read."""

    BOTH = "both"
    SYN = "syn"
    ACK = "ack"
    NONE = "none"

    @property
    def syn(self) -> bool:
        return self in (SegmentsWithOption.BOTH, SegmentsWithOption.SYN)

    @property
    def ack(self) -> bool:
        return self in (SegmentsWithOption.BOTH, SegmentsWithOption.ACK)

    @classmethod
    def of(cls, *, syn: bool, ack: bool) -> SegmentsWithOption:
        return next(one for one in cls if (one.syn, one.ack) == (syn, ack))


def _segments(value: object) -> SegmentsWithOption:
    for segments in SegmentsWithOption:
        if value == segments:
            return segments
    raise ValueError


def _prefixes(value: object) -> tuple[Network, ...]:
    prefixes = _as_list(value)
    if not prefixes or not all(isinstance(prefix, str) for prefix in prefixes):
        raise ValueError
    if len(prefixes) > _MOST_PREFIXES:
        raise ValueError(f"{len(prefixes)} of them, at most {_MOST_PREFIXES}")
    return tuple(dict.fromkeys(map(_prefix, prefixes)))


def _prefix(text: str) -> Network:
    network = ip_network(text)
    if isinstance(network, IPv4Network):
        return network
    if network.network_address.scope_id:
        raise ValueError(f"{text} names an interface, and packets are not told apart by that")
    if network.subnet_of(V4_MAPPED):
        return IPv4Network((network.network_address.packed[12:], network.prefixlen - V4_MAPPED.prefixlen))
    return network


def _seconds(value: Any) -> int:
    if not _is_integer(value) or not 1 <= value <= _LONGEST_TIMEOUT_S:
        raise ValueError
    return int(value)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _flows(value: Any) -> int:
    if not _is_integer(value) or not _FEWEST_FLOWS <= value <= _MOST_FLOWS:
        raise ValueError
    return int(value)


def _interfaces(value: object) -> str | tuple[str, ...]:
    names = _as_list(value)
    if names == ["auto"]:
        return "auto"
    if "auto" in names or not all(isinstance(name, str) and _is_interface_name(name) for name in names):
        raise ValueError
    return tuple(dict.fromkeys(names))


def _is_interface_name(name: str) -> bool:
    return 0 < len(name.encode()) <= _LONGEST_NAME and name.isprintable()


def _cgroup(value: object) -> str:
    return "auto" if value == "auto" else str(_path(value))


def _pin_path(value: object) -> Path:
    path = _path(value)
    if {'"', "\\"} & set(str(path)):  # it becomes a string in C
        raise ValueError
    length = len(bytes(path))
    if length > _LONGEST_PIN_PATH:
        raise ValueError(f"{length} bytes, at most {_LONGEST_PIN_PATH}")
    return path


def _listen(value: object) -> str:
    if value in ("", OFF):
        return OFF
    if not isinstance(value, str):
        raise ValueError
    endpoint = Endpoint.parse(value)
    if endpoint.port == 0:
        raise ValueError("port 0 is none to be found at")
    return str(endpoint)


def _certificate_and_key(value: object) -> str | tuple[Path, Path]:
    if value == OFF:
        return OFF
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError
    return _path(value[0]), _path(value[1])


def _file(value: object) -> str | Path:
    return OFF if value == OFF else _path(value)


def _path(value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
        raise ValueError
    return Path(value)


def _as_list(value: Any) -> list[Any]:
    """Where several are accepted, one may stand without brackets."""
    return value if isinstance(value, list) else [value]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Meaning:
    """What is known of a setting besides its name, type and default."""

    read: Callable[[Any], Any]
    """From a TOML value. Raises ValueError for one that is not accepted."""
    accepts: str
    help: str
    live: bool = False
    """Takes effect at once with `ipvsca set`."""
    steps: str = _WITH_LOAD
    """What makes a changed file take effect."""


def _setting(
    default: Any,
    read: Callable[[Any], Any],
    accepts: str,
    help_: str,
    live: bool = False,
    *,
    steps: str = _WITH_LOAD,
) -> Any:
    return field(default=read(default), metadata={"meaning": Meaning(read, accepts, help_, live, steps)})


@dataclass(frozen=True)
class Settings:
    """Every setting with its default."""

    tcpopt_addr: tuple[int, ...] = _setting(
        sorted(toa.DEFAULT_KINDS),
        _option_kinds,
        "a TCP option kind or a list of them, 9 to 255 without 19, 28, 29, 30, 34, e.g. [200, 254]",
        "kinds of the TCP option that names the client",
        live=True,
    )
    tcpopt_in: SegmentsWithOption = _setting(
        "both",
        _segments,
        '"both", "syn", "ack" (what ends the handshake) or "none" (announcements alone)',
        "segments of a handshake in which options are read",
        live=True,
    )
    trusted: tuple[Network, ...] = _setting(
        [
            "127.0.0.0/8",
            "::1/128",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "fc00::/7",
            "fe80::/10",
        ],
        _prefixes,
        'a prefix without host bits or a list of them, e.g. ["10.8.0.0/24", "fd00::/8"]',
        "where directors' packets come from: only they are believed",
        live=True,
    )
    tcp_timeout: int = _setting(
        90,
        _seconds,
        f"whole seconds, 1 to {_LONGEST_TIMEOUT_S}",
        "how long a client learnt ahead of its TCP connection is kept, in seconds",
        live=True,
    )
    udp_timeout: int = _setting(
        300,
        _seconds,
        f"whole seconds, 1 to {_LONGEST_TIMEOUT_S}",
        "how long the client of a UDP flow is kept after the flow's last datagram, in seconds",
        live=True,
    )
    tcp_connect: bool = _setting(
        False,
        _switch,
        "true or false",
        "a TCP connect to a client's address and port goes to its director",
        live=True,
    )
    udp_restore: bool = _setting(
        True,
        _switch,
        "true or false",
        "recvfrom gives the client of a UDP flow; false: applications see the director, and look the client up",
        live=True,
    )
    lookup_calls: bool = _setting(
        False,
        _switch,
        "true or false",
        "DPVS's lookup calls (getsockopt) are answered, at a price for all calls of getsockopt",
    )
    max_flows: int = _setting(
        131072,
        _flows,
        f"a whole number, {_FEWEST_FLOWS} to {_MOST_FLOWS}",
        "how many flows are known at most; 0.3 kB of memory each, taken when programs are loaded",
        steps=_WITH_UNLOAD,
    )
    interfaces: str | tuple[str, ...] = _setting(
        "auto",
        _interfaces,
        '"auto" (every interface where packets first arrive), a name or a list of names, e.g. ["eth0"]; [] for none',
        "interfaces on which SYNs, announcements and UOA are read",
    )
    cgroup: str = _setting(
        "auto",
        _cgroup,
        '"auto" (the root of cgroup v2: all services) or the absolute path of a cgroup',
        "the services whose connections and flows are restored",
    )
    pin_path: Path = _setting(
        "/sys/fs/bpf/ipvsca",
        _pin_path,
        'an absolute path in a BPF file system, without " and \\',
        "where programs and maps are pinned",
        steps=f"{_WITH_UNLOAD}; unload before the file is changed",
    )
    metrics: str = _setting(
        "127.0.0.1:9255",
        _listen,
        'an address and port, e.g. "127.0.0.1:9255" or "[::]:9255", or "off"',
        "where the daemon serves metrics, health and a page to look at",
        steps=_WITH_DAEMON,
    )
    metrics_tls: str | tuple[Path, Path] = _setting(
        OFF,
        _certificate_and_key,
        'the absolute paths of a certificate (with its chain) and its key, e.g. ["/etc/ipvsca/cert.pem",'
        ' "/etc/ipvsca/key.pem"], or "off"',
        "serve them by HTTPS instead of HTTP",
        steps=_WITH_DAEMON,
    )
    metrics_login: str | Path = _setting(
        OFF,
        _file,
        'the absolute path of a file with one line, USER:PASSWORD, or "off"',
        "ask for a user's name and password (HTTP's basic authentication)",
        steps=_WITH_DAEMON,
    )


MEANINGS: Mapping[str, Meaning] = {field_.name: field_.metadata["meaning"] for field_ in fields(Settings)}
DEFAULTS = Settings()


def read_file(path: Path | None) -> Settings:
    """Settings from a TOML file; from DEFAULT_FILE, if there is one, for None. Raises ConfigurationError."""
    return _changed(DEFAULTS, _table(path), str(path or DEFAULT_FILE))


def read_pin_path(path: Path | None) -> Path:
    """The same file's `pin_path` alone: no mistake elsewhere in it keeps what is loaded from being found."""
    table = {key: value for key, value in _table(path).items() if key == "pin_path"}
    return _changed(DEFAULTS, table, str(path or DEFAULT_FILE)).pin_path


def _table(path: Path | None) -> Mapping[str, object]:
    file = path or DEFAULT_FILE
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        if path is None and isinstance(error, FileNotFoundError):
            return {}
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file}: is not a text in UTF-8") from None
    except (ValueError, RecursionError) as error:  # the latter of brackets in brackets
        raise ConfigurationError(f"{file}: is not valid TOML: {error}") from None


def changed(settings: Settings, assignments: Iterable[str]) -> tuple[Settings, set[str]]:
    """Settings after `KEY=VALUE` words of the command line, and which keys they name.

    A value is written as in TOML, but that quotes may be left out and several are separated by commas. Raises
    ConfigurationError.
    """
    table = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigurationError(f"command line: {assignment!r} is not KEY=VALUE, e.g. tcp_timeout=60")
        table[key.strip()] = _from_text(text.strip())
    return _changed(settings, table, "command line"), set(table)


def as_text(value: object) -> str:
    """A setting's value as `ipvsca set` accepts it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "[]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_json(value: object) -> object:
    """A setting's value in JSON's types."""
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    return value if isinstance(value, int | str) else str(value)


def require_known(key: str, origin: str) -> None:
    """Raises ConfigurationError for a name that is no setting."""
    if key not in MEANINGS:
        raise ConfigurationError(f"{origin}: there is no setting {key!r}; there are: {', '.join(MEANINGS)}")


def _changed(settings: Settings, table: Mapping[str, object], origin: str) -> Settings:
    values = {}
    for key, value in table.items():
        require_known(key, origin)
        try:
            values[key] = MEANINGS[key].read(value)
        except ValueError as error:
            reason = f" ({error})" if str(error) else ""
            raise ConfigurationError(
                f"{origin}: {key} = {_shown(value)} is not accepted{reason}; it takes {MEANINGS[key].accepts}"
            ) from None
    return replace(settings, **values)


def _shown(value: object) -> str:
    """A wrong value as it stands in the file; where it is long, its beginning."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:  # Python writes no integer of thousands of digits
        return "such a number"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _from_text(text: str) -> object:
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        table = {}
    if table.keys() == {"value"}:  # a line break could have brought other keys
        return table["value"]
    if "," in text:
        return [_from_text(item.strip()) for item in text.split(",")]
    return text
