"""Show the counters.

--procfs prints them in the layout and with the names of /proc/net/ip_vs_ca_stats, for scripts made for ip_vs_ca. Its
conn_new and conn_del count flows that were announced; a TCP connection's client is kept in its socket, in no table.

examples:
  ipvsca stats
  ipvsca stats --per-cpu
  ipvsca stats --json | jq .tcp_restored_ack.total
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from ipvsca import __version__, settings
from ipvsca.cli.output import print_json
from ipvsca.dataplane import Count, DataPlane
from ipvsca.durations import since

_PROCFS = {
    "syn_recv_sock_ip_vs_ca": ("tcp_restored_ack", "tcp_restored_syn", "tcp_restored_announcement"),
    "syn_recv_sock_no_ip_vs_ca": ("tcp_no_client",),
    "conn_new": ("flows_new", "flows_replaced"),
    "conn_del": ("flows_replaced", "flows_taken_over", "flows_expired", "flows_evicted"),
}
"""The names of /proc/net/ip_vs_ca_stats, in its order, and what they are the sum of."""


def arguments(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print JSON")
    how.add_argument("--per-cpu", action="store_true", help="a column for each CPU")
    how.add_argument("--procfs", action="store_true", help="as /proc/net/ip_vs_ca_stats")


def run(parsed: argparse.Namespace) -> None:
    with DataPlane(settings.read_file(parsed.config).pin_path) as plane:
        counts = plane.counts()
    if parsed.json:
        print_json({name: _as_json(count) for name, count in counts.items()})
    elif parsed.procfs:
        print(_procfs(counts))
    elif parsed.per_cpu:
        print(_per_cpu(counts))
    else:
        print(_table(counts))


def _as_json(count: Count) -> dict[str, object]:
    return {
        "total": count.total,
        "per_cpu": list(count.per_cpu),
        "last_seconds_ago": count.last_seconds_ago,
        "last_source": None if count.last_source is None else str(count.last_source),
        "help": count.meaning.help,
    }


def _table(counts: Mapping[str, Count]) -> str:
    lines = []
    for name, count in counts.items():
        last = f"  (last {since(count.last_seconds_ago)}, from {count.last_source})" if count.last_source else ""
        lines.append(f"{count.total:>12}  {name:<32}{count.meaning.help}{last}")
    return "\n".join(lines)


def _per_cpu(counts: Mapping[str, Count]) -> str:
    cpus = range(len(next(iter(counts.values())).per_cpu))
    header = " " * 32 + "".join(f"{f'CPU{cpu}':>12}" for cpu in cpus)
    rows = (f"{name:<32}" + "".join(f"{value:>12}" for value in count.per_cpu) for name, count in counts.items())
    return "\n".join([header, *rows])


def _procfs(counts: Mapping[str, Count]) -> str:
    columns = {name: _sum(counts, parts) for name, parts in _PROCFS.items()}
    cpus = range(len(next(iter(columns.values()))))
    header = f"{'':<25} " + "".join(f" {f'CPU{cpu}':>10}" for cpu in cpus)
    rows = (f"{name:<25}:" + "".join(f" {value:>10}" for value in values) for name, values in columns.items())
    return "\n".join([f"IP_VS_CA({__version__})", header, *rows])


def _sum(counts: Mapping[str, Count], names: tuple[str, ...]) -> list[int]:
    return [sum(values) for values in zip(*(counts[name].per_cpu for name in names), strict=True)]
