"""A connection looks for a client that was told ahead of it only where one can have been; none may be missed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from ipvsca import loader, settings
from ipvsca.address import Endpoint
from ipvsca.dataplane import LONG_AGO, NANOSECONDS, UNKNOWN, DataPlane
from ipvsca.kernel import source
from ipvsca.kernel.maps import ONLY
from ipvsca.settings import DEFAULTS
from tests.apps.catalogue import app
from tests.e2e.traffic import IPV4, SERVICE_PORT, Traffic, own_address
from tests.lab.messages import Toa, Where
from tests.rig import Ipvsca

ACCEPT = app("c-accept")


def told(plane: DataPlane) -> tuple[int, int]:
    """When a SYN told a client last, and when an announcement."""
    last = plane.table("told").get(ONLY)
    return last.by_syn_ns, last.by_announcement_ns


@pytest.fixture(scope="module", autouse=True)
def plane(ipvsca: Ipvsca) -> Iterator[DataPlane]:
    with ipvsca.loaded(), DataPlane(ipvsca.pin_path) as plane:
        assert told(plane) == (LONG_AGO % (1 << 64),) * 2  # nobody can have told anything yet
        yield plane


@pytest.mark.parametrize(
    ("ago_s", "is_found"),
    [(None, True), (0, True), (2 * DEFAULTS.tcp_timeout - 10, True), (2 * DEFAULTS.tcp_timeout, False)],
    ids=["unknown", "just now", "within twice its time", "beyond"],
)
def test_who_looks(traffic: Traffic, plane: DataPlane, ago_s: int | None, is_found: bool) -> None:
    """The ACK that ends the handshake gets lost; what is told changes before the first data comes."""
    with traffic.serving(ACCEPT, IPV4):
        traffic.direct(IPV4, Toa(Where.SYN), lose_final_ack=True)
        with traffic.connect(Endpoint(IPV4.vip, SERVICE_PORT), IPV4.sources[0]) as client:
            plane.say_told(UNKNOWN if ago_s is None else time.monotonic_ns() - ago_s * NANOSECONDS)
            seen = ACCEPT.ask(client)
            known = traffic.director.connection(own_address(client))
        assert seen == ACCEPT.sees(IPV4.shown(known.client if is_found else known.local))


def test_a_replacement(monkeypatch: pytest.MonkeyPatch, ipvsca: Ipvsca, plane: DataPlane) -> None:
    """What was told is not known while programs of two versions run, and no later than the end of that."""
    during = []
    commit = loader._commit

    def watched(pins: Any, programs: Any, plane: DataPlane, steps: Any) -> None:
        during.append(told(plane))
        commit(pins, programs, plane, steps)
        during.append(told(plane))

    with ipvsca.namespace.entered():
        monkeypatch.setattr(loader, "_commit", watched)
        monkeypatch.setattr(source, "digest", lambda _: "another version")
        begun_ns = time.monotonic_ns()
        loader.load(settings.read_file(ipvsca.config))
        assert all(begun_ns < moment_ns <= time.monotonic_ns() for moment_ns in told(plane))
    assert during == [(UNKNOWN, UNKNOWN)] * 2


def test_a_replacement_that_fails(monkeypatch: pytest.MonkeyPatch, ipvsca: Ipvsca, plane: DataPlane) -> None:
    """The programs from before are back, and say it themselves."""

    def fails(*_: object) -> None:
        raise RuntimeError

    with ipvsca.namespace.entered():
        monkeypatch.setattr(loader, "_commit", fails)
        monkeypatch.setattr(source, "digest", lambda _: "yet another version")
        begun_ns = time.monotonic_ns()
        with pytest.raises(RuntimeError):
            loader.load(settings.read_file(ipvsca.config))
        assert all(begun_ns < moment_ns <= time.monotonic_ns() for moment_ns in told(plane))
