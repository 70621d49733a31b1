"""`ipvsca top`: its figures are true, it fits into 80 columns and 24 lines, and leaves the terminal as it was."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ipvsca.address import Endpoint
from ipvsca.kernel.pins import Pins
from ipvsca.kernel.programs import CGROUP_PROGRAMS
from tests.apps.catalogue import app
from tests.apps.udp_catalogue import udp_app
from tests.e2e.datagrams import BOUND, Datagrams
from tests.e2e.traffic import CLIENTS_AT_ONCE, IPV4, SERVICE_PORT, TIMEOUT_S, Traffic
from tests.lab import addresses as a
from tests.lab.messages import Announce, Toa, Where
from tests.rig import REPOSITORY, Ipvsca

ACCEPT = app("c-accept")
RECVFROM = udp_app("c-recvfrom")
COLUMNS, LINES = 80, 24
IPV4_SERVICE = Endpoint(IPV4.vip, SERVICE_PORT)
LEAVES_ITS_SCREEN = b"\x1b[?1049l"
SHOWS_THE_CURSOR = b"\x1b[?25h"


@pytest.fixture(scope="module", autouse=True)
def _loaded(ipvsca: Ipvsca) -> Iterator[None]:
    with ipvsca.loaded():
        yield


class Terminal:
    """`top` on a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.master = master
        self.written = b""

    def await_text(self, text: bytes) -> None:
        """Until it has written this, from now on."""
        begun = len(self.written)
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self.written[begun:]:
            assert select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0], self.written
            self.written += os.read(self.master, 4096)

    def press(self, key: bytes) -> None:
        os.write(self.master, key)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def ended(self) -> int:
        """Its exit status, once it has ended."""
        self.await_text(LEAVES_ITS_SCREEN)
        return self.process.wait(TIMEOUT_S)


