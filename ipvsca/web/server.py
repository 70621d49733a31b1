"""A small HTTP server in a thread of the daemon: /metrics, /healthz and / for people.

Whatever goes wrong here is logged, and neither restoration nor the daemon's other work depends on it. A client gets a
few seconds and a few kilobytes, and there are only so many at once.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
import socket
import ssl
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from ipvsca import health
from ipvsca.address import Endpoint
from ipvsca.ageing import Sweeps
from ipvsca.errors import Problem
from ipvsca.settings import OFF, Settings
from ipvsca.web import page
from ipvsca.web.history import History
from ipvsca.web.metrics import Exporter

RETRY_AFTER_S = 10.0
CLIENT_TIMEOUT_S = 5.0
"""How long a client may take to ask, and then to take its answer."""
LONGEST_REQUEST = 8192
MOST_CLIENTS = 16

_LOOK_S = 0.5  # how soon it is seen that we are to stop
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    body: bytes
    content_type: str
    status: HTTPStatus = HTTPStatus.OK


class Web:
    """Serves what the settings say, from start() to stop(). Neither raises, nor waits for a client."""

    def __init__(self, settings: Settings, sweeps: Sweeps) -> None:
        self._settings = settings
        self._sweeps = sweeps
        self._exporter = Exporter(lambda: self._settings, sweeps)
        self._history = History()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._settings.metrics != OFF:
            self._stopped.clear()
            thread = threading.Thread(target=self._run, name="web", daemon=True)
            thread.start()
            self._thread = thread

    def stop(self) -> None:
        if self._thread:
            self._stopped.set()
            self._thread.join()
            self._thread = None

    def restart(self, settings: Settings) -> None:
        """Serve what other settings say; files that they name are read again."""
        self.stop()
        self._settings = settings
        self.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                with _Server(self._settings, self._answer) as server:
                    _log.info("serving %s", server.url)
                    while not self._stopped.is_set():
                        self._history.take(self._settings)
                        server.handle_request()
            except Exception as error:  # whatever it is, it must not end the thread
                address = self._settings.metrics
                _log.error("metrics=%s is not served: %s; trying again every %d s", address, error, RETRY_AFTER_S)
                self._stopped.wait(RETRY_AFTER_S)

    def _answer(self, path: str, accept: str) -> Answer | None:
        match path:
            case "/":
                return Answer(page.of(self._settings, self._history, self._sweeps).encode(), "text/html; charset=utf-8")
            case "/metrics":
                return Answer(*self._exporter.exposition(accept))
            case "/healthz":
                return _healthz(self._settings)
        return None


def _healthz(settings: Settings) -> Answer:
    wrong = [f"{each.what}: {each.remedy}" for each in health.attachments(settings) if not each.ok]
    state = {"restoring": not wrong, "wrong": wrong}
    status = HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
    return Answer(f"{json.dumps(state)}\n".encode(), "application/json", status)


class _Server(ThreadingMixIn, TCPServer):
    """Raises OSError where it cannot listen, Problem where a file of the settings is not what it has to be."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = MOST_CLIENTS
    timeout = _LOOK_S

    def __init__(self, settings: Settings, answer: Callable[[str, str], Answer | None]) -> None:
        endpoint = Endpoint.parse(settings.metrics)
        self.answer = answer
        self.login = _login(settings)
        self._tls = _tls(settings)
        self._free = threading.Semaphore(MOST_CLIENTS)
        self.address_family = socket.AF_INET if endpoint.address.version == 4 else socket.AF_INET6
        self.url = f"{'https' if self._tls else 'http'}://{endpoint}/"
        super().__init__((str(endpoint.address), endpoint.port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        client, address = super().get_request()
        client.settimeout(CLIENT_TIMEOUT_S)
        if self._tls:  # the handshake is the client's thread's: here it would keep others waiting
            client = self._tls.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        return client, address

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._free.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # a client that goes, or is too slow, is no matter
            _log.error("metrics: a request could not be answered: %r", error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "ipvsca"
    sys_version = ""
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"

    def setup(self) -> None:
        super().setup()
        self.rfile = BytesIO(_head(self.connection))

    def do_GET(self) -> None:
        if self.server.login and not self._is_known():
            self.send_response(HTTPStatus.UNAUTHORIZED)
            self.send_header("WWW-Authenticate", 'Basic realm="ipvsca", charset="UTF-8"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        answer = self.server.answer(self.path.partition("?")[0], self.headers.get("Accept", ""))
        if answer is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(answer.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_GET

    def _refuse(self) -> None:
        self.send_response(HTTPStatus.METHOD_NOT_ALLOWED)
        self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what is asked is no event."""

    def _is_known(self) -> bool:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "basic" and hmac.compare_digest(given.strip().encode("latin-1"), self.server.login)


def _head(client: socket.socket) -> bytes:
    """A request up to the empty line. Raises OSError for one that is too long, or too long in coming."""
    deadline = time.monotonic() + CLIENT_TIMEOUT_S
    head = b""
    while b"\r\n\r\n" not in head:
        client.settimeout(max(0.001, deadline - time.monotonic()))
        received = client.recv(LONGEST_REQUEST)
        head += received
        if not received or len(head) > LONGEST_REQUEST:
            raise ConnectionError("this is no request")
    client.settimeout(CLIENT_TIMEOUT_S)
    return head


def _login(settings: Settings) -> bytes:
    """What a client has to send (RFC 7617); nothing where it need not."""
    if settings.metrics_login == OFF:
        return b""
    file = Path(settings.metrics_login)
    try:
        login = file.read_bytes().strip()
    except OSError as error:
        raise Problem(f"metrics_login: {file} cannot be read: {error.strerror}") from None
    if not re.fullmatch(rb"[^:\n]+:[^\n]+", login):
        raise Problem(f"metrics_login: {file} has to be one line, USER:PASSWORD")
    return b64encode(login)


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if isinstance(settings.metrics_tls, str):  # OFF
        return None
    certificate, key = settings.metrics_tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password="")  # none is asked for on the terminal
    except (OSError, ValueError) as error:
        raise Problem(f"metrics_tls: {certificate} and {key} cannot be used: {error}") from None
    return context
