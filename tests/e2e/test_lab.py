"""The lab proven end to end: what it carries arrives whole, and what it puts into headers is what it was told."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from ipvsca.address import Address, Endpoint
from ipvsca.wire import toa
from tests.lab import addresses as a
from tests.lab.capture import Capture
from tests.lab.control import REPOSITORY, Director
from tests.lab.messages import Position, Service, Settings, Toa, Where
from tests.lab.namespace import Namespace
from tests.lab.states import State
from tests.lab.topology import Lab

SERVICE_PORT = 80
SERVER_PORT = 8000
TIMEOUT = 10.0
MEGABYTE = random.Random("the same every time").randbytes(1 << 20)


class Ends(NamedTuple):
    """A virtual address, and the address of the real server behind it."""

    vip: Address
    rip: Address


PLAIN_V4 = Ends(a.VIP_V4, a.RIPS_V4[0])
PLAIN_V6 = Ends(a.VIP_V6, a.RIPS_V6[0])
NAT64 = Ends(a.VIP_V6, a.RIPS_V4[0])
NAT46 = Ends(a.VIP_V4, a.RIPS_V6[0])
every_family = pytest.mark.parametrize("ends", [PLAIN_V4, PLAIN_V6, NAT64, NAT46], ids=["v4", "v6", "nat64", "nat46"])

CARRIERS = {
    Where.NONE: set[str](),
    Where.SYN: {"SYN"},
    Where.ACK: {"final ACK", "data before the server's"},
    Where.BOTH: {"SYN", "final ACK", "data before the server's"},
}
ROLES = CARRIERS[Where.BOTH] | {"after the server's data"}


def service(ends: Ends, option: Toa | None = None) -> Service:
    return Service(Endpoint(ends.vip, SERVICE_PORT), (Endpoint(ends.rip, SERVER_PORT),), option or Toa())


def listen(namespace: Namespace, port: int = SERVER_PORT) -> socket.socket:
    """A listener on every address, IPv4 and IPv6."""
    with namespace.entered():
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    listener.settimeout(TIMEOUT)
    return listener


def connect(
    namespace: Namespace, address: Address, source: Address | None = None, port: int = SERVICE_PORT
) -> socket.socket:
    with namespace.entered():
        return socket.create_connection(
            (str(address), port), TIMEOUT, source_address=(str(source), 0) if source else None
        )


def receive_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def answer_once(listener: socket.socket) -> None:
    """Take one connection, read to its end, and send all of it back."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(TIMEOUT)
        connection.sendall(receive_all(connection))


def there_and_back(lab: Lab, vip: Address, content: bytes, source: Address | None = None) -> bytes:
    with connect(lab.client, vip, source) as client:
        client.sendall(content)
        client.shutdown(socket.SHUT_WR)
        return receive_all(client)


@contextmanager
def answering(listener: socket.socket, times: int = 1) -> Iterator[None]:
    with ThreadPoolExecutor(times) as pool:
        answers = [pool.submit(answer_once, listener) for _ in range(times)]
        yield
        for answer in answers:
            answer.result(TIMEOUT)


def dissect(packet: bytes) -> Packet:
    return (IP if packet[0] >> 4 == 4 else IPv6)(packet)


def segments(capture: Capture, *, incoming: bool) -> list[bytes]:
    """The packets that are TCP's: neighbour discovery comes and goes when it likes."""
    return [seen.packet for seen in capture.packets() if seen.incoming == incoming and TCP in dissect(seen.packet)]


def with_right_checksums(packet: bytes) -> bytes:
    """The packet as scapy would have built it."""
    dissected = dissect(packet)
    del dissected[TCP].chksum
    if IP in dissected:
        del dissected[IP].chksum
    return bytes(dissected)


def options(packet: bytes) -> bytes:
    segment = bytes(dissect(packet)[TCP])
    return segment[toa.TCP_HEADER : (segment[toa.DATA_OFFSET] >> 4) * 4]


