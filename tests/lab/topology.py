"""The lab: client, director and real servers as network namespaces in a row, joined by veth pairs.

    client                      director                              server
    eth0 ─────────────── clients │ tun ◄─► director │ servers ─────────── eth0
    CLIENTS_V4, CLIENTS_V6         VIPs, LIPs                             RIPS_V4, RIPS_V6

The director namespace's kernel forwards. Packets to the VIPs and LIPs go into the TUN device, where the director
process reads them, and what it writes there is forwarded in turn. Packets from a client to a real server's own
address never meet the director: that is a connection without one.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from ipvsca.address import Address
from tests.lab import addresses as a
from tests.lab import sandbox
from tests.lab.built import Built
from tests.lab.control import Director
from tests.lab.director import QUEUE
from tests.lab.messages import Service, Settings
from tests.lab.namespace import Namespace

TUN = "tun"
TUN_MTU = 65000  # no packet size is to be the director's problem
ETHERNET_MTU = 1500

RTMGRP_LINK = 1  # changes of devices, as netlink multicasts them
LONGEST_MESSAGE = 65536
CARRIER_TIMEOUT = 10.0  # seconds

# `default` must be set before a device is made, `all` for those that exist.
SYSCTLS = {
    "ipv4/conf/all/rp_filter": 0,
    "ipv4/conf/default/rp_filter": 0,
    "ipv6/conf/all/accept_dad": 0,
    "ipv6/conf/default/accept_dad": 0,
    "ipv6/conf/default/accept_ra": 0,
}
FORWARDING = {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1}


class Lab(Built):
    """Three namespaces, a cgroup for the applications and a bpffs. A context manager; all of it ends with us.

    The first lab of a process takes private mounts: threads that run already do not see its bpffs.
    """

    client: Namespace
    director: Namespace
    server: Namespace
    cgroup: Path
    """For applications alone: `server.popen(argv, cgroup=lab.cgroup)` starts one in it."""
    bpffs: Path
    """A mounted bpffs, seen by this process and its children only."""

    def __init__(self, server_mtu: int = ETHERNET_MTU) -> None:
        super().__init__()
        self._server_mtu = server_mtu

    def start_director(self, services: Iterable[Service] = ()) -> Director:
        """A director with these services; it ends with the lab, if not before."""
        director = self._stack.enter_context(Director(self.director, TUN, Settings(tuple(services))))
        _await_carrier(self.director, TUN)
        return director

    def set_server_mtu(self, mtu: int) -> None:
        """Change the MTU between director and real servers, in bytes, at both ends."""
        self._set_mtu("servers", self.server, mtu)

    def set_client_mtu(self, mtu: int) -> None:
        """Change the MTU between clients and director, in bytes, at both ends."""
        self._set_mtu("clients", self.client, mtu)

    def _build(self, stack: ExitStack) -> None:
        self.bpffs = stack.enter_context(sandbox.bpffs())
        everything = stack.enter_context(sandbox.cgroup())
        self.cgroup = everything / "applications"
        self.cgroup.mkdir()
        self.client, self.director, self.server = (stack.enter_context(Namespace(everything)) for _ in range(3))
        _set_sysctls(self.client, SYSCTLS)
        _set_sysctls(self.director, SYSCTLS | FORWARDING)
        _set_sysctls(self.server, SYSCTLS)
        self._link_up()
        self._configure_director()
        _configure_host(self.client, (a.CLIENTS_V4, a.CLIENTS_V6), (a.CLIENT_GATEWAY_V4, a.CLIENT_GATEWAY_V6))
        _configure_host(self.server, (a.RIPS_V4, a.RIPS_V6), (a.SERVER_GATEWAY_V4, a.SERVER_GATEWAY_V6))
        for host, device in ((self.client, "clients"), (self.server, "servers")):
            _await_carrier(host, "eth0")
            _await_carrier(self.director, device)

    def _link_up(self) -> None:
        for device, host in (("clients", self.client), ("servers", self.server)):
            _ip(self.director, [f"link add {device} type veth peer name eth0 netns {host.pid}"])
        self.set_server_mtu(self._server_mtu)

    def _set_mtu(self, device: str, host: Namespace, mtu: int) -> None:
        self.director.run(["ip", "link", "set", device, "mtu", str(mtu)])
        host.run(["ip", "link", "set", "eth0", "mtu", str(mtu)])

    def _configure_director(self) -> None:
        gateways = {
            "clients": (a.CLIENT_GATEWAY_V4, a.CLIENT_GATEWAY_V6),
            "servers": (a.SERVER_GATEWAY_V4, a.SERVER_GATEWAY_V6),
        }
        _ip(self.director, [f"tuntap add dev {TUN} mode tun"])
        lines = [
            f"link set {TUN} addrgenmode none",
            f"link set {TUN} up mtu {TUN_MTU} txqueuelen {QUEUE}",
            "link set lo up",
        ]
        for device, pair in gateways.items():
            lines += [f"link set {device} up"]
            lines += [f"address add {address}/{_prefix(address)} dev {device}" for address in pair]
        networks = (a.VIP_NETWORK_V4, a.VIP_NETWORK_V6, a.LIP_NETWORK_V4, a.LIP_NETWORK_V6)
        lines += [f"route add {network} dev {TUN}" for network in networks]
        _ip(self.director, lines)


def _configure_host(namespace: Namespace, own: Sequence[Sequence[Address]], gateways: Iterable[Address]) -> None:
    """The first of each family's addresses is the one that the host takes by itself, as for a reply in UDP."""
    lines = ["link set lo up", "link set eth0 up"]
    for first, *others in own:
        lines.append(f"address add {first}/{_prefix(first)} dev eth0")
        lines += [f"address add {address}/{_prefix(address)} dev eth0 preferred_lft 0" for address in others]
    lines += [f"route add default via {gateway}" for gateway in gateways]
    _ip(namespace, lines)


def _await_carrier(namespace: Namespace, device: str) -> None:
    """Wait until the device sends: a worker of the kernel sees to that, some time after both of its ends are up.

    Until then it drops what it is given, and nobody sends a datagram again. Raises TimeoutError.
    """
    with namespace.entered():
        changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    with changes:
        changes.bind((0, RTMGRP_LINK))
        changes.settimeout(CARRIER_TIMEOUT)
        # To ask for one device's state waits for that worker where it is at work (and since Linux 6.8, does its work).
        while " state UP " not in namespace.run(["ip", "link", "show", device]).stdout:
            changes.recv(LONGEST_MESSAGE)


def _prefix(address: Address) -> int:
    """The prefix length of every network in the lab."""
    return 24 if address.version == 4 else 64


def _ip(namespace: Namespace, lines: list[str]) -> None:
    """Run lines of the ip command; the first that fails raises CalledProcessError."""
    namespace.run(["ip", "-batch", "-"], input="\n".join(lines))


def _set_sysctls(namespace: Namespace, values: dict[str, int]) -> None:
    with namespace.entered():
        for name, value in values.items():
            Path("/proc/sys/net", name).write_text(str(value))
