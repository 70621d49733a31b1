"""What the daemon serves: a real Prometheus reads what the lab knows, alerts fire, and clients can do no harm."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ipvsca import cost, counters, settings
from ipvsca.ageing import Sweeps
from ipvsca.dataplane import DataPlane
from ipvsca.kernel import bpf
from ipvsca.kernel.pins import Pins
from ipvsca.kernel.programs import CGROUP_PROGRAMS, PROGRAMS
from ipvsca.web.metrics import Exporter, Series
from ipvsca.web.server import CLIENT_TIMEOUT_S, LONGEST_REQUEST, MOST_CLIENTS
from tests.apps.catalogue import app
from tests.apps.udp_catalogue import udp_app
from tests.e2e.datagrams import BOUND, Datagrams
from tests.e2e.traffic import CLIENTS_AT_ONCE, IPV4, Traffic
from tests.kernel_state import wait_until
from tests.lab.messages import Announce, Toa, Where
from tests.lab.prometheus import prometheus
from tests.lab.topology import Lab
from tests.rig import REPOSITORY, Ipvsca

ACCEPT = app("c-accept")
RECVFROM = udp_app("c-recvfrom")
TRUSTED = ["10.90.0.0/24", "fd00:90::/64"]

ADDRESS = "127.0.0.1:9255"
MONITORING = REPOSITORY / "monitoring"

needs_prometheus = pytest.mark.skipif(not shutil.which("prometheus"), reason="needs prometheus: apt install prometheus")


class Client:
    """Asks the daemon, from the real server."""

    def __init__(self, lab: Lab, tls: ssl.SSLContext | None = None) -> None:
        self._lab = lab
        self._tls = tls

    def connect(self) -> socket.socket:
        host, _, port = ADDRESS.rpartition(":")
        with self._lab.server.entered():
            plain = socket.create_connection((host, int(port)), 2 * CLIENT_TIMEOUT_S)
        return self._tls.wrap_socket(plain, server_hostname=host) if self._tls else plain

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, str]:
        with self.connect() as client:
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            client.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
            answer = http.client.HTTPResponse(client, method=method)
            answer.begin()
            return answer, answer.read().decode()

    def status(self, path: str, method: str = "GET", **headers: str) -> int:
        return self.ask(path, method, **headers)[0].status

    def samples(self) -> dict[str, float]:
        """Every sample by its name and labels as they are written."""
        lines = self.ask("/metrics")[1].splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


@pytest.fixture(scope="module")
def datagrams(traffic: Traffic) -> Datagrams:
    return Datagrams(traffic.lab, traffic.director, traffic.built)


@pytest.fixture(scope="module")
def client(lab: Lab) -> Client:
    return Client(lab)


@contextmanager
def serving(ipvsca: Ipvsca, client: Client, **more: object) -> Iterator[subprocess.Popen[str]]:
    """Loaded, with a daemon that serves."""
    with ipvsca.loaded(**{"trusted": TRUSTED, "metrics": ADDRESS} | more), ipvsca.daemon("--no-load") as daemon:
        await_answer(client)
        yield daemon


def await_answer(client: Client) -> None:
    def answers() -> bool:
        try:
            client.connect().close()
        except OSError:
            return False
        return True

    assert wait_until(answers)


@pytest.fixture
def daemon(ipvsca: Ipvsca, client: Client) -> Iterator[subprocess.Popen[str]]:
    with serving(ipvsca, client) as daemon:
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
    traffic: Traffic, datagrams: Datagrams, ipvsca: Ipvsca, client: Client, lab: Lab, tmp_path: Path
) -> None:
    with serving(ipvsca, client), prometheus(lab.server, tmp_path, ADDRESS, rules()) as known:
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
            ("sum(ipvsca_program_attached)", len(CGROUP_PROGRAMS)),
            ("ipvsca_interfaces_attached / ipvsca_interfaces_wanted", 1),
            ("up", 1),
        ):
            assert known.value(expression) == number, expression
        assert known.value("time() - ipvsca_load_timestamp_seconds < 600") is not None
        assert known.value("time() - ipvsca_last_sweep_timestamp_seconds < 60") is not None
        assert known.firing() == set()


@needs_prometheus
def test_alerts_fire(
    traffic: Traffic, datagrams: Datagrams, ipvsca: Ipvsca, client: Client, lab: Lab, tmp_path: Path
) -> None:
    with serving(ipvsca, client) as daemon, prometheus(lab.server, tmp_path, ADDRESS, rules()) as known:
        send_some(traffic, datagrams)
        assert wait_until(lambda: known.value('ipvsca_connections_total{source="ack"}') == CLIENTS_AT_ONCE)
        assert known.firing() == set()

        ipvsca.run("set", "trusted=192.0.2.0/24")
        send_some(traffic, datagrams)
        assert wait_until(lambda: known.firing() == {"IpvscaUntrusted"})

        Pins.at(ipvsca.pin_path).link(CGROUP_PROGRAMS[0]).unlink()
        assert wait_until(lambda: "IpvscaHookMissing" in known.firing())
        ipvsca.run("load")
        assert wait_until(lambda: "IpvscaHookMissing" not in known.firing())

        daemon.kill()
        assert wait_until(lambda: "IpvscaDown" in known.firing())


def rules() -> str:
    """The alerts, quicker: what they wait for is a moment, and what they look back at a few seconds."""
    text = (MONITORING / "ipvsca.rules.yml").read_text()
    return re.sub(r"\[\d+[md]\]", "[30s]", re.sub(r"for: \w+", "for: 500ms", text))


@needs_prometheus
@pytest.mark.usefixtures("daemon")
def test_the_exposition_is_as_prometheus_has_it(client: Client) -> None:
    text = client.ask("/metrics")[1]
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert client.ask("/metrics", Accept="application/openmetrics-text")[1].endswith("# EOF\n")


@pytest.fixture
def names(ipvsca: Ipvsca, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Of everything that is exported, without what prometheus_client exports of the process."""
    monkeypatch.setattr(cost, "is_measured", lambda: True)
    sweeps = Sweeps()
    with ipvsca.loaded():
        with DataPlane(ipvsca.pin_path) as plane:
            sweeps.sweep(plane, 0)
        text, _ = Exporter(lambda: settings.read_file(ipvsca.config), sweeps).exposition("")
    families = text_string_to_metric_families(text.decode())
    found = {sample.name for family in families for sample in family.samples}
    return {name for name in found if not name.startswith("process_")}


