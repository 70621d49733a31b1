"""Servers and load generators, Debian's and the bench's own: how they are started, and what they say they have done."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.records import Judged
from tests.bench.stage import END_TIMEOUT_S, LIPS, RIP, Stage
from tests.bench.storms import UDP_PORT

BARE_PORT = 7000
HTTP_PORT = 80
PROXIED_PORT = 81
PROXY_PORT = 8080
IPERF_PORT = 5201

KEPT_CONNECTIONS = 64
REQUEST = "GET / HTTP/1.0\r\n\r\n"

NGINX = """\
daemon off;
user root;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
worker_processes {workers};
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    default_type text/plain;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {rip}:{http} backlog=65535;
        return 200 "$remote_addr $remote_port\\n";
    }}
    server {{
        listen 127.0.0.1:{proxied} proxy_protocol backlog=65535;
        return 200 "$proxy_protocol_addr $proxy_protocol_port\\n";
    }}
}}
"""

HAPROXY = """\
global
    maxconn 4000
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
listen clients
    bind {rip}:{proxy} backlog 65535
    server nginx 127.0.0.1:{proxied} send-proxy-v2
"""


@contextmanager
def nginx(stage: Stage) -> Iterator[None]:
    """Tells each client whom it takes it for: on HTTP_PORT by the socket, on PROXIED_PORT by the PROXY protocol."""
    file = stage.folder / "nginx.conf"
    words = {"folder": stage.folder, "workers": os.cpu_count(), "rip": RIP, "http": HTTP_PORT, "proxied": PROXIED_PORT}
    file.write_text(NGINX.format(**words))
    with stage.serving(["nginx", "-c", file, "-e", stage.folder / "nginx-error.log"], HTTP_PORT):
        yield


@contextmanager
def haproxy(stage: Stage) -> Iterator[None]:
    """In front of nginx: on PROXY_PORT, with PROXY protocol version 2."""
    file = stage.folder / "haproxy.cfg"
    file.write_text(HAPROXY.format(rip=RIP, proxy=PROXY_PORT, proxied=PROXIED_PORT))
    with stage.serving(["haproxy", "-db", "-f", file], PROXY_PORT):
        yield


@contextmanager
def accept_loop(stage: Stage) -> Iterator[None]:
    """A bare accept, write, close on BARE_PORT."""
    with stage.serving([stage.program("accept_loop"), str(RIP), str(BARE_PORT)]):
        yield


@contextmanager
def iperf3(stage: Stage) -> Iterator[None]:
    """The server of the bulk throughput test."""
    with stage.serving(["iperf3", "--server", "--bind", str(RIP)], IPERF_PORT):
        yield


def new_connections(stage: Stage, port: int, seconds: int, restored: bool) -> tuple[float, Judged]:
    """New connections a second to a server that tells each whom it takes it for, and what was told."""
    request = "" if port == BARE_PORT else REQUEST
    said = stage.ask(
        [
            stage.program("connections"),
            str(RIP),
            str(port),
            "restored" if restored else "not",
            str(seconds),
            request,
            *map(str, LIPS),
        ],
        seconds,
    ).split()
    judged = Judged(*map(int, said[:4]))
    return (judged.right + judged.wrong + judged.missing) / float(said[4]), judged


def kept_requests(stage: Stage, port: int, seconds: int) -> float:
    """HTTP requests a second on connections that stay open."""
    url = f"http://{RIP}:{port}/"
    said = stage.ask(["wrk", "-t1", f"-c{KEPT_CONNECTIONS}", f"-d{seconds}s", url], seconds)
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"wrk: {said}")
    return float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0])


def bulk(stage: Stage, seconds: int) -> float:
    """Gigabits a second, from the client to the server, over one connection."""
    said = stage.ask(["iperf3", "--client", str(RIP), "--time", f"{seconds}", "--json"], seconds)
    return float(json.loads(said)["end"]["sum_received"]["bits_per_second"]) / 1e9


@contextmanager
def udp_echo(stage: Stage, restored: bool, judge: Callable[[Judged], None]) -> Iterator[None]:
    """Sends every datagram on UDP_PORT back; `judge` gets what it saw once it has ended."""
    argv: list[str | Path] = [stage.program("udp_echo"), str(RIP), str(UDP_PORT), "restored" if restored else "not"]
    with stage.serving(argv) as process:
        yield
        process.terminate()
        said, _ = process.communicate(timeout=END_TIMEOUT_S)
        judge(Judged(*map(int, said.split())))
