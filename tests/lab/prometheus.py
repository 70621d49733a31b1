"""A Prometheus of Debian in one of the lab's namespaces, which scrapes several times a second."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ipvsca.address import Endpoint
from tests.kernel_state import wait_until
from tests.lab.namespace import Namespace

ADDRESS = Endpoint.of("127.0.0.1", 9090)
TIMEOUT_S = 10.0

Labels = frozenset[tuple[str, str]]


class Prometheus:
    """It answers queries at once, and knows what it last scraped."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def query(self, expression: str) -> dict[Labels, float]:
        """Each series' labels, with its name as __name__, and its value."""
        found = self._ask(f"/api/v1/query?query={quote(expression)}")["result"]
        return {frozenset(each["metric"].items()): float(each["value"][1]) for each in found}

    def value(self, expression: str) -> float | None:
        """The value of the only series; None where there is none."""
        values = list(self.query(expression).values())
        assert len(values) <= 1, values
        return values[0] if values else None

    def firing(self) -> set[str]:
        """The alerts that fire."""
        return {alert["labels"]["alertname"] for alert in self._alerts() if alert["state"] == "firing"}

    def is_ready(self) -> bool:
        with suppress(OSError):
            return self._get("/-/ready")[0] == 200
        return False

    def _alerts(self) -> list[Mapping[str, Any]]:
        alerts: list[Mapping[str, Any]] = self._ask("/api/v1/alerts")["alerts"]
        return alerts

    def _ask(self, path: str) -> Any:
        status, body = self._get(path)
        assert status == 200, body
        return json.loads(body)["data"]

    def _get(self, path: str) -> tuple[int, bytes]:
        with self._namespace.entered():
            connection = http.client.HTTPConnection(str(ADDRESS.address), ADDRESS.port, timeout=TIMEOUT_S)
            connection.connect()
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def prometheus(namespace: Namespace, folder: Path, target: str, rules: str) -> Iterator[Prometheus]:
    """Scraping `target` as job `ipvsca`, with these rules; killed at the end of the block."""
    (folder / "rules.yml").write_text(rules)
    configuration = {
        "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "ipvsca", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(configuration))  # YAML takes JSON
    arguments = [
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={ADDRESS}",
    ]
    with (folder / "prometheus.log").open("w") as log:
        process = namespace.popen(["prometheus", *arguments], stdout=subprocess.DEVNULL, stderr=log)
        running = Prometheus(namespace)
        try:
            assert wait_until(running.is_ready), (folder / "prometheus.log").read_text()
            yield running
        finally:
            process.kill()
            process.wait()
