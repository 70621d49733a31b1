"""bpf/toa.h reads from every header what ipvsca/wire/toa.py, the reference, reads from it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection
from dataclasses import replace

import pytest

from ipvsca.dataplane import DataPlane
from ipvsca.settings import DEFAULTS
from ipvsca.wire import toa
from ipvsca.wire.toa import Verdict
from tests.bpf.headers import Headers
from tests.bpf.probe import ToaProbe
from tests.vectors import Vector, tcp_header, toa_vectors

EVERY_WORD_OF_THE_BITMAP = (9, 63, 64, 127, 128, 191, 192, 255)

pytestmark = pytest.mark.usefixtures("plane")


@pytest.mark.parametrize("vector", toa_vectors(), ids=lambda vector: vector.sentence)
def test_vector(toa_probe: ToaProbe, vector: Vector) -> None:
    assert toa_probe(vector.segment) == vector.expected


@pytest.mark.parametrize("vector", toa_vectors(), ids=lambda vector: vector.sentence)
def test_vector_cut_at_each_byte(toa_probe: ToaProbe, vector: Vector) -> None:
    for length in range(len(vector.segment)):
        cut = vector.segment[:length]
        assert toa_probe(cut) == toa.parse_header(cut), f"cut at {length}"


@pytest.mark.parametrize(
    ("kinds", "seed", "times"),
    [(DEFAULTS.tcpopt_addr, 1, 200_000), ((77,), 2, 100_000), (EVERY_WORD_OF_THE_BITMAP, 3, 100_000)],
    ids=["default kinds", "one kind", "many kinds"],
)
def test_random_headers(toa_probe: ToaProbe, plane: DataPlane, kinds: Collection[int], seed: int, times: int) -> None:
    plane.apply(replace(DEFAULTS, tcpopt_addr=tuple(kinds)))
    seen: Counter[Verdict] = Counter()
    for segment in itertools.islice(Headers(seed, kinds), times):
        expected = toa.parse_header(segment, kinds)
        assert toa_probe(segment) == expected, f"{segment.hex()} with kinds {kinds}"
        seen[expected.verdict] += 1
    assert min(seen[verdict] for verdict in Verdict) >= 4_000, seen


def test_an_option_of_each_length_at_each_place(toa_probe: ToaProbe) -> None:
    """Up to 40 bytes of options, all of which follow a NOP and belong to the packet, and more behind them."""
    behind = bytes(range(1, 101))
    for nops, length in itertools.product(range(39), range(256)):
        segment = tcp_header(15) + b"\1" * nops + bytes([toa.KIND_DPVS, length]) + behind
        assert toa_probe(segment) == toa.parse_header(segment), f"{nops} NOPs, length {length}"


@pytest.mark.parametrize(
    "front", ["", "00000000000000000000ffff", "000000000000000000000000"], ids=["v4", "mapped", "v6"]
)
def test_every_beginning_of_an_address(toa_probe: ToaProbe, front: str) -> None:
    for first, rest in itertools.product(range(256), [bytes(3), b"\0\0\1", b"\xff\xff\xff"]):
        address = bytes.fromhex(front) + bytes([first]) + rest
        option = bytes([toa.KIND_DPVS, 4 + len(address), 4, 210]) + address
        segment = tcp_header(5 + len(option) // 4) + option
        assert toa_probe(segment) == toa.parse_header(segment), address.hex()


def test_each_kind_is_known_from_every_other(toa_probe: ToaProbe, plane: DataPlane) -> None:
    option = {kind: tcp_header(7) + bytes.fromhex(f"{kind:02x}08 04d2 c6336407") for kind in range(256)}
    for configured in range(9, 256):
        plane.apply(replace(DEFAULTS, tcpopt_addr=(configured,)))
        found = [kind for kind, segment in option.items() if toa_probe(segment).verdict is Verdict.FOUND]
        assert found == [configured]
