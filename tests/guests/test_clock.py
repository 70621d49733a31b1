"""Somebody sets the clock. What is kept, and for how long, is measured by one that nobody can set."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.datagrams import Datagrams
from tests.e2e.test_udp import keep_busy_until_forgotten, two_clients
from tests.kernels.guest import BOOT_ARGUMENTS
from tests.rig import Ipvsca

YEAR_S = 365 * 24 * 3600
IN_A_GUEST = BOOT_ARGUMENTS in Path("/proc/cmdline").read_text()
pytestmark = pytest.mark.skipif(not IN_A_GUEST, reason="needs: a guest (make test-kernels); this clock is everybody's")


@contextmanager
def clock_set(by_s: int) -> Iterator[None]:
    """CLOCK_REALTIME of this guest, of which nobody else knows, is as much later inside the block."""
    time.clock_settime(time.CLOCK_REALTIME, time.time() + by_s)
    try:
        yield
    finally:
        time.clock_settime(time.CLOCK_REALTIME, time.time() - by_s)


@pytest.mark.parametrize("by_s", [YEAR_S, -YEAR_S], ids=["ahead", "back"])
def test_a_flow_in_use_is_kept_and_an_idle_one_goes_in_time(datagrams: Datagrams, ipvsca: Ipvsca, by_s: int) -> None:
    with ipvsca.loaded(udp_timeout=2), ipvsca.daemon(), two_clients(datagrams) as (server, idle, busy), clock_set(by_s):
        keep_busy_until_forgotten(ipvsca, server, idle, busy)
        ipvsca.run("check")
