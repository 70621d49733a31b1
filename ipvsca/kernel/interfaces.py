"""tc ingress of network interfaces: which to attach to, and our filter on them.

Our filter carries its own record in its name: the program's id, the pin folder it belongs to, and whether we made the
clsact qdisc it hangs on. So nothing has to be remembered elsewhere, and nobody else's filter or qdisc is ever touched.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ipvsca.errors import Problem
from ipvsca.kernel.programs import INGRESS_ETHERNET, INGRESS_IP, Program
from ipvsca.kernel.rtnetlink import ALL_PROTOCOLS, EGRESS, INGRESS, Filter, Rtnetlink

AUTO = "auto"

_FIRST_HANDLE = 0xCA

_LOOPBACK = 772  # ARPHRD_* of linux/if_arp.h
_PROGRAMS = {
    1: INGRESS_ETHERNET,
    _LOOPBACK: INGRESS_ETHERNET,
    512: INGRESS_IP,  # PPP
    519: INGRESS_IP,  # raw IP
    768: INGRESS_IP,  # ipip
    769: INGRESS_IP,  # ip6tnl
    776: INGRESS_IP,  # sit
    778: INGRESS_IP,  # gre
    823: INGRESS_IP,  # ip6gre
    0xFFFE: INGRESS_IP,  # no link layer: tun, WireGuard
}
# What such a device receives, its lower device has received before.
_STACKED = {"bond", "bridge", "ipvlan", "ipvtap", "macvlan", "macvtap", "team", "vlan", "vrf"}


@dataclass(frozen=True)
class Interface:
    index: int
    name: str
    kind: str | None  # of virtual devices: veth, vlan, bridge, ...
    hardware: int  # ARPHRD_*

    @property
    def program(self) -> Program | None:
        """Which program reads this device's packets; None where we know no way to."""
        return _PROGRAMS.get(self.hardware)

    @property
    def is_entrance(self) -> bool:
        """Whether packets from outside first appear here."""
        return self.program is not None and self.hardware != _LOOPBACK and self.kind not in _STACKED

    def is_meant(self, setting: str | tuple[str, ...]) -> bool:
        """Whether the setting `interfaces` means this one."""
        return self.is_entrance if setting == AUTO else self.name in setting

    def require_program(self) -> Program:
        """The program that reads this device's packets. Raises Problem where there is none."""
        if self.program is None:
            raise Problem(f"interface {self.name} (hardware type {self.hardware}) carries no IP that we can read")
        return self.program


@dataclass(frozen=True)
class Mark:
    """What the name of our filter says."""

    program_id: int
    pin_path: Path
    made_clsact: bool

    def __str__(self) -> str:
        return f"ipvsca {self.program_id} {'own' if self.made_clsact else 'shared'} {self.pin_path}"

    @classmethod
    def parse(cls, name: str) -> Mark | None:
        """None for the name of a filter that is not ipvsca's."""
        words = name.split(" ", 3)
        if len(words) != 4 or words[0] != "ipvsca" or not words[1].isdecimal():
            return None
        return cls(int(words[1]), Path(words[3]), words[2] == "own")


def missing(setting: str | tuple[str, ...]) -> list[str]:
    """The names in a setting of interfaces that are not there, in the network namespace we are in."""
    there = {name for _, name in socket.if_nameindex()}
    return [] if setting == AUTO else [name for name in setting if name not in there]


class Vanished(Problem):
    """An interface went away while it was attached to. The message is its name."""