def test_what_documents_rules_and_dashboard_name_is_exported(names: set[str]) -> None:
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
    samples = {
        sample.name: sample.value for each in text_string_to_metric_families(text.decode()) for sample in each.samples
    }
    ours = {name: value for name, value in samples.items() if name.startswith("ipvsca_")}
    assert ours == {
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
    missing = CGROUP_PROGRAMS[-1]
    with serving(ipvsca, client):
        assert client.ask("/healthz")[1] == '{"restoring": true, "wrong": []}\n'
        Pins.at(ipvsca.pin_path).link(missing).unlink()
        lab.server.run(["tc", "filter", "del", "dev", "eth0", "ingress"])
        answer, body = client.ask("/healthz")
        assert (answer.status, answer.headers["Content-Type"]) == (503, "application/json")
        found = json.loads(body)
        assert not found["restoring"]
        assert [line.partition(" ")[0] for line in found["wrong"]] == [missing.name, "tc"]
        samples = client.samples()
        assert samples["ipvsca_restoring"] == 0
        assert samples[f'ipvsca_program_attached{{program="{missing.name}"}}'] == 0
        assert samples["ipvsca_interfaces_attached"] == 0
        assert samples["ipvsca_interfaces_wanted"] == 1
        assert "Addresses are NOT being restored" in client.ask("/")[1]


@pytest.mark.usefixtures("daemon")
def test_what_is_asked_and_how(client: Client) -> None:
    answer, body = client.ask("/?x=1")
    assert answer.status == 200
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "Addresses are being restored" in body
    answer, body = client.ask("/metrics", "HEAD")
    assert (answer.status, body) == (200, "")
    assert int(answer.headers["Content-Length"]) > 1000
    assert client.status("/favicon.ico") == 404
    assert client.status("/../etc/passwd") == 404
    answer, _ = client.ask("/metrics", "POST")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert client.status("/", "BREW") == 501


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\r\n\r\n",
        b"\0" * 100 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * LONGEST_REQUEST + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nAuthorization: Basic \xff\xfe\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:20]),
)
def test_clients_that_send_nonsense(client: Client, sent: bytes) -> None:
    """Whatever they are answered, the next one is served."""
    with client.connect() as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        try:
            while connection.recv(4096):
                pass
        except ConnectionResetError:
            pass
    assert client.status("/healthz") == 200


