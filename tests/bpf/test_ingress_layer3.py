"""The tc program for devices without a link layer (tun, ipip, gre) makes of a packet what the one for Ethernet does."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ipvsca.dataplane import DataPlane
from ipvsca.kernel.programs import INGRESS_IP, Program
from tests.bpf import layer3
from tests.bpf.cases import Case
from tests.bpf.ingress import Ingress
from tests.bpf.reference import expected


@pytest.fixture
def ingress(programs: Mapping[Program, int], plane: DataPlane) -> Ingress:
    plane.apply(layer3.SETTINGS)
    return Ingress(programs[INGRESS_IP], plane)


PACKETS = [pytest.param(case, packet, id=case.sentence) for case, packet in layer3.packets()]


@pytest.mark.parametrize(("case", "packet"), PACKETS)
def test_case(ingress: Ingress, case: Case, packet: bytes) -> None:
    outcome = ingress.feed(packet)
    assert outcome.counted == case.outcome.counted
    assert list(outcome.learnt.values()) == list(case.outcome.learnt.values())
    assert outcome == expected(packet, settings=layer3.SETTINGS, ethernet=False)