class Interfaces:
    """The interfaces of the network namespace we are in. A context manager: it holds a netlink socket."""

    def __init__(self) -> None:
        self._netlink = Rtnetlink()

    def __enter__(self) -> Interfaces:
        return self

    def __exit__(self, *_: object) -> None:
        self._netlink.close()

    def all(self) -> list[Interface]:
        """Every interface there is."""
        return [Interface(*link) for link in self._netlink.links()]

    def some(self, indices: Iterable[int]) -> list[Interface]:
        """Those with these indices; one that is gone is left out."""
        return [interface for index in sorted(indices) for interface in self._one(index)]

    def _one(self, index: int) -> list[Interface]:
        try:
            return [Interface(*self._netlink.link(index))]
        except OSError as error:
            if error.errno == errno.ENODEV:
                return []
            raise

    def select(self, setting: str | tuple[str, ...]) -> list[Interface]:
        """Those that a setting means, as far as they are there. Raises Problem for one that cannot be attached to."""
        meant = [interface for interface in self.all() if interface.is_meant(setting)]
        for interface in meant:
            interface.require_program()
        return meant

    def filters(self, interface: int, parent: int = INGRESS) -> list[Filter]:
        """The filters at an interface's ingress, in the order in which they run; none where it has no clsact."""
        try:
            return self._netlink.filters(interface, parent)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENODEV, errno.ENOENT):
                return []
            raise

    def ours(self, interface: int, pin_path: Path) -> tuple[Filter, Mark] | None:
        """The filter that belongs to a pin folder, and what it says of itself."""
        return next(((filter_, mark) for filter_, mark in self._marked(interface) if mark.pin_path == pin_path), None)

    def attach(self, interface: Interface, program: int, program_id: int, pin_path: Path) -> None:
        """Put a program (its descriptor) at an interface's ingress; ours that is there is replaced in one step.

        Raises Problem where the kernel refuses, after which everything is as it was before.
        """
        try:
            self._attach(interface.index, program, program_id, pin_path)
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise Vanished(interface.name) from error
            raise Problem(
                f"tc ingress of {interface.name}: the kernel refuses our filter ({error.strerror}): "
                f"`tc qdisc show dev {interface.name}` shows what is there; `interfaces` in the file can leave it out"
            ) from error

    def _attach(self, interface: int, program: int, program_id: int, pin_path: Path) -> None:
        found = self.ours(interface, pin_path)
        priority, handle = (found[0].priority, found[0].handle) if found else self._place(interface)
        put_filter = partial(self._netlink.replace_filter, interface, priority, handle, program)
        make_clsact = partial(self._netlink.make_clsact, interface, priority, handle, program)

        if self._netlink.has_clsact(interface) or not make_clsact(str(Mark(program_id, pin_path, True))):
            others = (mark for _, mark in self._marked(interface) if mark.pin_path != pin_path)
            made_clsact = any(mark.made_clsact for mark in others) or bool(found and found[1].made_clsact)
            put_filter(str(Mark(program_id, pin_path, made_clsact)))

    def detach(self, interface: Interface, pin_path: Path) -> bool:
        """Take our filter off, and the clsact where we made it and nobody else uses it. False: there was none."""
        try:
            return self._detach(interface, pin_path)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False
            raise Problem(f"tc ingress of {interface.name}: our filter stays ({error.strerror})") from error

    def _detach(self, interface: Interface, pin_path: Path) -> bool:
        found = self.ours(interface.index, pin_path)
        if not found:
            return False
        filter_, mark = found
        everything = [*self.filters(interface.index), *self.filters(interface.index, EGRESS)]
        if mark.made_clsact and everything == [filter_]:
            self._netlink.delete_clsact(interface.index)  # our filter goes with it: nothing is left in between
        else:
            self._netlink.delete_filter(interface.index, filter_.priority, filter_.handle)
        return True

    def _marked(self, interface: int) -> Iterator[tuple[Filter, Mark]]:
        for filter_ in self.filters(interface):
            mark = Mark.parse(filter_.name)
            if mark:
                yield filter_, mark

    def _place(self, interface: int) -> tuple[int, int]:
        """The foremost priority that is free or holds filters of our kind, and a free handle there."""
        filters = self.filters(interface)
        priority = 1
        while any(
            (filter_.kind, filter_.protocol) != ("bpf", ALL_PROTOCOLS)
            for filter_ in filters
            if filter_.priority == priority
        ):
            priority += 1
        taken = {filter_.handle for filter_ in filters if filter_.priority == priority}
        handle = next(handle for handle in range(_FIRST_HANDLE, 1 << 16) if handle not in taken)
        return priority, handle