@pytest.mark.usefixtures("daemon")
def test_clients_that_are_slow(client: Client) -> None:
    """They are let go of after a while, and those beyond MOST_CLIENTS at once."""
    with ExitStack() as stack:
        slow = [stack.enter_context(client.connect()) for _ in range(MOST_CLIENTS)]
        for connection in slow:
            connection.sendall(b"GET / HT")
        assert wait_until(lambda: is_turned_away(client))
        for connection in slow:
            assert connection.recv(1) == b""
    assert wait_until(lambda: not is_turned_away(client))
    assert client.status("/healthz") == 200


def is_turned_away(client: Client) -> bool:
    try:
        client.status("/healthz")
    except (http.client.HTTPException, ConnectionError):
        return True
    return False


def test_a_login(ipvsca: Ipvsca, client: Client, tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_text("me:päss:word\n")
    with serving(ipvsca, client, metrics_login=str(login)):
        answer, body = client.ask("/metrics")
        assert (answer.status, body) == (401, "")
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        for wrong in ("me:password", "me", "", "you:päss:word"):
            assert client.status("/", Authorization=f"Basic {b64encode(wrong.encode()).decode()}") == 401
        right = b64encode("me:päss:word".encode()).decode()
        assert client.status("/", Authorization=f"Bearer {right}") == 401
        for path in ("/", "/metrics", "/healthz"):
            assert client.status(path, Authorization=f"Basic {right}") == 200
            assert client.status(path) == 401


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if not shutil.which("openssl"):
        pytest.skip("needs openssl: apt install openssl")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        ["openssl", *words.split(), "-out", certificate, "-keyout", key], check=True, capture_output=True, timeout=60
    )
    return certificate, key


def test_tls(ipvsca: Ipvsca, client: Client, lab: Lab, certificate: tuple[Path, Path]) -> None:
    with serving(ipvsca, client, metrics_tls=list(map(str, certificate))):
        secure = Client(lab, ssl.create_default_context(cafile=str(certificate[0])))
        assert secure.status("/healthz") == 200
        assert is_turned_away(client)  # it speaks no TLS
        assert secure.status("/metrics") == 200


def logged(log: Path) -> list[str]:
    return log.read_text().splitlines()


def test_what_keeps_it_from_serving_is_mended_without_a_restart(
    ipvsca: Ipvsca, client: Client, lab: Lab, tmp_path: Path
) -> None:
    """The address is taken, then a file is not there, then all is well."""
    log = tmp_path / "log"
    log.touch()
    with lab.server.entered():
        other = socket.create_server(("127.0.0.1", 9255))
    with (
        other,
        ipvsca.loaded(metrics=ADDRESS),
        log.open("w") as stderr,
        ipvsca.daemon("--no-load", stderr=stderr) as daemon,
    ):
        taken = f"error: metrics={ADDRESS} is not served: [Errno 98] Address already in use; trying again every 10 s"
        assert wait_until(lambda: taken in logged(log))
        other.close()

        ipvsca.configure(metrics=ADDRESS, metrics_login="/nowhere")
        daemon.send_signal(signal.SIGHUP)
        missing = (
            f"error: metrics={ADDRESS} is not served: metrics_login: /nowhere cannot be read: No such file or directory;"
            " trying again every 10 s"
        )
        assert wait_until(lambda: missing in logged(log))

        ipvsca.configure(metrics=ADDRESS)
        daemon.send_signal(signal.SIGHUP)
        assert wait_until(lambda: f"serving http://{ADDRESS}/" in logged(log))
        assert client.status("/healthz") == 200

        ipvsca.configure(metrics="off")
        daemon.send_signal(signal.SIGHUP)
        assert wait_until(partial(is_closed, client))
        daemon.terminate()
        assert daemon.wait(10) == 0


def is_closed(client: Client) -> bool:
    try:
        client.connect().close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metrics_login", "no colon", "has to be one line, USER:PASSWORD"),
        ("metrics_login", "a:b\nc:d", "has to be one line, USER:PASSWORD"),
        ("metrics_login", ":b", "has to be one line, USER:PASSWORD"),
        ("metrics_tls", "nothing", "cannot be used: "),
    ],
)
def test_a_file_that_is_not_what_it_has_to_be(
    ipvsca: Ipvsca, tmp_path: Path, name: str, content: str, said: str
) -> None:
    file, log = tmp_path / "file", tmp_path / "log"
    file.write_text(content)
    value = [str(file), str(file)] if name == "metrics_tls" else str(file)
    with (
        ipvsca.loaded(**{"metrics": ADDRESS, name: value}),
        log.open("w") as stderr,
        ipvsca.daemon("--no-load", stderr=stderr),
    ):
        assert wait_until(lambda: any(name in line and said in line for line in logged(log)))
        assert not any("Traceback" in line for line in logged(log))
