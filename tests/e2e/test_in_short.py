"""All programs, each hook's work once: the least that has to be true on any kernel, in as little time as possible.

Emulated kernels run this where they run nothing else, so no application is compiled and no process started that need
not be. Each thing is proven thoroughly elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ipvsca import cli, loader, settings
from ipvsca.address import Endpoint
from ipvsca.kernel.maps import KEYS_AND_VALUES
from ipvsca.kernel.programs import wanted
from tests.e2e import traffic as tcp
from tests.e2e.datagrams import ANY, SERVER_PORT, SERVICE_PORT, Datagrams
from tests.e2e.getsockopt import calling
from tests.e2e.puppet import puppet
from tests.e2e.traffic import DUAL_V4, DUAL_V6, NAT64, Traffic, own_address
from tests.kernel_state import KernelState, are_freed, settles
from tests.lab import addresses as a
from tests.lab.messages import Announce, Toa, Uoa, UoaMode, Where
from tests.lab.topology import Lab
from tests.rig import Ipvsca


@pytest.fixture(scope="module", autouse=True)
def _loaded(lab: Lab, ipvsca: Ipvsca) -> Iterator[None]:
    """With the lookup calls, so with every program; at the end nothing is left."""
    before = picture(lab)
    ipvsca.configure(lookup_calls=True)
    configured = settings.read_file(ipvsca.config)
    with ipvsca.namespace.entered():
        loader.load(configured)
        try:
            during = picture(lab)
            programs = wanted(configured)
            links = [program for program in programs if program.attach is not None]
            expected = {"map": len(KEYS_AND_VALUES), "prog": len(programs), "link": len(links)}
            assert {kind: len(during.of_kind(kind)) for kind in expected} == expected
            yield
        finally:
            loader.unload(ipvsca.pin_path)
    ipvsca.configure()
    settles(lambda: picture(lab), before)
    are_freed(during.objects)


def picture(lab: Lab) -> KernelState:
    return KernelState.of(lab.server, lab.cgroup, lab.bpffs)


def as_seen(client: Endpoint) -> tuple[str, int]:
    """By a socket of both families."""
    prefix = "::ffff:" if client.address.version == 4 else ""
    return f"{prefix}{client.address}", client.port


def test_tcp(traffic: Traffic, ipvsca: Ipvsca) -> None:
    """Options in the SYN and in the ACK, on sockets of both families, NAT64 too."""
    with puppet(traffic.lab) as server:
        server(f"l = create_server(('::', {tcp.SERVER_PORT}), family=AF_INET6, dualstack_ipv6=True)")
        for way in (DUAL_V4, DUAL_V6, NAT64):
            for where, counter in ((Where.SYN, "tcp_restored_syn"), (Where.ACK, "tcp_restored_ack")):
                traffic.direct(way, Toa(where))
                vip = Endpoint(way.vip, tcp.SERVICE_PORT)
                with ipvsca.counted(**{counter: 1}), traffic.connect(vip, way.sources[0]) as client:
                    server("c, (address, port, *_) = l.accept()")
                    assert server("(address, port)") == server("c.getpeername()[:2]") == as_seen(own_address(client))


@pytest.mark.parametrize(
    "told",
    [{"announce": Announce()}, {"uoa": Uoa(UoaMode.IPO)}, {"uoa": Uoa(UoaMode.OPP)}],
    ids=["announced", "ipo", "opp"],
)
def test_udp(datagrams: Datagrams, ipvsca: Ipvsca, told: dict[str, Announce | Uoa]) -> None:
    """Received, answered by sendto and by a connected socket, and looked up."""
    datagrams.direct(ANY, **told)
    vip = Endpoint(a.VIP_V4, SERVICE_PORT)
    with calling(datagrams.lab) as call, datagrams.socket(ANY.sources[0], vip) as client:
        call.run(f"s = socket(AF_INET, SOCK_DGRAM); s.bind(('0.0.0.0', {SERVER_PORT}))")
        own = own_address(client)
        with ipvsca.counted(recvmsg_restored=1, sendmsg_redirected=1, connect_redirected=1, getsockopt_answered=1):
            client.send(b"question")
            assert call.run("s.recvfrom(99)") == (b"question", (str(own.address), own.port))
            call.run(f"s.sendto(b'answer', {(str(own.address), own.port)})")
            assert client.recv(99) == b"answer"
            assert call.uoa("s", datagrams.director.connection(own).local, SERVER_PORT) == own
            call.run(f"s.connect({(str(own.address), own.port)}); s.send(b'connected')")
            assert client.recv(99) == b"connected"


def test_check(ipvsca: Ipvsca) -> None:
    assert cli.main(["check", "--config", str(ipvsca.config)]) == 0