@contextmanager
def top(ipvsca: Ipvsca, *arguments: str) -> Iterator[Terminal]:
    """From when it has drawn figures; killed at the end of the block if it still runs."""
    master, slave = pty.openpty()
    terminal_before = termios.tcgetattr(slave)
    process = ipvsca.namespace.popen(
        ipvsca.command("top", "--interval", "0.2", *arguments),
        cwd=REPOSITORY,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=os.environ | {"TERM": "xterm-256color"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    terminal = Terminal(process, master)
    terminal.resize(COLUMNS, LINES)
    try:
        terminal.await_text(b"flows in the table")
        yield terminal
        assert termios.tcgetattr(slave) == terminal_before
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


def test_figures(traffic: Traffic, datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    before = ipvsca.json("top")
    with traffic.serving(ACCEPT, IPV4), datagrams.serving(RECVFROM, BOUND) as process:
        traffic.direct(IPV4, Toa(Where.ACK))
        traffic.ask(ACCEPT, IPV4)
        datagrams.direct(BOUND, Announce())
        datagrams.ask(RECVFROM, BOUND, process.directory)
        after = ipvsca.json("top")
    assert {name: after["totals"][name] - before["totals"][name] for name in before["totals"]} == {
        "connections_restored": CLIENTS_AT_ONCE,
        "datagrams_restored": CLIENTS_AT_ONCE,
        "datagrams_sent_back": CLIENTS_AT_ONCE,
        "connections_without_client": 0,
        "refusals": 0,
    }
    assert after["rates"] == dict.fromkeys(after["totals"], 0)
    assert after["seconds"] >= 1
    assert after["restoring"]
    assert (after["flows"], after["max_flows"]) == (CLIENTS_AT_ONCE, 131072)
    assert {each["address"] for each in after["directors"]} <= {str(lip) for lip in a.LIPS_V4}
    assert sum(each["flows"] for each in after["directors"]) == CLIENTS_AT_ONCE
    assert after["programs"] is None


def test_connections_by_director(traffic: Traffic, ipvsca: Ipvsca) -> None:
    with traffic.serving(ACCEPT, IPV4):
        traffic.direct(IPV4, Toa(Where.ACK))
        with traffic.connect(IPV4_SERVICE, IPV4.sources[0]), traffic.connect(IPV4_SERVICE, IPV4.sources[1]):
            found = ipvsca.json("top")["directors"]
    assert sum(each["connections"] for each in found) == 2


def test_rates_and_refusals(traffic: Traffic, ipvsca: Ipvsca) -> None:
    """While one connection after the other comes."""
    ipvsca.run("set", "trusted=192.0.2.0/24")
    try:
        with traffic.serving(ACCEPT, IPV4):
            traffic.direct(IPV4, Toa(Where.ACK))
            command = ipvsca.command("top", "--json", "--cost", "--interval", "3")
            watching = ipvsca.namespace.popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
            while watching.poll() is None:
                traffic.ask(ACCEPT, IPV4)
            printed, _ = watching.communicate()
    finally:
        ipvsca.run("load")
    found = json.loads(printed)
    assert found["rates"]["connections_without_client"] > 0
    assert found["rates"]["refusals"] == found["rates"]["connections_without_client"]
    assert found["rates"]["connections_restored"] == 0
    assert found["refusals"].keys() == {"refused_ack_untrusted"}
    refused = found["refusals"]["refused_ack_untrusted"]
    assert refused["rate"] == pytest.approx(found["rates"]["refusals"])
    assert refused["last_source"] in {str(lip) for lip in a.LIPS_V4}
    assert found["programs"]["ipvsca_sockops"]["runs"] > 0
    assert 0 < found["programs"]["ipvsca_sockops"]["cpu_seconds"] < 1


@pytest.mark.parametrize("cost", [(), ("--cost",)], ids=["not measured", "measured"])
def test_it_fits(ipvsca: Ipvsca, cost: tuple[str, ...]) -> None:
    lines = ipvsca.run("top", "--once", "--interval", "0.2", *cost).stdout.splitlines()
    assert len(lines) <= LINES
    assert all(len(line) <= COLUMNS for line in lines)
    assert "restoring" in lines[0]
    assert any(line.startswith("flows in the table") for line in lines)
    assert any("not measured" in line for line in lines) == (not cost)


@pytest.mark.parametrize("key", [b"q", b"Q", b"\x03"], ids=["q", "Q", "Ctrl-C"])
def test_keys_that_quit(ipvsca: Ipvsca, key: bytes) -> None:
    with top(ipvsca) as terminal:
        terminal.press(b"x")
        terminal.await_text(b"flows in the table")
        terminal.press(key)
        assert terminal.ended() == 0
        assert SHOWS_THE_CURSOR in terminal.written


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_signals_that_end_it(ipvsca: Ipvsca, number: signal.Signals) -> None:
    with top(ipvsca) as terminal:
        terminal.process.send_signal(number)
        assert terminal.ended() == 0
        assert SHOWS_THE_CURSOR in terminal.written


def test_another_size(ipvsca: Ipvsca) -> None:
    """It is drawn anew at once, not only when the interval is over."""
    with top(ipvsca, "--interval", "60") as terminal:
        terminal.resize(120, 40)
        terminal.await_text(b"flows in the table")
        terminal.press(b"q")
        assert terminal.ended() == 0


def test_what_goes_wrong_meanwhile_is_shown_until_it_is_mended(ipvsca: Ipvsca) -> None:
    with top(ipvsca) as terminal:
        Pins.at(ipvsca.pin_path).link(CGROUP_PROGRAMS[0]).unlink()
        terminal.await_text(b"NOT restoring: not attached there: `ipvsca load`")
        terminal.await_text(CGROUP_PROGRAMS[0].name.encode())
        ipvsca.run("unload")
        terminal.await_text(b"nothing is loaded")
        ipvsca.run("load")
        terminal.await_text(b"flows in the table")
        terminal.press(b"q")
        assert terminal.ended() == 0


def test_without_a_terminal(ipvsca: Ipvsca) -> None:
    done = ipvsca.run("top", status=1)
    assert (done.stdout, done.stderr) == (
        "",
        "ipvsca: top draws on a terminal, and this is none: --once or --json print it\n",
    )


@pytest.mark.parametrize("interval", ["0", "-1", "x", "3601", "nan", "inf"])
def test_a_wrong_interval(ipvsca: Ipvsca, interval: str) -> None:
    done = ipvsca.run("top", f"--interval={interval}", status=2)
    assert f"{interval!r} is no number of seconds from 0.1 to 3600" in done.stderr


def test_escape_codes_are_for_terminals(ipvsca: Ipvsca) -> None:
    assert not re.search("[\x1b\t]", ipvsca.run("top", "--once", "--interval", "0.2").stdout)
