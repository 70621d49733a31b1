"""A client of what the daemon serves, on the lab's real server."""

from __future__ import annotations

import http.client
import socket
import ssl

from ipvsca.web.server import CLIENT_TIMEOUT_S
from tests.kernel_state import wait_until
from tests.lab.topology import Lab

ADDRESS = "127.0.0.1:9255"


class Client:
    """Asks the daemon at ADDRESS."""

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

    def await_answer(self) -> None:
        """Until somebody listens."""
        assert wait_until(lambda: not self.is_refused())

    def is_refused(self) -> bool:
        """Whether nobody listens."""
        try:
            self.connect().close()
        except ConnectionRefusedError:
            return True
        return False

    def is_turned_away(self) -> bool:
        """Whether somebody listens, and does not answer."""
        try:
            self.status("/healthz")
        except (http.client.HTTPException, ConnectionError):
            return True
        return False
