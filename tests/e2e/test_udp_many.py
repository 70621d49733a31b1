"""Many flows: each datagram is answered to its own client, and a full table forgets idle flows, not those in use."""

from __future__ import annotations

import resource
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from ipvsca.address import Address, Endpoint
from ipvsca.dataplane import DataPlane
from ipvsca.wire.announcement import Announcement, build
from ipvsca.wire.internet import PROTOCOL_UDP
from tests.apps.datagrams import SeenDatagram, read_datagram
from tests.apps.udp_catalogue import udp_app
from tests.e2e.datagrams import ANY, SERVER_PORT, SERVICE_PORT, Datagrams
from tests.e2e.traffic import TIMEOUT_S, own_address
from tests.kernel_state import wait_until
from tests.lab import addresses as a
from tests.lab.messages import Announce
from tests.rig import Ipvsca

RECVMMSG = udp_app("c-recvmmsg")
VIP = Endpoint(a.VIP_V4, SERVICE_PORT)
FLOWS = 10_000
ROUNDS = 20
WINDOW = 200  # datagrams under way at once: more than that, sockets' buffers would drop


@contextmanager
def many_files() -> Iterator[None]:
    """Room for a socket a flow."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FLOWS + 4096, max(FLOWS + 4096, before[1])))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def clients(datagrams: Datagrams) -> Iterator[dict[socket.socket, SeenDatagram]]:
    """A socket for each flow, spread over all client addresses, and what the server should see of it."""
    sources: Sequence[Address] = a.CLIENTS_V4
    with many_files(), ExitStack() as stack:
        sockets = [stack.enter_context(datagrams.socket(sources[n % len(sources)], VIP)) for n in range(FLOWS)]
        yield {each: RECVMMSG.sees(own_address(each), a.RIPS_V4[0], b"hello") for each in sockets}


def wrong_answers(window: dict[int, socket.socket], expected: dict[socket.socket, SeenDatagram]) -> int:
    """One datagram of each of these flows, and how many were not answered to the very client. All are answered."""
    poll = select.epoll(len(window))
    for number, client in window.items():
        poll.register(number, select.EPOLLIN)
        client.send(b"hello")
    wrong, waiting = 0, set(window)
    while waiting:
        ready = poll.poll(TIMEOUT_S)
        assert ready, f"{len(waiting)} datagrams were not answered"
        for number, _ in ready:
            wrong += read_datagram(window[number].recv(999)) != expected[window[number]]
            poll.unregister(number)
            waiting.discard(number)
    poll.close()
    return wrong


def test_ten_thousand_flows_at_once(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    datagrams.director.forget_all()
    datagrams.direct(ANY, Announce())
    counted = {"flows_new": FLOWS, "recvmsg_restored": FLOWS * ROUNDS, "sendmsg_redirected": FLOWS * ROUNDS}
    with ipvsca.loaded(), datagrams.serving(RECVMMSG, ANY), clients(datagrams) as expected:
        sockets = list(expected)
        windows = [{each.fileno(): each for each in sockets[at : at + WINDOW]} for at in range(0, FLOWS, WINDOW)]
        with ipvsca.counted(**counted):
            assert sum(wrong_answers(window, expected) for _ in range(ROUNDS) for window in windows) == 0
        with DataPlane(ipvsca.pin_path) as plane:
            assert sum(1 for _ in plane.flows()) == FLOWS
        assert ipvsca.run("list", "--count").stdout == f"{FLOWS}\n"


def strangers(number: int) -> list[bytes]:
    """Announcements of so many flows that nobody uses."""
    server = Endpoint(a.RIPS_V4[0], SERVER_PORT)
    return [
        build(
            Announcement(
                PROTOCOL_UDP,
                Endpoint(a.LIP_NETWORK_V4[200], 1024 + n),
                server,
                Endpoint.of(f"192.0.{n >> 8 & 255}.{n & 255}", 40000),
            )
        )
        for n in range(number)
    ]


def test_a_full_table_forgets_the_idle(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    """Five times as many announcements as there is room for: a flow in use is known all the while."""
    room, batch = 1024, 64
    packets = strangers(5 * room)
    datagrams.director.forget_all()
    datagrams.direct(ANY, Announce())
    with ipvsca.loaded(max_flows=room), datagrams.serving(RECVMMSG, ANY):
        with datagrams.socket(a.CLIENTS_V4[0], VIP) as client:
            expected = RECVMMSG.sees(own_address(client), a.RIPS_V4[0], b"hello")
            for at in range(0, len(packets), batch):
                client.send(b"hello")
                assert read_datagram(client.recv(999)) == expected
                datagrams.director.inject(*packets[at : at + batch])
            wait_until(lambda: ipvsca.counts()["announcement_learnt"] == len(packets) + 1)
        with ipvsca.daemon():
            assert wait_until(lambda: ipvsca.counts()["flows_evicted"] > 0)
        counts = ipvsca.counts()
        with DataPlane(ipvsca.pin_path) as plane:
            present = sum(1 for _ in plane.flows())
        assert present <= room
        assert counts["flows_new"] - counts["flows_evicted"] == present
        assert "more flows at once than max_flows" in ipvsca.run("check").stdout
