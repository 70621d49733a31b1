"""A shell, or one command, in the lab: `python -m tests.lab --help`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

from ipvsca.address import Endpoint
from ipvsca.wire.toa import KIND_DPVS, KIND_LVS
from tests.lab import addresses as a
from tests.lab.messages import Announce, Position, Protocol, Service, Toa, Uoa, UoaMode, Where
from tests.lab.namespace import Namespace
from tests.lab.topology import Lab

PORT = 80
NAT64_PORT = 64
UDP_PORT = 53
ANNOUNCED = "announcement"

EPILOG = f"""\
services:
  {a.VIP_V4}:{PORT}          to {a.RIPS_V4[0]}:{PORT} and {a.RIPS_V4[1]}:{PORT}
  [{a.VIP_V6}]:{PORT}    to [{a.RIPS_V6[0]}]:{PORT} and [{a.RIPS_V6[1]}]:{PORT}
  [{a.VIP_V6}]:{NAT64_PORT}    to {a.RIPS_V4[0]}:{PORT} and {a.RIPS_V4[1]}:{PORT} (NAT64)
  {a.VIP_V4}:{UDP_PORT}          to {a.RIPS_V4[0]}:{UDP_PORT} and {a.RIPS_V4[1]}:{UDP_PORT} (UDP)
  [{a.VIP_V6}]:{UDP_PORT}    to [{a.RIPS_V6[0]}]:{UDP_PORT} and [{a.RIPS_V6[1]}]:{UDP_PORT} (UDP)
  [{a.VIP_V6}]:{NAT64_PORT}    to {a.RIPS_V4[0]}:{UDP_PORT} and {a.RIPS_V4[1]}:{UDP_PORT} (UDP, NAT64)

variables of the shell:
  $CLIENT $DIRECTOR $SERVER    put before a command, run it in that namespace
  $LAB_CGROUP $LAB_BPFFS       a cgroup v2 directory, in which the server's shell is, and a bpffs

examples:
  python -m tests.lab                                a shell on the real servers; then, in it:
      python3 -m http.server --bind :: 80 &
      $CLIENT curl http://{a.VIP_V4}/
      $CLIENT curl http://[{a.VIP_V6}]:{NAT64_PORT}/
  python -m tests.lab client --where syn --kind 200  a client's shell, with the option of the first LVS
  python -m tests.lab server -- tcpdump -ni eth0     one command instead of a shell
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the lab, run the shell or command, and return its exit status."""
    own, command = split(sys.argv[1:] if arguments is None else arguments)
    parsed = parser().parse_args(own)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with Lab() as lab:
        lab.start_director(services(Toa(parsed.where, parsed.kind, parsed.position), parsed.udp))
        where: Namespace = getattr(lab, parsed.namespace)
        cgroup = lab.cgroup if where is lab.server else None
        process = where.popen(
            command or [os.environ.get("SHELL", "/bin/sh")], cgroup=cgroup, env=os.environ | variables(lab)
        )
        # A Ctrl-C is for the command. Set only now, because a child inherits what is ignored.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return process.wait()


def split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Our arguments and, behind the first `--`, the command: argparse takes none behind options."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m tests.lab",
        usage="%(prog)s [options] [client | director | server] [-- command ...]",
        description="Clients, a FULLNAT director and real servers on this machine, for as long as a shell lasts.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "namespace",
        nargs="?",
        choices=("client", "director", "server"),
        default="server",
        help="where the shell or the command runs; default: %(default)s",
    )
    made.add_argument(
        "--where",
        type=Where,
        choices=list(Where),
        default=Where.ACK,
        help="segments that carry the option; default: %(default)s",
    )
    made.add_argument(
        "--kind",
        type=int,
        choices=(KIND_LVS, KIND_DPVS),
        default=KIND_DPVS,
        help="the option's kind, which announcements name too; default: %(default)s",
    )
    made.add_argument(
        "--position",
        type=Position,
        choices=list(Position),
        default=Position.FIRST,
        help="its place among other options; default: %(default)s",
    )
    made.add_argument(
        "--udp",
        choices=(ANNOUNCED, *UoaMode),
        default=ANNOUNCED,
        help="how clients of UDP are told, where the families let it; default: %(default)s",
    )
    return made


def services(toa: Toa, udp: str) -> list[Service]:
    """TCP and UDP with IPv4, IPv6 and NAT64, each on a port of its own."""
    to_v4, to_v6 = (tuple(Endpoint(rip, PORT) for rip in rips) for rips in (a.RIPS_V4, a.RIPS_V6))
    udp_to_v4, udp_to_v6 = (tuple(Endpoint(rip, UDP_PORT) for rip in rips) for rips in (a.RIPS_V4, a.RIPS_V6))
    udp_services = [
        Service(Endpoint(a.VIP_V4, UDP_PORT), udp_to_v4, protocol=Protocol.UDP),
        Service(Endpoint(a.VIP_V6, UDP_PORT), udp_to_v6, protocol=Protocol.UDP),
        Service(Endpoint(a.VIP_V6, NAT64_PORT), udp_to_v4, protocol=Protocol.UDP),
    ]
    announce, uoa = (Announce(kind=toa.kind), None) if udp == ANNOUNCED else (None, Uoa(UoaMode(udp)))
    return [
        Service(Endpoint(a.VIP_V4, PORT), to_v4, toa),
        Service(Endpoint(a.VIP_V6, PORT), to_v6, toa),
        Service(Endpoint(a.VIP_V6, NAT64_PORT), to_v4, toa),
        *(replace(service, announce=announce, uoa=uoa) for service in udp_services),
    ]


def variables(lab: Lab) -> dict[str, str]:
    """How the shell finds the rest of the lab."""
    namespaces = {"CLIENT": lab.client, "DIRECTOR": lab.director, "SERVER": lab.server}
    enter = {name: f"nsenter --net={namespace.path}" for name, namespace in namespaces.items()}
    return {**enter, "LAB_CGROUP": str(lab.cgroup), "LAB_BPFFS": str(lab.bpffs)}


if __name__ == "__main__":
    sys.exit(main())
