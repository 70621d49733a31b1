"""Packets that are kept: for each kind and each decision, the shortest that are known to reach it.

A line of a kind's file is what is decided, as counters have it, and the packet in hex. Mutations begin with these
packets, and tests hold both sides to what is written there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "corpus"
_KEPT = 3  # packets for a decision

IGNORED = "ignored"
"""What is decided where nothing is counted."""


@dataclass(frozen=True)
class Kept:
    """A packet, and what is decided on it where nothing came before it."""

    decision: str
    packet: bytes


def read(kind: str) -> list[Kept]:
    """A kind's packets; none where there is no file yet."""
    file = _file(kind)
    lines = file.read_text().splitlines() if file.exists() else []
    columns = (line.split(" | ") for line in lines if not line.startswith("#"))
    return [Kept(decision, bytes.fromhex(packet)) for decision, packet in columns]


def packets(kind: str) -> list[bytes]:
    return [kept.packet for kept in read(kind)]


def shortest(known: Iterable[Kept]) -> list[Kept]:
    """Those to keep, in the order of a file."""
    chosen: list[Kept] = []
    for kept in sorted(set(known), key=lambda kept: (kept.decision, len(kept.packet), kept.packet)):
        if [other.decision for other in chosen].count(kept.decision) < _KEPT:
            chosen.append(kept)
    return chosen


def write(kind: str, known: Iterable[Kept]) -> None:
    lines = (f"{kept.decision} | {kept.packet.hex()}\n" for kept in known)
    _file(kind).write_text(
        f"# {kind}: what is decided | the packet (python -m tests.fuzz --collect)\n" + "".join(lines)
    )


def decision(counted: Mapping[str, int]) -> str:
    """In the words of a file."""
    return " ".join(sorted(counted)) or IGNORED


def _file(kind: str) -> Path:
    return _FOLDER / f"{kind}.txt"
