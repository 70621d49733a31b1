"""Metrics for Prometheus, read from the pinned maps whenever they are asked for. The only import of prometheus_client.

No label has a value that a client could choose: there are as many series as there are counters and programs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from ipvsca import cost, health, loader, traffic
from ipvsca.ageing import Sweeps
from ipvsca.counters import Meaning
from ipvsca.dataplane import NANOSECONDS, Count, DataPlane
from ipvsca.errors import Problem
from ipvsca.kernel.source import SHOWN_OF_DIGEST
from ipvsca.settings import Settings


@dataclass(frozen=True)
class Rule:
    """Counters whose names match `counters` are one metric. Its labels are the groups of the match, and `labels`."""

    counters: str
    metric: str
    help: str
    labels: Mapping[str, str]


_CONNECTIONS = (
    "ipvsca_connections",
    "TCP connections established, by what told their client: the segment that ended the handshake (ack), the SYN "
    "(syn), a packet ahead of it (announcement), or nothing (none). Those of none show the director, or have none.",
)

RULES = (
    Rule(r"tcp_restored_(?P<source>\w+)", *_CONNECTIONS, {"protocol": "tcp"}),
    Rule(r"tcp_no_client", *_CONNECTIONS, {"protocol": "tcp", "source": "none"}),
    Rule(
        r"refused_(?P<source>[a-z]+)_(?P<reason>\w+)",
        "ipvsca_refused",
        "Words about a client that were not believed, by where they stood and why not.",
        {},
    ),
    Rule(
        r"flows_(?P<event>\w+)",
        "ipvsca_flow_events",
        "What happened to flows in the table. Each that is new leaves it as taken_over (a TCP connection has its "
        "client now), expired or evicted (the kernel made room); replaced: its ports were told for another client.",
        {},
    ),
    Rule(
        r"(?P<source>\w+)_learnt",
        "ipvsca_clients_learnt",
        "Words about a client that were believed and kept until its connection is established or its datagrams arrive.",
        {},
    ),
    Rule(
        r"(?P<source>\w+)_expired",
        "ipvsca_clients_expired",
        "Clients learnt ahead of a connection that was established only after tcp_timeout: not used.",
        {},
    ),
    Rule(
        r"(?P<call>getpeername|recvmsg|sendmsg|connect|getsockopt)_(?P<result>\w+)",
        "ipvsca_calls",
        "System calls that had to do with a client, by what became of them. accept counts as getpeername, recvfrom as "
        "recvmsg, sendto as sendmsg. In UDP each call is a datagram.",
        {},
    ),
    Rule(r"(?P<metric>\w+)", "", "", {}),
)
"""The first that matches counts. The last one is for counters to come: a metric of their own."""


@dataclass(frozen=True)
class Series:
    """Where a counter is exported. `metric` is without the _total that Prometheus' counters end in."""

    metric: str
    help: str
    labels: Mapping[str, str]

    @classmethod
    def of(cls, meaning: Meaning) -> Series:
        rule, match = next((rule, match) for rule in RULES if (match := re.fullmatch(rule.counters, meaning.name)))
        if not rule.metric:
            return cls(f"ipvsca_{meaning.name}", meaning.help, {})
        return cls(rule.metric, rule.help, dict(rule.labels) | match.groupdict())


class Exporter(Collector):
    """Everything this ipvsca exports. `settings` gives those that the daemon has now."""

    def __init__(self, settings: Callable[[], Settings], sweeps: Sweeps) -> None:
        self._settings = settings
        self._sweeps = sweeps
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that a scraper accepts, and that format's content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Of the data plane all or, where that cannot be read, nothing; ipvsca_up tells."""
        settings = self._settings()
        try:
            with DataPlane(settings.pin_path) as plane:
                loaded = [*_of_counters(plane.counts().values()), *_of_table(plane), *_of_build(plane, settings)]
            loaded += _of_programs(settings)
        except (Problem, OSError):
            loaded = []
        yield GaugeMetricFamily(
            "ipvsca_up", "1 where programs are loaded and their maps can be read, otherwise 0.", len(loaded) > 0
        )
        yield from loaded
        yield from _of_attachments(health.attachments(settings))
        yield from _of_sweeps(self._sweeps)


