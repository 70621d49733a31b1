"""A DNS question for one IPv4 address, and the answer to it. Bytes only (RFC 1035, section 4)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

HEADER = struct.Struct("!6H")  # id, flags, questions, answers, authorities, additional
RECORD = struct.Struct("!HHHIH4s")  # name, type, class, time to live, length, IPv4 address
TYPE_A, CLASS_IN = 1, 1
RECURSION_DESIRED = 0x0100
RESPONSE, TRUNCATED, RESULT = 0x8000, 0x0200, 0x000F
NAME_OF_THE_QUESTION = 0xC000 | HEADER.size  # compressed: a pointer to it


@dataclass(frozen=True)
class Question:
    """Which IPv4 address has this name? The name is ASCII, without a dot at its end."""

    name: str
    id: int = 1

    def __bytes__(self) -> bytes:
        labels = [label.encode("ascii") for label in self.name.split(".")]
        if not all(0 < len(label) < 64 for label in labels):
            raise ValueError(f"{self.name!r} is not a DNS name")
        name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
        return HEADER.pack(self.id, RECURSION_DESIRED, 1, 0, 0, 0) + name + struct.pack("!HH", TYPE_A, CLASS_IN)


def read_answer(question: Question, answer: bytes) -> IPv4Address:
    """The one address in the answer. Raises ValueError where it does not answer this question with one."""
    asked = bytes(question)[HEADER.size :]
    refusal = ValueError(f"{answer!r} is not the answer for {question.name}")
    if len(answer) < HEADER.size + len(asked) + RECORD.size:
        raise refusal
    ident, flags, questions, answers, _, _ = HEADER.unpack_from(answer)
    name, kind, klass, _ttl, length, packed = RECORD.unpack_from(answer, HEADER.size + len(asked))
    if (
        (ident, questions, answers) != (question.id, 1, 1)
        or flags & (RESPONSE | TRUNCATED | RESULT) != RESPONSE
        or answer[HEADER.size : HEADER.size + len(asked)] != asked
        or (name, kind, klass, length) != (NAME_OF_THE_QUESTION, TYPE_A, CLASS_IN, 4)
    ):
        raise refusal
    return IPv4Address(packed)
