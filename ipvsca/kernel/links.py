"""Network interfaces that come, go or change, as the kernel tells it (rtnetlink(7), RTMGRP_LINK)."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator

from ipvsca.kernel.netlink import messages
from ipvsca.kernel.rtnetlink import LINK

_RTMGRP_LINK = 1
_LONGEST = 1 << 16


class LinkChanges:
    """Collects the indices of interfaces that something happened to. A context manager: it holds a netlink socket.

    The process gets SIGIO when there is something to read, so that one wait serves for this and for other signals.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)

    def __enter__(self) -> LinkChanges:
        fcntl.fcntl(self._socket, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self._socket, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
        self._socket.bind((0, _RTMGRP_LINK))
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def read(self) -> set[int] | None:
        """The indices since the last time; None where the kernel had more to tell than it could keep for us."""
        changed: set[int] = set()
        is_whole = True
        while True:
            try:
                changed.update(_indices(self._socket.recv(_LONGEST)))
            except BlockingIOError:
                return changed if is_whole else None
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                is_whole = False


def _indices(received: bytes) -> Iterator[int]:
    for _, _, body in messages(received):
        _, _, index, _, _ = LINK.unpack_from(body)
        yield index
