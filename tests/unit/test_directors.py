"""What is open through each director: flows are counted by LIP, each once."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from ipvsca.directors import _flows
from ipvsca.kernel import layout


class Plane:
    """Has a table of flows, given in two batches."""

    def __init__(self, *flows: tuple[str, bool]) -> None:
        self._batches = (flows[:2], flows[2:])

    def table(self, name: str) -> Any:
        assert name == "flows"
        return self

    def batches(self) -> Iterator[tuple[bytes, bytes]]:
        for batch in self._batches:
            keys = (layout.FlowKey(lip=layout.PackedAddress.of(ip_address(lip))) for lip, _ in batch)
            values = (layout.Learnt(client=layout.Client(is_ambiguous=is_ambiguous)) for _, is_ambiguous in batch)
            yield b"".join(map(bytes, keys)), b"".join(map(bytes, values))


def test_flows_by_director() -> None:
    plane: Any = Plane(("10.0.0.1", False), ("fd00::1", False), ("10.0.0.1", False), ("10.0.0.2", False))
    assert _flows(plane) == {ip_address("10.0.0.1"): 2, ip_address("fd00::1"): 1, ip_address("10.0.0.2"): 1}


def test_an_entry_that_leads_to_others_is_no_flow() -> None:
    plane: Any = Plane(("10.0.0.1", True), ("10.0.0.1", False), ("10.0.0.1", False), ("10.0.0.2", True))
    assert _flows(plane) == {ip_address("10.0.0.1"): 2}


def test_no_flows() -> None:
    plane: Any = Plane()
    assert _flows(plane) == {}
