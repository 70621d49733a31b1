"""The two sides of a comparison, and what is said where they differ."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ipvsca.dataplane import DataPlane
from ipvsca.kernel import compiler, source
from ipvsca.kernel.programs import INGRESS_ETHERNET, INGRESS_IP, Program
from ipvsca.wire import toa
from tests.bpf import probe
from tests.bpf.ingress import Ingress, Outcome
from tests.bpf.probe import ToaProbe
from tests.bpf.reference import expected
from tests.fuzz.kinds import Kind
from tests.lab import sandbox

_MAX_FLOWS = 1024  # as few as the settings accept: the whole table is looked through after each batch


@dataclass(frozen=True)
class Loaded:
    """The programs (their descriptors) and their maps."""

    programs: Mapping[Program, int]
    plane: DataPlane


@contextmanager
def loaded() -> Iterator[Loaded]:
    """Loaded inside the block into a pin folder of their own, and attached nowhere. Raises Problem."""
    with sandbox.bpffs() as folder:
        maps = folder / "maps"
        maps.mkdir()
        with (
            compiler.loaded_programs(maps, _MAX_FLOWS, (INGRESS_ETHERNET, INGRESS_IP)) as (programs, _),
            compiler.compiled(source.join(probe.SOURCE), maps, _MAX_FLOWS) as probes,
            DataPlane(folder) as plane,
        ):
            yield Loaded(programs | {probe.TOA: compiler.load(probes, probe.TOA)}, plane)


Made = TypeVar("Made")
"""What is to be seen of packets that were run."""


class Sides(ABC, Generic[Made]):
    """What BPF and what Python make of packets that come one after the other, where nothing came before them."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    @abstractmethod
    def bpf(self, *packets: bytes) -> Made:
        """Raises AssertionError where a program decides on a packet, or writes an entry that is not as it has to be."""

    @abstractmethod
    def python(self, *packets: bytes) -> Made:
        """What is expected."""

    @staticmethod
    @abstractmethod
    def decisions(made: Made) -> Mapping[str, int]:
        """How often what was decided, by counter; nothing of packets that are ignored."""


class _Ingress(Sides[Outcome]):
    def __init__(self, kind: Kind, loaded: Loaded) -> None:
        super().__init__(kind)
        self._ingress = Ingress(loaded.programs[kind.program], loaded.plane)

    def bpf(self, *packets: bytes) -> Outcome:
        return self._ingress.feed(*packets)

    def python(self, *packets: bytes) -> Outcome:
        return expected(*packets, settings=self.kind.settings, ethernet=self.kind.program == INGRESS_ETHERNET)

    @staticmethod
    def decisions(made: Outcome) -> Mapping[str, int]:
        return made.counted


class _Option(Sides[list[toa.Parsed]]):
    """The parser that sock_ops uses on an ACK."""

    def __init__(self, kind: Kind, loaded: Loaded) -> None:
        super().__init__(kind)
        self._parse = ToaProbe(loaded.programs[kind.program])

    def bpf(self, *packets: bytes) -> list[toa.Parsed]:
        return [self._parse(packet) for packet in packets]

    def python(self, *packets: bytes) -> list[toa.Parsed]:
        return [toa.parse_header(packet, self.kind.settings.tcpopt_addr) for packet in packets]

    @staticmethod
    def decisions(made: list[toa.Parsed]) -> Mapping[str, int]:
        return Counter(parsed.verdict.name.lower() for parsed in made)


def sides_of(kind: Kind, loaded: Loaded) -> Sides[Any]:
    """With the settings of this kind in force."""
    loaded.plane.apply(kind.settings)
    return _Option(kind, loaded) if kind.program == probe.TOA else _Ingress(kind, loaded)


class Differ(Exception):
    """BPF and Python do not make the same of these packets, which are as few as can be."""

    def __init__(self, sides: Sides[Any], packets: Sequence[bytes]) -> None:
        self.packets = packets
        name, again = sides.kind.name, " ".join(packet.hex() for packet in packets)
        super().__init__(
            f"{name}: BPF and Python differ\nBPF:    {_said(sides, packets)}\nPython: {sides.python(*packets)}\n"
            f"once more: .venv/bin/python -m tests.fuzz --kind {name} --packets {again}"
        )


def agreed(sides: Sides[Made], packets: Sequence[bytes]) -> Made:
    """What both sides make of these packets. Raises Differ."""
    made = sides.python(*packets)
    if _said(sides, packets) != made:
        raise Differ(sides, _fewest(sides, packets))
    return made


def _said(sides: Sides[Any], packets: Sequence[bytes]) -> object:
    try:
        return sides.bpf(*packets)
    except AssertionError as error:
        return error


def _fewest(sides: Sides[Any], packets: Sequence[bytes]) -> Sequence[bytes]:
    """Without each packet that the difference does not need."""
    fewest = list(packets)
    for at in reversed(range(len(fewest))):
        without = fewest[:at] + fewest[at + 1 :]
        if _said(sides, without) != sides.python(*without):
            fewest = without
    return fewest
