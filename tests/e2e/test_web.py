"""The daemon's HTTP server: what is asked and how, who may, and clients that can do no harm."""

from __future__ import annotations

import http.client
import shutil
import signal
import socket
import ssl
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from ipvsca.ageing import Sweeps
from ipvsca.settings import DEFAULTS
from ipvsca.web import server as server_module
from ipvsca.web.server import CLIENT_TIMEOUT_S, LONGEST_REQUEST, MOST_CLIENTS, Web
from tests.e2e.web_client import ADDRESS, Client
from tests.kernel_state import wait_until
from tests.lab.topology import Lab
from tests.rig import Ipvsca


@pytest.fixture(scope="module")
def loaded(ipvsca: Ipvsca) -> Iterator[Ipvsca]:
    with ipvsca.loaded():
        yield ipvsca


@pytest.fixture(scope="module")
def client(lab: Lab) -> Client:
    return Client(lab)


@contextmanager
def serving(loaded: Ipvsca, client: Client, **more: object) -> Iterator[None]:
    loaded.configure(metrics=ADDRESS, **more)
    with loaded.daemon("--no-load"):
        client.await_answer()
        yield


@pytest.fixture
def server(loaded: Ipvsca, client: Client) -> Iterator[None]:
    with serving(loaded, client):
        yield


@pytest.mark.usefixtures("server")
def test_what_is_asked_and_how(client: Client) -> None:
    answer, body = client.ask("/?x=1")
    assert answer.status == 200
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "Addresses are being restored" in body
    answer, body = client.ask("/metrics", "HEAD")
    assert (answer.status, body) == (200, "")
    assert int(answer.headers["Content-Length"]) > 1000
    assert client.ask("/metrics", Accept="application/openmetrics-text")[1].endswith("# EOF\n")
    assert client.status("/favicon.ico") == 404
    assert client.status("/../etc/passwd") == 404
    answer, _ = client.ask("/metrics", "POST")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert client.status("/", "BREW") == 501


NONSENSE = (
    b"",
    b"\r\n\r\n",
    b"\0" * 100 + b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nAuthorization: Basic \xff\xfe\r\n\r\n",
)


@pytest.mark.usefixtures("server")
def test_clients_that_send_nonsense(client: Client) -> None:
    """Whatever they are answered, the next one is served."""
    for sent in NONSENSE:
        with client.connect() as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                while connection.recv(4096):
                    pass
        assert client.status("/healthz") == 200, sent


@pytest.mark.usefixtures("server")
def test_a_request_that_is_too_long_is_not_answered(client: Client) -> None:
    assert client.status("/", Padding="x" * (LONGEST_REQUEST - 100)) == 200
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        client.status("/", Padding="x" * LONGEST_REQUEST)
    assert client.status("/") == 200


@pytest.mark.usefixtures("server")
def test_clients_that_are_slow(client: Client) -> None:
    """They are let go of after a while, and those beyond MOST_CLIENTS at once."""
    with ExitStack() as stack:
        slow = [stack.enter_context(client.connect()) for _ in range(MOST_CLIENTS)]
        for connection in slow:
            connection.sendall(b"GET / HT")
        assert wait_until(client.is_turned_away)
        for connection in slow:
            assert connection.recv(1) == b""
    assert wait_until(lambda: not client.is_turned_away())
    assert client.status("/healthz") == 200


@pytest.mark.usefixtures("server")
def test_a_client_that_sends_a_byte_now_and_then(client: Client) -> None:
    """It gets no more time than one that sends nothing."""
    begun = time.monotonic()
    with client.connect() as connection:
        connection.settimeout(CLIENT_TIMEOUT_S / 10)
        while is_open(connection):
            assert time.monotonic() < begun + 3 * CLIENT_TIMEOUT_S
            with suppress(ConnectionError):
                connection.sendall(b"x")


def is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) != b""
    except TimeoutError:
        return True
    except ConnectionError:
        return False


def test_a_login(loaded: Ipvsca, client: Client, tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_text("me:päss:word\n")
    with serving(loaded, client, metrics_login=str(login)):
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


def test_tls(loaded: Ipvsca, client: Client, lab: Lab, certificate: tuple[Path, Path]) -> None:
    with serving(loaded, client, metrics_tls=list(map(str, certificate))):
        secure = Client(lab, ssl.create_default_context(cafile=str(certificate[0])))
        assert secure.status("/healthz") == 200
        assert client.is_turned_away()  # it speaks no TLS
        assert secure.status("/metrics") == 200


def test_an_address_that_is_taken_is_tried_again(
    lab: Lab, loaded: Ipvsca, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "RETRY_AFTER_S", 0.1)
    web = Web(replace(DEFAULTS, metrics=ADDRESS, pin_path=loaded.pin_path), Sweeps())
    with lab.server.entered():
        other = socket.create_server(("127.0.0.1", 9255))
        web.start()  # its thread stays in this namespace
    try:
        with other:
            assert wait_until(lambda: "is not served" in caplog.text)
        assert wait_until(lambda: not client.is_turned_away())
    finally:
        web.stop()
    assert client.is_refused()


def logged(log: Path) -> list[str]:
    return log.read_text().splitlines()


def test_what_keeps_it_from_serving_is_mended_without_a_restart(
    loaded: Ipvsca, client: Client, lab: Lab, tmp_path: Path
) -> None:
    """The address is taken, then a file is not there, then all is well, then nothing is to be served."""
    log = tmp_path / "log"
    log.touch()
    with lab.server.entered():
        other = socket.create_server(("127.0.0.1", 9255))
    loaded.configure(metrics=ADDRESS)
    with (
        other,
        log.open("w") as stderr,
        loaded.daemon("--no-load", stderr=stderr) as daemon,
    ):
        taken = f"error: metrics={ADDRESS} is not served: [Errno 98] Address already in use; trying again every 10 s"
        assert wait_until(lambda: taken in logged(log))
        other.close()

        loaded.configure(metrics=ADDRESS, metrics_login="/nowhere")
        daemon.send_signal(signal.SIGHUP)
        missing = (
            f"error: metrics={ADDRESS} is not served: metrics_login: /nowhere cannot be read: No such file or "
            "directory; trying again every 10 s"
        )
        assert wait_until(lambda: missing in logged(log))

        loaded.configure(metrics=ADDRESS)
        daemon.send_signal(signal.SIGHUP)
        assert wait_until(lambda: f"serving http://{ADDRESS}/" in logged(log))
        assert client.status("/healthz") == 200

        loaded.configure(metrics="off")
        daemon.send_signal(signal.SIGHUP)
        assert wait_until(client.is_refused)
        daemon.terminate()
        assert daemon.wait(10) == 0
