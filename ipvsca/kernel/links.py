"""What happens to network interfaces, as the kernel tells it (rtnetlink(7))."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator

from ipvsca.kernel.netlink import messages

LINKS = 0x1
"""Interfaces that come, go or change (RTMGRP_LINK)."""
FILTERS = 0x8
"""Queueing disciplines and filters that come, go or change (RTMGRP_TC)."""

_LONGEST = 1 << 16
_INDEX = struct.Struct("=4xi")  # of struct ifinfomsg as of struct tcmsg


class Changes:
    """Collects the indices of interfaces that something happened to. A context manager: it holds a netlink socket.

    The process gets SIGIO when there is something to read, so that one wait serves for this and for other signals.
    """

    def __init__(self, groups: int) -> None:
        self._groups = groups
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)

    def __enter__(self) -> Changes:
        fcntl.fcntl(self._socket, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self._socket, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
        self._socket.bind((0, self._groups))
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def read(self) -> set[int] | None:
        """The indices since the last time; None where the kernel had more to tell than it could keep for us.

        What happens to filters that interfaces share (a block) is told with -1, and is left out.
        """
        changed: set[int] = set()
        is_whole = True
        while True:
            try:
                changed.update(index for index in _indices(self._socket.recv(_LONGEST)) if index > 0)
            except BlockingIOError:
                return changed if is_whole else None
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                is_whole = False


def _indices(received: bytes) -> Iterator[int]:
    return (_INDEX.unpack_from(body)[0] for _, _, body in messages(received))
