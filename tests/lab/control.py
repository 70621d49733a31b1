"""The tests' end of a director process: start it, configure it, ask it. The packets are none of its business."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from ipvsca.address import Endpoint
from tests.lab.messages import Connection, Service, Settings, encode
from tests.lab.namespace import Namespace

REPOSITORY = Path(__file__).parents[2]
ANSWER_TIMEOUT = 10.0  # seconds
END_TIMEOUT = 5.0  # seconds


class Director:
    """A running director; a context manager that ends it."""

    def __init__(self, namespace: Namespace, tun: str, settings: Settings) -> None:
        self._process = namespace.popen(
            [sys.executable, "-m", "tests.lab.director", tun],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            # A session of its own: a Ctrl-C in our terminal is for us to handle.
            start_new_session=True,
        )
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        self._requests, self._answers = requests, answers
        self.configure(settings)

    def __enter__(self) -> Director:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def configure(self, settings: Settings) -> None:
        """Replace services and timeouts at once; connections stay, with the service they were made by.

        A connection's next packet brings it under the new timeouts.
        """
        self._ask({"do": "configure", "settings": settings})

    def serve(self, *services: Service) -> None:
        """Replace the services, with IPVS's timeouts."""
        self.configure(Settings(services))

    def connections(self) -> list[Connection]:
        """The live connections."""
        return self._connections(None)

    def connection(self, client: Endpoint) -> Connection:
        """The connection of this client, the only one it has. Raises ValueError where it has none or several."""
        (found,) = self._connections(client)
        return found

    def locals_towards(self, vip: Endpoint) -> dict[Endpoint, Endpoint]:
        """The LIP:lport of each client of this VIP. Its port may have served a connection to another one before."""
        return {known.client: known.local for known in self.connections() if known.vip == vip}

    def forget(self, client: Endpoint) -> None:
        """Forget this client's connections, so that their local ports are free. Raises ValueError where it has none."""
        if not self._ask({"do": "forget", "client": client}):
            raise ValueError(f"{client} has no connections")

    def forget_all(self) -> None:
        """Forget every connection. The next one gets the local port after the last, or the first of the range."""
        self._ask({"do": "forget", "client": None})

    def inject(self, *packets: bytes) -> None:
        """Send IP packets out of the director, one behind the other, from whoever they say.

        The kernel forwards them: the TTL loses one, and an IPv4 header with a wrong checksum gets no further. Raises
        ValueError at the first that is no IP packet.
        """
        self._ask({"do": "inject", "packets": packets})

    def stats(self) -> dict[str, int]:
        """What was done, and why packets were dropped, since the start; what never happened is missing.

        A packet that reached the director before the question is counted.
        """
        counters: dict[str, int] = self._ask({"do": "stats"})
        return counters

    def close(self) -> None:
        """End the director."""
        self._requests.close()
        try:
            self._process.wait(END_TIMEOUT)
        finally:
            self._process.kill()
            self._answers.close()

    def _connections(self, client: Endpoint | None) -> list[Connection]:
        return [Connection.from_json(line) for line in self._ask({"do": "connections", "client": client})]

    def _ask(self, request: dict[str, Any]) -> Any:
        """Send a request and return its answer. Raises ValueError with the director's words where it refuses."""
        self._requests.write(encode(request))
        self._requests.flush()
        reply = json.loads(self._read_line(time.monotonic() + ANSWER_TIMEOUT))
        if "error" in reply:
            raise ValueError(reply["error"])
        return reply["answer"]

    def _read_line(self, deadline: float) -> bytes:
        """The next line from the director. Raises RuntimeError when it ended, TimeoutError when it is silent."""
        pipe, line = self._answers.fileno(), b""
        while not line.endswith(b"\n"):
            if not select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the director does not answer")
            received = os.read(pipe, 65536)
            if not received:
                raise RuntimeError(f"the director ended with status {self._process.wait(END_TIMEOUT)}")
            line += received
        return line
