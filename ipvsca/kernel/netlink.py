"""Netlink (netlink(7)): what is asked of the kernel, what it answers, and the attributes in both. Host byte order."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

# Of a request that changes something: flags of linux/netlink.h.
REPLACE = 0x100
EXCLUSIVE = 0x200
CREATE = 0x400

NESTED = 0x8000
"""Set in the type of an attribute that holds attributes."""

_REQUEST = 0x1
_ACKNOWLEDGE = 0x4
_DUMP = 0x300
_DUMP_INTERRUPTED = 0x10  # of an answer
_ERROR = 2
_DONE = 3

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, sender
_ATTRIBUTE = struct.Struct("=HH")  # length with this header, type
_STATUS = struct.Struct("=i")  # 0, or a negative errno
_LONGEST = 1 << 17  # more than the kernel sends at once


Request = tuple[int, bytes, int]
"""Something to change: the message's type, its body, and flags."""


class Netlink:
    """A netlink socket of one protocol. A context manager."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def do(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        """Ask for one thing, or change something; gives what is answered.

        Raises OSError with the kernel's errno where it refuses.
        """
        return list(self._ask(kind, body, flags | _ACKNOWLEDGE))

    def do_all(self, *requests: Request) -> list[int]:
        """Have the kernel work off requests in one system call, so that whoever is killed leaves all of them or none.

        Gives errno or 0 for each; one that is refused keeps none from its turn.
        """
        self._socket.send(b"".join(_message(kind, body, flags | _ACKNOWLEDGE) for kind, body, flags in requests))
        return [_errno(answer) for _ in requests for _, _, answer in messages(self._socket.recv(_LONGEST))]

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """Ask for all there is of something; the answer has to be read to its end.

        Raises OSError with the kernel's errno where it refuses, InterruptedError at the end of an answer that may have
        gaps because something changed meanwhile.
        """
        return self._ask(kind, body, _DUMP)

    def _ask(self, kind: int, body: bytes, flags: int) -> Iterator[bytes]:
        self._socket.send(_message(kind, body, flags))
        is_whole = True
        while True:
            for answered, answer_flags, answer in messages(self._socket.recv(_LONGEST)):
                is_whole &= not answer_flags & _DUMP_INTERRUPTED
                if answered in (_ERROR, _DONE):
                    _check(answer)
                    if not is_whole:
                        raise InterruptedError
                    return
                yield answer


def _message(kind: int, body: bytes, flags: int) -> bytes:
    whole = _HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST, 1, 0) + body
    return whole + bytes(_aligned(len(whole)) - len(whole))


def messages(received: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and body of each message."""
    at = 0
    while at + _HEADER.size <= len(received):
        length, kind, flags, *_ = _HEADER.unpack_from(received, at)
        yield kind, flags, received[at + _HEADER.size : at + length]
        at += _aligned(max(length, _HEADER.size))


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute; for one that holds others, they are its value."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def find(attributes: bytes, kind: int, *inner: int) -> bytes | None:
    """The value of an attribute; of one in it where more kinds are given. None where there is none."""
    at = 0
    while at + _ATTRIBUTE.size <= len(attributes):
        length, found = _ATTRIBUTE.unpack_from(attributes, at)
        if found & ~NESTED == kind:
            value = attributes[at + _ATTRIBUTE.size : at + length]
            return find(value, *inner) if inner else value
        at += _aligned(max(length, _ATTRIBUTE.size))
    return None


def _errno(status: bytes) -> int:
    """0 where there is none."""
    return -_STATUS.unpack_from(status)[0] if len(status) >= _STATUS.size else 0


def _check(status: bytes) -> None:
    number = _errno(status)
    if number:
        raise OSError(number, os.strerror(number))


def _aligned(length: int) -> int:
    return -(-length // 4) * 4
