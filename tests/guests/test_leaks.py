"""Memory of the kernel: what connections took is given back. Here, because nobody else is at work in a guest."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvsca.address import Endpoint
from tests.e2e.puppet import Puppet, puppet
from tests.e2e.tcp_puppet import listen
from tests.e2e.test_what_broke_modules import STICKY
from tests.e2e.traffic import DUAL_V4, SERVICE_PORT, Traffic
from tests.lab.messages import Toa, Where
from tests.rig import Ipvsca

CONNECTIONS = 100
LEAST_LEAK_KB = 2 * CONNECTIONS  # with toa.ko it was 4 kB a connection


@pytest.fixture(scope="module", autouse=True)
def _loaded(ipvsca: Ipvsca) -> Iterator[None]:
    with ipvsca.loaded():
        yield


def test_a_dual_stack_listener_with_ipv6_options(traffic: Traffic) -> None:
    with puppet(traffic.lab) as server:
        listen(server, DUAL_V4, STICKY)
        traffic.direct(DUAL_V4, Toa(Where.BOTH))
        for _ in range(2):  # the first round fills caches
            before_kb = unreclaimable_kb()
            for _ in range(CONNECTIONS):
                come_and_go(traffic, server)
        assert unreclaimable_kb() - before_kb < LEAST_LEAK_KB


def come_and_go(traffic: Traffic, server: Puppet) -> None:
    """The client aborts, so that nothing stays in TIME_WAIT."""
    with traffic.connect(Endpoint(DUAL_V4.vip, SERVICE_PORT), DUAL_V4.sources[0]) as client:
        server("c, a = l.accept()")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
    server("c.close()")


def unreclaimable_kb() -> int:
    """What the kernel has allocated for itself, once it has freed what waits for that."""
    Path("/proc/sys/vm/drop_caches").write_text("3")
    return int(re.findall(r"SUnreclaim:\s*(\d+) kB", Path("/proc/meminfo").read_text())[0])
