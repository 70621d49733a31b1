"""The programs of the data plane: which file, which function, what kind, where they attach. The only list."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ProgramType(IntEnum):
    """enum bpf_prog_type of linux/bpf.h, the ones we use."""

    SCHED_CLS = 3
    SOCK_OPS = 13
    CGROUP_SOCK_ADDR = 18


class AttachType(IntEnum):
    """enum bpf_attach_type of linux/bpf.h, the ones we use."""

    CGROUP_SOCK_OPS = 3
    CGROUP_INET4_GETPEERNAME = 29
    CGROUP_INET6_GETPEERNAME = 30


@dataclass(frozen=True)
class Program:
    """One BPF program. `name` is its C function and its pin; `attach` is None for tc, which attaches by interface."""

    name: str
    file: str
    type: ProgramType
    attach: AttachType | None
    does: str


SOCK_OPS = Program(
    "ipvsca_sockops",
    "established.c",
    ProgramType.SOCK_OPS,
    AttachType.CGROUP_SOCK_OPS,
    "reads the option as a TCP connection is established",
)
PEER4 = Program(
    "ipvsca_peer4",
    "peer.c",
    ProgramType.CGROUP_SOCK_ADDR,
    AttachType.CGROUP_INET4_GETPEERNAME,
    "accept and getpeername on IPv4 sockets",
)
PEER6 = Program(
    "ipvsca_peer6",
    "peer.c",
    ProgramType.CGROUP_SOCK_ADDR,
    AttachType.CGROUP_INET6_GETPEERNAME,
    "accept and getpeername on IPv6 and dual-stack sockets",
)
INGRESS_ETHERNET = Program(
    "ipvsca_eth", "ingress.c", ProgramType.SCHED_CLS, None, "reads the option of SYNs on Ethernet devices"
)
INGRESS_IP = Program(
    "ipvsca_ip",
    "ingress.c",
    ProgramType.SCHED_CLS,
    None,
    "reads the option of SYNs on layer-3 devices (tun, ipip, gre)",
)

# Restoring calls come before what feeds them, and sock_ops before tc: nothing is learnt that cannot be shown.
PROGRAMS = (PEER4, PEER6, SOCK_OPS, INGRESS_ETHERNET, INGRESS_IP)
CGROUP_PROGRAMS = tuple(program for program in PROGRAMS if program.attach is not None)
INGRESS_PROGRAMS = tuple(program for program in PROGRAMS if program.attach is None)