def role(packet: bytes, server_isn: int) -> str:
    """What part a client's segment plays, by WIRE's words."""
    segment = dissect(packet)[TCP]
    if segment.flags.S:
        return "SYN"
    if segment.ack != server_isn + 1:
        return "after the server's data"
    return "data before the server's" if segment.payload else "final ACK"


def exchange(lab: Lab, vip: Address) -> tuple[Endpoint, list[bytes], int]:
    """A short conversation: the client, every packet that reached the server, and the server's ISN."""
    with listen(lab.server) as listener, Capture(lab.server) as capture:
        with connect(lab.client, vip) as client:
            host, port, *_ = client.getsockname()
            client.sendall(b"question")
            server, _ = listener.accept()
            with server:
                assert server.recv(100) == b"question"
                server.sendall(b"answer")
                assert client.recv(100) == b"answer"
                client.sendall(b"thanks")
                assert server.recv(100) == b"thanks"
                client.shutdown(socket.SHUT_WR)
                assert server.recv(100) == b""
        syn_ack = segments(capture, incoming=False)[0]
        return Endpoint.of(host, port), segments(capture, incoming=True), dissect(syn_ack)[TCP].seq


@every_family
def test_a_megabyte_goes_there_and_back_unchanged(lab: Lab, director: Director, ends: Ends) -> None:
    director.serve(service(ends))
    with listen(lab.server) as listener, answering(listener):
        assert there_and_back(lab, ends.vip, MEGABYTE) == MEGABYTE


def test_several_clients_at_once_have_connections_of_their_own(lab: Lab, director: Director) -> None:
    director.serve(service(PLAIN_V4), service(PLAIN_V6))
    clients = [(a.VIP_V4, source) for source in a.CLIENTS_V4[:6]] + [(a.VIP_V6, source) for source in a.CLIENTS_V6[:6]]
    with listen(lab.server) as listener, answering(listener, len(clients)), ThreadPoolExecutor(len(clients)) as pool:
        content = [random.Random(n).randbytes(50_000 + n) for n in range(len(clients))]
        replies = pool.map(lambda client, own: there_and_back(lab, client[0], own, client[1]), clients, content)
        assert list(replies) == content


def test_the_server_sees_a_local_address_and_the_director_knows_whose_it_is(lab: Lab, director: Director) -> None:
    director.serve(service(PLAIN_V4))
    with listen(lab.server) as listener, connect(lab.client, a.VIP_V4, a.CLIENTS_V4[4]) as client:
        server, (host, port, *_) = listener.accept()
        with server:
            connection = director.connection(Endpoint.of(*client.getsockname()))
            assert Endpoint.of(host.removeprefix("::ffff:"), port) == connection.local
            assert connection.local.address in a.LIPS_V4
            assert connection.real == Endpoint(a.RIPS_V4[0], SERVER_PORT)
            assert connection.state is State.ESTABLISHED


def test_a_connection_can_bypass_the_director(lab: Lab, director: Director) -> None:
    before = director.stats().get("connections")
    for rip, source in ((a.RIPS_V4[0], a.CLIENTS_V4[2]), (a.RIPS_V6[0], a.CLIENTS_V6[2])):
        with listen(lab.server) as listener, connect(lab.client, rip, source, SERVER_PORT):
            server, (host, *_) = listener.accept()
            with server:
                assert host.removeprefix("::ffff:") == str(source)
    assert director.stats().get("connections") == before


@every_family
@pytest.mark.parametrize("position", Position)
@pytest.mark.parametrize("where", Where)
def test_the_option_is_on_the_segments_it_should_be_on(
    lab: Lab, director: Director, ends: Ends, position: Position, where: Where
) -> None:
    director.serve(service(ends, Toa(where=where, kind=toa.KIND_LVS, position=position)))
    client, packets, isn = exchange(lab, ends.vip)
    expected = toa.build(client, toa.KIND_LVS)
    by_role: dict[str, set[bool]] = {}
    for packet in packets:
        at_its_place = options(packet).startswith if position is Position.FIRST else options(packet).endswith
        assert at_its_place(expected) == (expected in options(packet))
        by_role.setdefault(role(packet, isn), set()).add(expected in options(packet))
    assert by_role == {name: {name in CARRIERS[where]} for name in ROLES}


