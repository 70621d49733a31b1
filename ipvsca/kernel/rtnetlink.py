"""Network interfaces, clsact and BPF filters by rtnetlink(7): as much of `ip link` and `tc` as we need.

Formats are those of linux/if_link.h, linux/rtnetlink.h and linux/pkt_cls.h. Functions raise OSError with the kernel's
errno where it refuses.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

from ipvsca.kernel.netlink import CREATE, EXCLUSIVE, NESTED, REPLACE, Netlink, Request, attribute, find

INGRESS = 0xFFFFFFF2  # TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
EGRESS = 0xFFFFFFF3
ALL_PROTOCOLS = 0x0003  # ETH_P_ALL

_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, hardware type, index, flags, changed flags
_TC = struct.Struct("=BxxxiIII")  # struct tcmsg: family, interface, handle, parent, priority and protocol

_GET_LINK = 18
_NEW_QDISC, _DELETE_QDISC, _GET_QDISCS = 36, 37, 38
_NEW_FILTER, _DELETE_FILTER, _GET_FILTERS = 44, 45, 46

_IFNAME, _LINKINFO, _INFO_KIND = 3, 18, 1  # IFLA_*
_KIND, _OPTIONS = 1, 2  # TCA_*
_BPF_FD, _BPF_NAME, _BPF_FLAGS = 6, 7, 8  # TCA_BPF_*
_DIRECT_ACTION = struct.pack("=I", 1)

_CLSACT = 0xFFFFFFF1
_CLSACT_HANDLE = 0xFFFF0000


Link = tuple[int, str, str | None, int]
"""An interface: index, name, kind (of a virtual one: veth, vlan, ...), hardware type (ARPHRD_*)."""


@dataclass(frozen=True)
class Filter:
    """One tc ingress filter, ours or another's."""

    interface: int
    priority: int
    handle: int
    kind: str
    protocol: int
    name: str


class Rtnetlink(Netlink):
    """A socket for these questions, in the network namespace in which it was made. A context manager."""

    def __init__(self) -> None:
        super().__init__(socket.NETLINK_ROUTE)

    def links(self) -> list[Link]:
        """Every interface."""
        return [_link(message) for message in self._all(_GET_LINK, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0))]

    def link(self, index: int) -> Link:
        """One interface."""
        (message,) = self.do(_GET_LINK, _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0))
        return _link(message)

    def filters(self, interface: int, parent: int) -> list[Filter]:
        """The filters at INGRESS or EGRESS, in the order in which they run; none where the interface has no clsact."""
        found = map(_filter, self._all(_GET_FILTERS, _TC.pack(socket.AF_UNSPEC, interface, 0, parent, 0)))
        return [filter_ for filter_ in found if filter_.handle]  # without one it is the list that filters are in

    def has_clsact(self, interface: int) -> bool:
        """Or the older ingress, which is where clsact would be."""
        qdiscs = map(_TC.unpack_from, self._all(_GET_QDISCS, _TC.pack(socket.AF_UNSPEC, interface, 0, 0, 0)))
        return any((index, parent) == (interface, _CLSACT) for _, index, _, parent, _ in qdiscs)

    def make_clsact(self, interface: int, priority: int, handle: int, program: int, name: str) -> bool:
        """Make a clsact with a filter in it (see `replace_filter`), so that whoever is killed leaves both or none.

        False where there was a clsact already: it is another's, and the filter is in it no more.
        """
        clsact = (_NEW_QDISC, _clsact(interface), CREATE | EXCLUSIVE)
        clsact_error, filter_error = self.do_all(clsact, _new_filter(interface, priority, handle, program, name))
        if clsact_error == errno.EEXIST:
            if not filter_error:
                self.delete_filter(interface, priority, handle)
            return False
        if filter_error and not clsact_error:
            self.delete_clsact(interface)
        if error := clsact_error or filter_error:
            raise OSError(error, os.strerror(error))
        return True

    def delete_clsact(self, interface: int) -> None:
        self.do(_DELETE_QDISC, _clsact(interface))

    def replace_filter(self, interface: int, priority: int, handle: int, program: int, name: str) -> None:
        """Put a BPF program (its descriptor) at ingress, for all protocols; in place of a filter that is there."""
        self.do(*_new_filter(interface, priority, handle, program, name))

    def delete_filter(self, interface: int, priority: int, handle: int) -> None:
        self.do(_DELETE_FILTER, _at_ingress(interface, priority, handle))

    def _all(self, kind: int, body: bytes) -> list[bytes]:
        while True:
            with suppress(InterruptedError):
                return list(self.dump(kind, body))


def _clsact(interface: int) -> bytes:
    return _TC.pack(socket.AF_UNSPEC, interface, _CLSACT_HANDLE, _CLSACT, 0) + attribute(_KIND, b"clsact\0")


def _at_ingress(interface: int, priority: int, handle: int) -> bytes:
    place = priority << 16 | socket.htons(ALL_PROTOCOLS)
    return _TC.pack(socket.AF_UNSPEC, interface, handle, INGRESS, place) + attribute(_KIND, b"bpf\0")


def _new_filter(interface: int, priority: int, handle: int, program: int, name: str) -> Request:
    options = (
        attribute(_BPF_FD, struct.pack("=I", program))
        + attribute(_BPF_NAME, name.encode() + b"\0")
        + attribute(_BPF_FLAGS, _DIRECT_ACTION)
    )
    return (
        _NEW_FILTER,
        _at_ingress(interface, priority, handle) + attribute(_OPTIONS | NESTED, options),
        CREATE | REPLACE,
    )


def _link(message: bytes) -> Link:
    _, hardware, index, _, _ = _LINK.unpack_from(message)
    attributes = message[_LINK.size :]
    kind = find(attributes, _LINKINFO, _INFO_KIND)
    return index, _text(find(attributes, _IFNAME)), _text(kind) if kind else None, hardware


def _filter(message: bytes) -> Filter:
    _, interface, handle, _, place = _TC.unpack_from(message)
    attributes = message[_TC.size :]
    kind = _text(find(attributes, _KIND))
    name = _text(find(attributes, _OPTIONS, _BPF_NAME)) if kind == "bpf" else ""
    return Filter(interface, place >> 16, handle, kind, socket.ntohs(place & 0xFFFF), name)


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")
