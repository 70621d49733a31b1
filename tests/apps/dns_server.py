"""Runs a DNS server in the foreground from a directory of its own, beside any other of the machine.

dnsmasq and unbound know one name, `lab.test`, with everything below it, and ask nobody else. They log each question to
DIRECTORY/log (`dns_log` reads it) before they answer it. Both open a socket of each family for `::`, so neither shows
v4-mapped addresses.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

DOMAIN = "lab.test"
ADDRESS = IPv4Address("192.0.2.53")
POLL_S = 0.002

UNBOUND_CONFIGURATION = """\
server:
    directory: "{directory}"
    pidfile: "{directory}/unbound.pid"
    logfile: "{log}"
    chroot: ""
    username: ""
    do-daemonize: no
    use-syslog: no
    verbosity: 1
    log-queries: yes
    num-threads: 1
    module-config: "iterator"
{listeners}
    port: {port}
    access-control: 0.0.0.0/0 allow
    access-control: ::/0 allow
    local-zone: "{domain}." redirect
    local-data: "{domain}. A {address}"
remote-control:
    control-enable: no
"""


@dataclass(frozen=True)
class Listen:
    """What the command line asks for. `::` without `v6only` is all addresses of both families.

    dnsmasq takes 0.0.0.0 for that, too.
    """

    address: str
    port: int
    v6only: bool

    @property
    def is_wildcard(self) -> bool:
        return self.address in ("::", "0.0.0.0")

    @property
    def addresses(self) -> tuple[str, ...]:
        return ("::", "0.0.0.0") if self.address == "::" and not self.v6only else (self.address,)


@dataclass(frozen=True)
class DnsServer:
    """`command` writes what it needs into the run's directory; `started` is in its log once its sockets are bound."""

    name: str
    command: Callable[[str, Path, Listen], list[str]]
    started: str

    def program(self) -> str | None:
        """Where it is; /usr/sbin is often missing from a user's PATH."""
        return shutil.which(self.name) or shutil.which(self.name, path="/usr/sbin:/usr/local/sbin")


def log_of(directory: Path) -> Path:
    return directory / "log"


def _dnsmasq_command(program: str, directory: Path, listen: Listen) -> list[str]:
    """Without a listen address dnsmasq takes all, and answers from the one that was asked (IP_PKTINFO).

    Raises ValueError for all addresses of IPv6 alone, which it cannot do: of `--listen-address=::` it binds that, but
    drops every datagram that was not sent to `::`.
    """
    if listen.address == "::" and listen.v6only:
        raise ValueError("dnsmasq has no IPv6-only wildcard")
    one = [] if listen.is_wildcard else ["--bind-interfaces", f"--listen-address={listen.address}"]
    return [
        program,
        "--conf-file=/dev/null",
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
        f"--port={listen.port}",
        *one,
        f"--address=/{DOMAIN}/{ADDRESS}",
        f"--pid-file={directory / 'dnsmasq.pid'}",
        f"--log-facility={log_of(directory)}",
        "--log-queries=extra",  # with the client's port
        *(["--user=root", "--group=root"] if os.geteuid() == 0 else []),
    ]


def _unbound_command(program: str, directory: Path, listen: Listen) -> list[str]:
    """Of a copy, because AppArmor lets the program at its own path read nothing but /etc/unbound."""
    copy = shutil.copy(program, directory / "unbound")
    configuration = directory / "unbound.conf"
    configuration.write_text(
        UNBOUND_CONFIGURATION.format(
            directory=directory,
            log=log_of(directory),
            listeners="\n".join(f"    interface: {address}" for address in listen.addresses),
            port=listen.port,
            domain=DOMAIN,
            address=ADDRESS,
        )
    )
    return [str(copy), "-d", "-p", "-c", str(configuration)]


DNSMASQ = DnsServer("dnsmasq", _dnsmasq_command, started=": started, version ")
UNBOUND = DnsServer("unbound", _unbound_command, started=": start of service ")
DNS_SERVERS = {server.name: server for server in (DNSMASQ, UNBOUND)}


def has_started(server: DnsServer, directory: Path, process: subprocess.Popen[bytes]) -> bool:
    """Waits for the line of the log that follows on the sockets. False where the process ends before."""
    log = log_of(directory)
    while not log.exists() or server.started not in log.read_text():
        if process.poll() is not None:
            return False
        time.sleep(POLL_S)
    return True


def run(server: DnsServer, program: str, directory: Path, listen: Listen) -> int:
    """Runs it until it ends, says `ready` once it has started, and returns its exit status."""
    with subprocess.Popen(server.command(program, directory, listen)) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        if has_started(server, directory, process):
            print("ready", flush=True)
        return process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description="a DNS server, in the foreground, from a directory of its own")
    parser.add_argument("server", choices=DNS_SERVERS)
    parser.add_argument("--directory", type=lambda text: Path(text).resolve(), required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--v6only", action="store_true")
    options = parser.parse_args()
    server = DNS_SERVERS[options.server]
    program = server.program()
    if program is None:
        parser.error(f"{server.name} is not installed")
    return run(server, program, options.directory, Listen(options.address, options.port, options.v6only))


if __name__ == "__main__":
    sys.exit(main())