def _of_counters(counts: Iterable[Count]) -> list[Metric]:
    families: dict[str, CounterMetricFamily] = {}
    for count in counts:
        series = Series.of(count.meaning)
        family = families.setdefault(
            series.metric, CounterMetricFamily(series.metric, series.help, labels=sorted(series.labels))
        )
        family.add_metric([series.labels[label] for label in sorted(series.labels)], count.total)
    return list(families.values())


def _of_table(plane: DataPlane) -> Iterator[Metric]:
    max_flows = plane.settings().max_flows
    yield GaugeMetricFamily(
        "ipvsca_flows",
        "Flows in the table: those that became known less those that left it, as the last sweep knew.",
        traffic.flows(plane.counts(), max_flows),
    )
    yield GaugeMetricFamily("ipvsca_max_flows", "How many flows the table has room for.", max_flows)


def _of_build(plane: DataPlane, settings: Settings) -> Iterator[Metric]:
    build = plane.build()
    yield InfoMetricFamily(
        "ipvsca_build",
        "Version of the loaded programs, beginning of the SHA-256 of their sources, and the kernel they run in.",
        {
            "version": build.version.decode(),
            "digest": build.digest.decode()[:SHOWN_OF_DIGEST],
            "kernel": os.uname().release,
        },
    )
    yield GaugeMetricFamily(
        "ipvsca_programs_current",
        "1 where the loaded programs are those of the installed ipvsca, 0 where `ipvsca load` would replace them.",
        loader.is_current(settings),
    )
    yield GaugeMetricFamily(
        "ipvsca_load_timestamp_seconds", "When the programs were loaded.", build.loaded_ns / NANOSECONDS
    )


def _of_programs(settings: Settings) -> Iterator[Metric]:
    is_measured = cost.is_measured()
    yield GaugeMetricFamily(
        "ipvsca_run_time_measured", "1 where the sysctl kernel.bpf_stats_enabled is on, otherwise 0.", is_measured
    )
    if not is_measured:
        return
    seconds = CounterMetricFamily(
        "ipvsca_program_run_seconds", "Time spent in each program, while the kernel measured it.", labels=["program"]
    )
    runs = CounterMetricFamily(
        "ipvsca_program_runs", "How often each program ran, while the kernel measured it.", labels=["program"]
    )
    for name, measured in cost.costs(settings.pin_path).items():
        seconds.add_metric([name], measured.seconds)
        runs.add_metric([name], measured.runs)
    yield from (seconds, runs)


def _of_attachments(findings: tuple[health.Finding, ...]) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "ipvsca_restoring",
        "1 where programs are loaded and attached everywhere they have to be, otherwise 0; `ipvsca check` says why.",
        all(finding.ok for finding in findings),
    )
    attached = GaugeMetricFamily(
        "ipvsca_program_attached",
        "1 where a program is attached to the cgroup of the settings, 0 where it is missing.",
        labels=["program"],
    )
    for finding in findings:
        if finding.program:
            attached.add_metric([finding.program], finding.ok)
    yield attached
    interfaces = [finding.ok for finding in findings if finding.interface]
    yield GaugeMetricFamily(
        "ipvsca_interfaces_wanted", "Network interfaces that the setting `interfaces` means.", len(interfaces)
    )
    yield GaugeMetricFamily(
        "ipvsca_interfaces_attached", "How many of them have our filter at tc ingress.", sum(interfaces)
    )


def _of_sweeps(sweeps: Sweeps) -> Iterator[Metric]:
    yield SummaryMetricFamily(
        "ipvsca_sweep_duration_seconds",
        "How many times this daemon took out of the tables what was past its time, and how long that took.",
        count_value=sweeps.count,
        sum_value=sweeps.seconds,
    )
    if sweeps.last_s is not None:
        yield GaugeMetricFamily("ipvsca_last_sweep_timestamp_seconds", "When the last sweep ended.", sweeps.last_s)