@every_family
@pytest.mark.parametrize("position", Position)
def test_every_checksum_is_right(lab: Lab, director: Director, ends: Ends, position: Position) -> None:
    director.serve(service(ends, Toa(where=Where.BOTH, position=position)))
    with Capture(lab.client) as capture:
        _, packets, _ = exchange(lab, ends.vip)
        packets += segments(capture, incoming=True)
    assert len(packets) >= 8
    for packet in packets:
        assert with_right_checksums(packet) == packet


@every_family
def test_full_segments_with_the_option_fit_the_mtu(lab: Lab, director: Director, ends: Ends) -> None:
    """The server sends nothing before it has read all, so every segment of the client carries the option."""
    director.serve(service(ends))
    with listen(lab.server) as listener, Capture(lab.server) as capture, answering(listener):
        there_and_back(lab, ends.vip, MEGABYTE)
    with_data = [packet for packet in capture.incoming() if len(packet) > 1000]
    assert max(map(len, with_data)) in range(1480, 1501)
    assert all(toa.parse(options(packet)).verdict is toa.Verdict.FOUND for packet in with_data)


def test_a_lost_final_ack_leaves_the_handshake_to_the_first_data(lab: Lab, director: Director) -> None:
    director.serve(replace(service(PLAIN_V4), lose_final_ack=True))
    client, packets, isn = exchange(lab, a.VIP_V4)
    roles = [role(packet, isn) for packet in packets]
    assert roles[:2] == ["SYN", "data before the server's"]
    assert toa.parse(options(packets[1])).client == client


@pytest.mark.parametrize(
    ("raw", "padding", "seen"),
    [
        pytest.param("fe0891cd", toa.NO_OPERATION, "fe0891cd", id="cut by the header's end"),
        pytest.param("fe0891cd0a", toa.END_OF_LIST, "fe0891cd0a000000", id="cut, padded with EOL"),
        pytest.param("0101fe0891cd0a050c46", toa.NO_OPERATION, "0101fe0891cd0a050c460101", id="behind NOPs"),
    ],
)
def test_raw_bytes_replace_the_option(lab: Lab, director: Director, raw: str, padding: int, seen: str) -> None:
    settings = Toa(Where.BOTH, position=Position.LAST, raw=bytes.fromhex(raw), padding=padding)
    director.serve(service(PLAIN_V4, settings))
    _, packets, isn = exchange(lab, a.VIP_V4)
    for packet in packets:
        carries = role(packet, isn) != "after the server's data"
        assert options(packet).endswith(bytes.fromhex(seen)) == carries


def test_real_servers_take_turns_and_share_local_ports(lab: Lab, director: Director) -> None:
    rips = tuple(Endpoint(rip, SERVER_PORT) for rip in a.RIPS_V4)
    lport = 1000  # of no other pool, whose connection may be in TIME_WAIT
    pinched = Service(Endpoint(a.VIP_V4, SERVICE_PORT), rips, local_addresses=a.LIPS_V4[:1], local_ports=(lport, lport))
    director.serve(pinched)
    with listen(lab.server), connect(lab.client, a.VIP_V4) as first, connect(lab.client, a.VIP_V4) as second:
        connections = [director.connection(Endpoint.of(*client.getsockname())) for client in (first, second)]
    assert {connection.real for connection in connections} == set(rips)
    assert {connection.local for connection in connections} == {Endpoint(a.LIPS_V4[0], lport)}


def test_an_idle_connection_is_forgotten(lab: Lab, director: Director) -> None:
    director.configure(Settings((service(PLAIN_V4),), {State.ESTABLISHED: 0.0}))
    with listen(lab.server), connect(lab.client, a.VIP_V4) as client:
        own = Endpoint.of(*client.getsockname())
        assert own not in [connection.client for connection in director.connections()]


