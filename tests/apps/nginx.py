"""Runs nginx in the foreground from a directory of its own, beside any other nginx of the machine.

It answers every request with `$remote_addr $remote_port` and logs it to DIRECTORY/access.log (LOG_FORMAT).
Say `--address ADDRESS --port PORT [--v6only]` for one listener, or `--listen` with nginx's own words for each of
several: `--listen 10.0.0.1:80 --listen '[::]:80 ipv6only=on' --listen '[::]:81 ipv6only=off'`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

LOG_FORMAT = '$remote_addr $remote_port $server_addr $server_port "$request"'

CONFIGURATION = """\
daemon off;
master_process on;
worker_processes {workers};
{user}
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
error_log stderr notice;

events {{
    worker_connections 1024;
}}

http {{
    log_format seen '{log_format}';
    access_log {directory}/access.log seen;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;

    server {{
{listeners}
        default_type text/plain;
        return 200 "$remote_addr $remote_port\\n";
    }}
}}
"""

# What the master logs for each worker, after it has opened every listener.
WORKER_STARTED = "start worker process "


def program() -> str | None:
    """Where nginx is; /usr/sbin is often missing from a user's PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def listen_directive(address: str, port: int, v6only: bool) -> str:
    """One listener in nginx's words. An IPv6 address without `v6only` is dual-stack."""
    if ":" not in address:
        return f"{address}:{port}"
    return f"[{address}]:{port} ipv6only={'on' if v6only else 'off'}"


def configuration(directory: Path, listeners: Iterable[str], workers: int) -> str:
    """The configuration file; everything it names lies in `directory`."""
    return CONFIGURATION.format(
        directory=directory,
        workers=workers,
        user="user root;" if os.geteuid() == 0 else "",
        log_format=LOG_FORMAT,
        listeners="\n".join(f"        listen {listener};" for listener in listeners),
    )


def run(nginx: str, directory: Path, listeners: Iterable[str], workers: int) -> int:
    """Runs nginx until it ends, says `ready` once all workers are started, and returns its exit status."""
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "nginx.conf"
    config.write_text(configuration(directory, listeners, workers))
    argv = [nginx, "-c", str(config), "-e", str(directory / "error.log")]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        assert process.stderr
        started = 0
        for line in process.stderr:
            sys.stderr.write(line)
            started += WORKER_STARTED in line
            if WORKER_STARTED in line and started == workers:
                print("ready", flush=True)
        return process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description="nginx, in the foreground, from a directory of its own")
    parser.add_argument("--directory", type=lambda text: Path(text).resolve(), required=True)
    parser.add_argument("--address")
    parser.add_argument("--port", type=int)
    parser.add_argument("--v6only", action="store_true")
    parser.add_argument("--listen", action="append", default=[])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if options.address:
        options.listen.append(listen_directive(options.address, options.port, options.v6only))
    nginx = program()
    if nginx is None:
        parser.error("nginx is not installed")
    return run(nginx, options.directory, options.listen, options.workers)


if __name__ == "__main__":
    sys.exit(main())
