"""What the daemon serves: a real Prometheus reads what the lab knows, alerts fire, and clients can do no harm."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ipvsca import cost, counters, settings
from ipvsca.ageing import Sweeps
from ipvsca.dataplane import DataPlane
from ipvsca.kernel import bpf
from ipvsca.kernel.pins import Pins
from ipvsca.kernel.programs import CGROUP_PROGRAMS, INGRESS_PROGRAMS, SOCKOPS, wanted
from ipvsca.settings import DEFAULTS
from ipvsca.web.metrics import Exporter, Series
from tests.apps.catalogue import app
from tests.apps.udp_catalogue import udp_app
from tests.e2e.datagrams import BOUND, Datagrams
from tests.e2e.traffic import CLIENTS_AT_ONCE, IPV4, NAT64_ON_IPV4, Traffic
from tests.e2e.web_client import ADDRESS, Client
from tests.kernel_state import wait_until
from tests.lab.messages import Announce, Toa, Where
from tests.lab.prometheus import prometheus
from tests.lab.topology import Lab
from tests.rig import REPOSITORY, Ipvsca

ACCEPT = app("c-accept")
RECVFROM = udp_app("c-recvfrom")
PROGRAMS = wanted(DEFAULTS)
TRUSTED = ["10.90.0.0/24", "fd00:90::/64"]

MONITORING = REPOSITORY / "monitoring"

needs_prometheus = pytest.mark.skipif(not shutil.which("prometheus"), reason="needs prometheus: apt install prometheus")


@pytest.fixture(scope="module")
def client(lab: Lab) -> Client:
    return Client(lab)


@contextmanager
def serving(ipvsca: Ipvsca, client: Client, **more: object) -> Iterator[subprocess.Popen[str]]:
    """Loaded, with a daemon that serves."""
    with ipvsca.loaded(**{"trusted": TRUSTED, "metrics": ADDRESS} | more), ipvsca.daemon("--no-load") as daemon:
        client.await_answer()
        yield daemon


def send_some(traffic: Traffic, datagrams: Datagrams) -> None:
    """CLIENTS_AT_ONCE connections, and so many datagrams of as many flows."""
    with traffic.serving(ACCEPT, IPV4):
        traffic.direct(IPV4, Toa(Where.ACK))
        traffic.ask(ACCEPT, IPV4)
    with datagrams.serving(RECVFROM, BOUND) as process:
        datagrams.direct(BOUND, Announce())
        datagrams.ask(RECVFROM, BOUND, process.directory)


def series_of_counters(totals: Mapping[str, int]) -> dict[frozenset[tuple[str, str]], float]:
    """What Prometheus has to know of each counter."""
    found = {}
    for meaning in (*counters.meanings(), *counters.SWEPT.values()):
        series = Series.of(meaning)
        labels = {"job": "ipvsca", "instance": ADDRESS, "__name__": f"{series.metric}_total"} | dict(series.labels)
        found[frozenset(labels.items())] = float(totals[meaning.name])
    return found


@needs_prometheus
def test_prometheus_knows_what_the_lab_knows(
    traffic: Traffic, datagrams: Datagrams, ipvsca: Ipvsca, client: Client, tmp_path: Path
) -> None:
    with serving(ipvsca, client), prometheus(traffic.lab.server, tmp_path, ADDRESS, rules()) as known:
        assert wait_until(lambda: known.value("ipvsca_restoring") == 1)
        send_some(traffic, datagrams)
        expected = series_of_counters(ipvsca.counts())
        assert wait_until(lambda: expected.items() <= known.query('{__name__=~"ipvsca_.*"}').items())
        for expression, number in (
            ('sum(ipvsca_connections_total{source!="none"})', CLIENTS_AT_ONCE),
            ('ipvsca_connections_total{source="ack"}', CLIENTS_AT_ONCE),
            ('ipvsca_connections_total{source="none"}', 0),
            ('ipvsca_calls_total{call="recvmsg", result="restored"}', CLIENTS_AT_ONCE),
            ('ipvsca_calls_total{call="sendmsg", result="redirected"}', CLIENTS_AT_ONCE),
            ('ipvsca_clients_learnt_total{source="announcement"}', CLIENTS_AT_ONCE),
            ("sum(ipvsca_refused_total)", 0),
            ("ipvsca_flows", CLIENTS_AT_ONCE),
            ("ipvsca_flows / ipvsca_max_flows", CLIENTS_AT_ONCE / 131072),
            ("sum(ipvsca_program_attached)", len(PROGRAMS) - len(INGRESS_PROGRAMS)),
            ("ipvsca_interfaces_attached / ipvsca_interfaces_wanted", 1),
            ("up", 1),
        ):
            assert known.value(expression) == number, expression
        assert known.value("time() - ipvsca_load_timestamp_seconds < 600") is not None
        assert known.value("time() - ipvsca_last_sweep_timestamp_seconds < 60") is not None
        assert known.firing() == set()


@needs_prometheus
def test_alerts_fire(traffic: Traffic, datagrams: Datagrams, ipvsca: Ipvsca, client: Client, tmp_path: Path) -> None:
    with serving(ipvsca, client) as daemon, prometheus(traffic.lab.server, tmp_path, ADDRESS, rules()) as known:
        send_some(traffic, datagrams)
        assert wait_until(lambda: known.value('ipvsca_connections_total{source="ack"}') == CLIENTS_AT_ONCE)
        assert known.firing() == set()

        ipvsca.run("set", "trusted=192.0.2.0/24")
        send_some(traffic, datagrams)
        assert wait_until(lambda: known.firing() == {"IpvscaUntrusted"})
        ipvsca.run("load")

        with traffic.serving(ACCEPT, NAT64_ON_IPV4):
            traffic.direct(NAT64_ON_IPV4, Toa(Where.ACK))
            traffic.ask(ACCEPT, NAT64_ON_IPV4)
        assert wait_until(lambda: "IpvscaNotShown" in known.firing())

        ipvsca.run("set", "tcpopt_addr=100")
        send_some(traffic, datagrams)
        assert wait_until(lambda: "IpvscaRefusals" in known.firing())

        Pins.at(ipvsca.pin_path).link(CGROUP_PROGRAMS[0]).unlink()
        assert wait_until(lambda: "IpvscaHookMissing" in known.firing())
        ipvsca.run("load")
        assert wait_until(lambda: "IpvscaHookMissing" not in known.firing())

        ipvsca.run("unload")
        assert wait_until(lambda: "IpvscaNotLoaded" in known.firing())
        ipvsca.run("load")
        assert wait_until(lambda: "IpvscaNotLoaded" not in known.firing())

        daemon.kill()
        assert wait_until(lambda: "IpvscaDown" in known.firing())


def rules() -> str:
    """The alerts, quicker: what they wait for is a moment, and what they look back at a few seconds."""
    text = (MONITORING / "ipvsca.rules.yml").read_text()
    return re.sub(r"\[\d+[md]\]", "[30s]", re.sub(r"for: \w+", "for: 500ms", text))


@needs_prometheus
def test_the_exposition_is_as_prometheus_has_it(exposition: str) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=exposition, capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture(scope="module")
def exposition(ipvsca: Ipvsca) -> str:
    """Of all that there can be."""
    sweeps = Sweeps()
    with pytest.MonkeyPatch.context() as patch, ipvsca.loaded(), DataPlane(ipvsca.pin_path) as plane:
        patch.setattr(cost, "is_measured", lambda: True)
        sweeps.sweep(plane, 0)
        text, _ = Exporter(lambda: settings.read_file(ipvsca.config), sweeps).exposition("")
    return text.decode()


def samples(exposition: str) -> dict[str, float]:
    """What is ours, by its name; of those with labels the last one."""
    families = text_string_to_metric_families(exposition)
    found = {sample.name: sample.value for family in families for sample in family.samples}
    return {name: value for name, value in found.items() if name.startswith("ipvsca_")}


def test_what_documents_rules_and_dashboard_name_is_exported(exposition: str) -> None:
    names = samples(exposition).keys()
    described = (REPOSITORY / "docs/monitor.md").read_text()
    in_tables = set(re.findall(r"^\| `(ipvsca_\w+)`", described, re.MULTILINE))
    assert {name.removesuffix("_count").removesuffix("_sum") for name in names} == in_tables
    for path in (*MONITORING.iterdir(), *(REPOSITORY / "docs").glob("*.md")):
        named = set(re.findall(r"\bipvsca_\w+_(?:total|seconds\w*|info)\b", path.read_text()))
        assert named <= names | {"ipvsca_sweep_duration_seconds"}, path.name
    for path in MONITORING.iterdir():
        used = set(re.findall(r"\b(ipvsca_\w+)(?=[{ \[])", path.read_text()))
        assert used <= names, path.name


def test_where_nothing_is_loaded(ipvsca: Ipvsca) -> None:
    text, _ = Exporter(lambda: settings.read_file(ipvsca.config), Sweeps()).exposition("")
    assert samples(text.decode()) == {
        "ipvsca_up": 0,
        "ipvsca_restoring": 0,
        "ipvsca_interfaces_wanted": 0,
        "ipvsca_interfaces_attached": 0,
        "ipvsca_sweep_duration_seconds_count": 0,
        "ipvsca_sweep_duration_seconds_sum": 0,
    }


def test_the_kernel_measures_what_programs_cost(traffic: Traffic, datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    with ipvsca.loaded(trusted=TRUSTED):
        measuring = bpf.measure_run_times()
        try:
            send_some(traffic, datagrams)
        finally:
            os.close(measuring)
        costs = cost.costs(ipvsca.pin_path)
    assert costs.keys() == {program.name for program in PROGRAMS}
    assert costs["ipvsca_recv4"].runs == CLIENTS_AT_ONCE
    assert costs["ipvsca_send4"].runs == CLIENTS_AT_ONCE
    assert costs["ipvsca_recv6"] == cost.Cost(0, 0)
    assert 0 < costs["ipvsca_recv4"].seconds < 1


def test_hooks_that_are_missing(ipvsca: Ipvsca, client: Client, lab: Lab) -> None:
    missing = SOCKOPS
    with serving(ipvsca, client):
        assert client.ask("/healthz")[1] == '{"restoring": true, "wrong": []}\n'
        Pins.at(ipvsca.pin_path).link(missing).unlink()
        ipvsca.configure(interfaces=[])  # otherwise the daemon puts the filter back at once
        lab.server.run(["tc", "qdisc", "del", "dev", "eth0", "clsact"])
        answer, body = client.ask("/healthz")
        assert (answer.status, answer.headers["Content-Type"]) == (503, "application/json")
        found = json.loads(body)
        assert not found["restoring"]
        assert [line.partition(" ")[0] for line in found["wrong"]] == [missing.name, "tc"]
        known = client.samples()
        assert known["ipvsca_restoring"] == 0
        assert known[f'ipvsca_program_attached{{program="{missing.name}"}}'] == 0
        assert known["ipvsca_interfaces_attached"] == 0
        assert known["ipvsca_interfaces_wanted"] == 1
        assert "Addresses are NOT being restored" in client.ask("/")[1]