def test_connections_outlive_a_new_configuration(lab: Lab, director: Director) -> None:
    director.serve(service(PLAIN_V4))
    with listen(lab.server) as listener, connect(lab.client, a.VIP_V4) as client:
        server, _ = listener.accept()
        director.serve()
        with server:
            client.sendall(b"still here")
            assert server.recv(100) == b"still here"


def test_the_director_says_what_is_wrong_and_goes_on(director: Director) -> None:
    with pytest.raises(ValueError, match="unknown request 'dance'"):
        director._ask({"do": "dance"})
    assert director.connections() is not None


def test_the_server_side_mtu_can_be_changed(lab: Lab, director: Director) -> None:
    director.serve(service(PLAIN_V4))
    lab.set_server_mtu(1300)
    try:
        with listen(lab.server) as listener, Capture(lab.server) as capture, answering(listener):
            assert there_and_back(lab, a.VIP_V4, MEGABYTE) == MEGABYTE
        assert max(map(len, capture.incoming())) in range(1280, 1301)
    finally:
        lab.set_server_mtu(1500)


def test_a_process_starts_inside_the_cgroup(lab: Lab) -> None:
    told, not_told = (lab.server.run(["cat", "/proc/self/cgroup"], cgroup=group).stdout for group in (lab.cgroup, None))
    assert f"/{lab.cgroup.parent.name}/{lab.cgroup.name}\n" in told
    assert f"/{lab.cgroup.parent.name}\n" in not_told


def test_a_command_runs_in_a_lab_of_its_own() -> None:
    script = "$SERVER ip -brief address show eth0; $DIRECTOR ip -brief link show tun; cat /proc/self/cgroup; exit 3"
    command = [sys.executable, "-m", "tests.lab", "server", "--where", "syn", "--", "sh", "-c", script]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert ended.returncode == 3, ended.stderr
    for expected in (str(a.RIPS_V4[0]), "LOWER_UP", "/applications\n"):
        assert expected in ended.stdout


# A daemon has left its parent and its session.
START_A_DAEMON = ["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &"]

VICTIM = f"""
import signal
from tests.lab.topology import Lab

with Lab() as lab:
    lab.start_director()
    lab.server.popen(["sleep", "1000"], cgroup=lab.cgroup)
    lab.client.run({START_A_DAEMON})
    print(lab.cgroup.parent, flush=True)
    signal.pause()
"""


def watched(pids: Iterable[str]) -> list[int]:
    """A descriptor of each process."""
    return [os.pidfd_open(int(pid)) for pid in pids]


def all_end(descriptors: list[int]) -> bool:
    """Whether these processes end, now or soon."""
    ends = [bool(select.select([descriptor], [], [], TIMEOUT)[0]) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    return all(ends)


def processes_in(cgroup: Path) -> list[str]:
    return [pid for procs in cgroup.glob("**/cgroup.procs") for pid in procs.read_text().split()]


def test_a_lab_leaves_nothing_behind() -> None:
    with Lab() as lab:
        lab.start_director()
        lab.server.popen(["sleep", "1000"], cgroup=lab.cgroup)
        lab.client.run(START_A_DAEMON)
        pids = processes_in(lab.cgroup.parent)
        processes = watched(pids)
        paths = [lab.cgroup.parent, lab.bpffs, lab.client.path, lab.director.path, lab.server.path]
        assert len(pids) == 3
        assert all(path.exists() for path in paths)
    assert all_end(processes)
    assert not any(path.exists() for path in paths)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_lab_whose_process_is_killed_leaves_nothing_behind(number: signal.Signals) -> None:
    command = [sys.executable, "-c", VICTIM]
    with subprocess.Popen(
        command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as victim:
        assert victim.stdout is not None
        cgroup = Path(victim.stdout.readline().strip())
        helpers = Path(f"/proc/{victim.pid}/task/{victim.pid}/children").read_text().split()
        inside = processes_in(cgroup)
        assert len(inside) == 3
        processes = watched({*helpers, *inside})
        victim.send_signal(number)
    assert all_end(processes)
    assert not cgroup.exists()
