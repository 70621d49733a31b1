"""Netlink messages: what is built can be found again, and no bytes, however wrong, keep a reader from its end."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsca.kernel.netlink import NESTED, Netlink, attribute, find, messages

DONE, ERROR, ANSWER, INTERRUPTED = 3, 2, 16, 0x10


def message(kind: int, body: bytes = b"", flags: int = 0) -> bytes:
    padding = bytes(-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body + padding


def test_attributes() -> None:
    inner = attribute(1, b"veth\0") + attribute(2, b"")
    attributes = attribute(3, b"eth0\0") + attribute(18 | NESTED, inner)
    assert len(attributes) % 4 == 0
    assert find(attributes, 3) == b"eth0\0"
    assert find(attributes, 18, 1) == b"veth\0"
    assert find(attributes, 18, 2) == b""
    assert find(attributes, 18, 3) is None
    assert find(attributes, 4) is None


@given(st.binary(max_size=64))
def test_any_bytes_end(received: bytes) -> None:
    assert len(list(messages(received))) <= len(received) // 16
    find(received, 1, 2)


class Kernel:
    """The other end of a socket: answers one request with datagrams that a test gives."""

    def __init__(self, *answers: bytes) -> None:
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.netlink = Netlink(socket.NETLINK_ROUTE)
        self.netlink.close()
        self.netlink._socket = ours
        for answer in answers:
            self.theirs.send(answer)

    def dump(self) -> Iterator[bytes]:
        return self.netlink.dump(ANSWER, b"")


def status(number: int) -> bytes:
    return struct.pack("=i", -number)


def test_an_answer_in_several_datagrams() -> None:
    kernel = Kernel(message(ANSWER, b"one!") + message(ANSWER, b"two"), message(ANSWER, b"three"), message(DONE))
    assert list(kernel.dump()) == [b"one!", b"two", b"three"]


def test_an_answer_with_gaps() -> None:
    kernel = Kernel(message(ANSWER, b"one!", INTERRUPTED), message(ANSWER, b"two"), message(DONE, status(0)))
    answers = kernel.dump()
    assert [next(answers), next(answers)] == [b"one!", b"two"]
    with pytest.raises(InterruptedError):
        next(answers)


@pytest.mark.parametrize("kind", [DONE, ERROR])
def test_a_refusal(kind: int) -> None:
    kernel = Kernel(message(kind, status(errno.EPERM)))
    with pytest.raises(PermissionError) as refused:
        list(kernel.dump())
    assert refused.value.strerror == "Operation not permitted"


def test_done() -> None:
    kernel = Kernel(message(ERROR, status(0)))
    assert kernel.netlink.do(ANSWER, b"") == []


def test_requests_that_are_made_together_are_answered_one_by_one() -> None:
    kernel = Kernel(message(ERROR, status(errno.EEXIST)), message(ERROR, status(0)))
    assert kernel.netlink.do_all((ANSWER, b"clsact!", 0), (ANSWER, b"filter", 0)) == [errno.EEXIST, 0]
    sent = kernel.theirs.recv(1024)
    assert [body for _, _, body in messages(sent)] == [b"clsact!", b"filter"]
    with pytest.raises(BlockingIOError):
        kernel.theirs.recv(1024, socket.MSG_DONTWAIT)
