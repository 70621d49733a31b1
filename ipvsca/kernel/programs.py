"""The programs of the data plane: which file, which function, what kind, where they attach. The only list."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class ProgramType(IntEnum):
    """enum bpf_prog_type of linux/bpf.h, the ones we use."""

    SCHED_CLS = 3
    SOCK_OPS = 13
    CGROUP_SOCK_ADDR = 18
    CGROUP_SOCKOPT = 25


class AttachType(IntEnum):
    """enum bpf_attach_type of linux/bpf.h, the ones we use."""

    CGROUP_SOCK_OPS = 3
    CGROUP_INET4_CONNECT = 10
    CGROUP_INET6_CONNECT = 11
    CGROUP_UDP4_SENDMSG = 14
    CGROUP_UDP6_SENDMSG = 15
    CGROUP_UDP4_RECVMSG = 19
    CGROUP_UDP6_RECVMSG = 20
    CGROUP_GETSOCKOPT = 21
    CGROUP_INET4_GETPEERNAME = 29
    CGROUP_INET6_GETPEERNAME = 30


class Switches(Protocol):
    """The settings that decide which programs are wanted."""

    @property
    def lookup_calls(self) -> bool: ...


@dataclass(frozen=True)
class Program:
    """One BPF program. `name` is its C function and its pin; `attach` is None for tc, which attaches by interface."""

    name: str
    file: str
    type: ProgramType
    attach: AttachType | None
    does: str
    switch: str | None = None
    """The setting without which this program is not compiled, attached or pinned."""

    def is_wanted(self, switches: Switches) -> bool:
        return self.switch is None or bool(getattr(switches, self.switch))


SOCKOPS = Program(
    "ipvsca_sockops",
    "established.c",
    ProgramType.SOCK_OPS,
    AttachType.CGROUP_SOCK_OPS,
    "reads the option as a TCP connection is established",
)


def _socket_address(name: str, file: str, attach: AttachType, does: str) -> Program:
    return Program(name, file, ProgramType.CGROUP_SOCK_ADDR, attach, does)


SOCKET_ADDRESS_PROGRAMS = (
    _socket_address("ipvsca_peer4", "peer.c", AttachType.CGROUP_INET4_GETPEERNAME, "accept, getpeername; IPv4 sockets"),
    _socket_address("ipvsca_peer6", "peer.c", AttachType.CGROUP_INET6_GETPEERNAME, "accept, getpeername; IPv6 sockets"),
    _socket_address("ipvsca_send4", "sendmsg.c", AttachType.CGROUP_UDP4_SENDMSG, "sendto, sendmsg; to IPv4"),
    _socket_address("ipvsca_send6", "sendmsg.c", AttachType.CGROUP_UDP6_SENDMSG, "sendto, sendmsg; to IPv6"),
    _socket_address("ipvsca_connect4", "connect.c", AttachType.CGROUP_INET4_CONNECT, "connect; IPv4 sockets"),
    _socket_address("ipvsca_connect6", "connect.c", AttachType.CGROUP_INET6_CONNECT, "connect; IPv6 sockets"),
    _socket_address("ipvsca_recv4", "recvmsg.c", AttachType.CGROUP_UDP4_RECVMSG, "recvfrom, recvmsg; IPv4 sockets"),
    _socket_address("ipvsca_recv6", "recvmsg.c", AttachType.CGROUP_UDP6_RECVMSG, "recvfrom, recvmsg; IPv6 sockets"),
)
LOOKUP = Program(
    "ipvsca_lookup",
    "lookup.c",
    ProgramType.CGROUP_SOCKOPT,
    AttachType.CGROUP_GETSOCKOPT,
    "DPVS's lookup calls (getsockopt)",
    switch="lookup_calls",
)


@dataclass(frozen=True)
class LookupVariant:
    """One of the ways in which bpf/lookup.c can be compiled. `lacks` is what it does without, in words."""

    name: str
    flags: tuple[str, ...]
    lacks: str


LOOKUP_VARIANTS = (
    LookupVariant("full", (), ""),
    LookupVariant(  # 5.15 to 5.17
        "no errors",
        ("-DKERNEL_CHOOSES_ERROR",),
        "a lookup that fails gives ENOPROTOOPT: this kernel lets no program choose the error",
    ),
    LookupVariant(  # older, or locked down for confidentiality
        "last datagram",
        ("-DKERNEL_CHOOSES_ERROR", "-DLAST_DATAGRAM"),
        "2048 tells of the datagram received last, and a lookup that fails gives ENOPROTOOPT: this kernel lets no "
        "program read the question",
    ),
)
"""The most capable first: the first that the kernel accepts is taken."""

INGRESS_ETHERNET = Program(
    "ipvsca_eth", "ingress.c", ProgramType.SCHED_CLS, None, "reads SYNs, announcements and UOA on Ethernet devices"
)
INGRESS_IP = Program(
    "ipvsca_ip",
    "ingress.c",
    ProgramType.SCHED_CLS,
    None,
    "reads SYNs, announcements and UOA on layer-3 devices (tun, ipip, gre)",
)

# Answers come before questions: who shows a client can also send to it, and nothing is learnt that cannot be shown.
PROGRAMS = (*SOCKET_ADDRESS_PROGRAMS, LOOKUP, SOCKOPS, INGRESS_ETHERNET, INGRESS_IP)
CGROUP_PROGRAMS = tuple(program for program in PROGRAMS if program.attach is not None)
INGRESS_PROGRAMS = tuple(program for program in PROGRAMS if program.attach is None)


def wanted(switches: Switches) -> tuple[Program, ...]:
    """Of PROGRAMS those that these settings ask for."""
    return tuple(program for program in PROGRAMS if program.is_wanted(switches))
