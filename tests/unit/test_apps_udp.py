"""The UDP test applications: each tells exactly which client it saw, on every stack, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from ipvsca.address import Endpoint
from tests.apps import (
    UDP_APPS,
    NotReady,
    Query,
    Running,
    SeenDatagram,
    Stack,
    UdpApp,
    ask_udp,
    endpoint,
    queries,
    read_datagram,
    running,
    udp_app,
    v4_mapped,
)
from tests.apps.dns import Question, read_answer
from tests.apps.dns_server import DNS_SERVERS, log_of
from tests.apps.listener import Listener
from tests.apps.processes import all_gone, eventually, open_files, processes, sockets

LISTEN_AT = {Stack.IPV4: "127.0.0.1", Stack.IPV6: "::1", Stack.DUAL: "::"}
TIMEOUT_S = 10
UDP_SEGMENT = 103  # an option of SOL_UDP
UDP_CONNECTED, UDP_UNCONNECTED = "01", "07"
PAYLOAD = b"hello 1 payload=\n\0\xff"  # all that follows the first payload= is payload

LINE_APPS = [each for each in UDP_APPS if each.name not in DNS_SERVERS]
MANY_CLIENT_LINE_APPS = [each for each in LINE_APPS if not each.one_client]

# What comes before the payload, for client C at server S.
WORDS = {
    "c-recvmmsg": "from=C together=1",
    "c-peek": "from=C peek=C",
    "c-gro": "from=C together=1",
    "c-pktinfo": "from=C local=S",
    "c-connect": "from=C peer=C",
    "c-read": "from=- peer=C",
}

# In which system call a waiting application is.
CALLS = {
    "x86_64": {"recvfrom": 45, "recvmsg": 47, "recvmmsg": 299, "poll": 7, "read": 0, "io_uring_enter": 426},
    "aarch64": {"recvfrom": 207, "recvmsg": 212, "recvmmsg": 243, "poll": 73, "read": 63, "io_uring_enter": 426},
}
WAITS_IN = {
    "c-recvfrom": "recvfrom",
    "c-recvmsg": "recvmsg",
    "c-recvmmsg": "recvmmsg",
    "c-peek": "recvfrom",
    "c-uring": "io_uring_enter",
    "c-gro": "recvmsg",
    "c-segment": "recvmsg",
    "c-pktinfo": "recvmsg",
    "c-connect": "poll",
    "c-read": "read",
    "socket": "recvfrom",
}


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("apps")


@pytest.fixture(params=UDP_APPS, ids=str)
def each_app(request: pytest.FixtureRequest) -> UdpApp:
    return available(request.param)


def available(application: UdpApp) -> UdpApp:
    if reason := application.missing():
        pytest.skip(reason)
    return application


@pytest.fixture
def port() -> int:
    """A port that is free for both families and both transports (a DNS server takes TCP too)."""
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as tcp,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("::", tcp.getsockname()[1]))
        return int(tcp.getsockname()[1])


@contextlib.contextmanager
def client_at(source: str, port: int, server: str | None = None, source_port: int = 0) -> Iterator[socket.socket]:
    """A socket that only takes answers from the server it asks."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.bind((source, source_port))
        sock.connect((server or ("::1" if family == socket.AF_INET6 else "127.0.0.1"), port))
        yield sock


SOURCES = {
    Stack.IPV4: ["127.0.0.1", "127.0.0.2", "127.255.255.254", "127.0.0.1"],
    Stack.IPV6: ["::1"] * 4,
    Stack.DUAL: ["127.0.0.1", "::1", "127.0.0.2", "::1"],
}


@contextlib.contextmanager
def clients_of(stack: Stack, port: int, times: int = 1) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(client_at(source, port)) for source in SOURCES[stack] * times]


def shown(end: tuple[str, int], stack: Stack) -> Endpoint:
    """A socket's own or other end as one socket of that stack shows it."""
    plain = Endpoint.of(*end[:2])
    return v4_mapped(plain) if stack is Stack.DUAL and plain.address.version == 4 else plain


def expected(application: UdpApp, client: socket.socket, stack: Stack, payload: bytes) -> SeenDatagram:
    server = shown(client.getpeername(), stack).address
    return application.sees(shown(client.getsockname(), stack), server, payload)


def udp_sockets(port: int) -> list[list[str]]:
    """This namespace's UDP sockets with that local port: their rows in /proc/net."""
    tables = [Path(f"/proc/self/net/{name}").read_text() for name in ("udp", "udp6")]
    rows = [row.split() for table in tables for row in table.splitlines()]
    return [row for row in rows if row[1].endswith(f":{port:04X}")]


def udp_states(port: int) -> list[str]:
    return sorted(row[3] for row in udp_sockets(port))


def has_received_all(port: int) -> bool:
    """Whether nothing waits in these sockets' queues."""
    return all(row[4].endswith(":00000000") for row in udp_sockets(port))


@contextlib.contextmanager
def stopped(run: Running) -> Iterator[None]:
    """It runs again when the context is left, and then finds at once all that was sent meanwhile."""
    statuses = [Path(f"/proc/{pid}/stat") for pid in processes(run)]
    os.killpg(run.process.pid, signal.SIGSTOP)
    assert eventually(lambda: all(status.read_text().rpartition(")")[2].split()[0] == "T" for status in statuses))
    try:
        yield
    finally:
        os.killpg(run.process.pid, signal.SIGCONT)


# What they see


@pytest.mark.parametrize("stack", Stack, ids=lambda stack: stack.value)
def test_reports_each_of_several_clients(each_app: UdpApp, stack: Stack, port: int, shared: Path) -> None:
    with running(each_app, LISTEN_AT[stack], port, shared=shared) as run, clients_of(stack, port) as clients:
        served = clients[:1] if each_app.one_client else [*clients, *reversed(clients)]
        payloads = [f"hello-{number}".encode() for number in range(len(served))]
        seen = [each_app.ask(client, payload, run.directory) for client, payload in zip(served, payloads, strict=True)]
        assert seen == [expected(each_app, *each) for each in zip(served, [stack] * len(served), payloads, strict=True)]


@pytest.mark.parametrize("line_app", LINE_APPS, ids=str)
def test_answers_in_the_words_of_the_protocol(line_app: UdpApp, port: int, shared: Path) -> None:
    with running(available(line_app), "::", port, shared=shared), client_at("127.0.0.2", port) as client:
        words = WORDS.get(line_app.name, "from=C").replace("C", f"::ffff:127.0.0.2 {client.getsockname()[1]}")
        for _ in range(2):
            client.send(PAYLOAD)
            answer = client.recv(2048)
            while line_app.name == "c-segment" and not answer.endswith(PAYLOAD):
                answer += client.recv(2048)
            assert answer == words.replace("S", "::ffff:127.0.0.1").encode() + b" payload=" + PAYLOAD


@pytest.mark.parametrize("line_app", LINE_APPS, ids=str)
def test_an_empty_datagram_is_answered(line_app: UdpApp, port: int, shared: Path) -> None:
    with running(available(line_app), "127.0.0.1", port, shared=shared) as run, client_at("127.0.0.1", port) as client:
        for payload in (b"", b"more"):
            assert line_app.ask(client, payload, run.directory) == expected(line_app, client, Stack.IPV4, payload)


@pytest.mark.parametrize("line_app", MANY_CLIENT_LINE_APPS, ids=str)
def test_a_burst_is_answered_to_whom_it_is_from(line_app: UdpApp, port: int, shared: Path) -> None:
    """Several datagrams of several clients wait at once."""
    payloads = [b"first", b"second"]
    with running(available(line_app), "::", port, shared=shared) as run, clients_of(Stack.DUAL, port, 2) as clients:
        with stopped(run):
            for payload in payloads:
                for client in clients:
                    client.send(payload)
        datagrams = 3 if line_app.name == "c-segment" else 1
        for client in clients:
            answers = [b"".join(client.recv(2048) for _ in range(datagrams)) for _ in payloads]
            seen = [read_datagram(answer) for answer in answers]
            assert seen == [expected(line_app, client, Stack.DUAL, payload) for payload in payloads]


def test_v6only_refuses_ipv4(each_app: UdpApp, port: int, shared: Path) -> None:
    if each_app.name == "dnsmasq":
        with pytest.raises(NotReady, match="no IPv6-only"), running(each_app, "::", port, shared=shared, v6only=True):
            pytest.fail("it runs")
        return
    with running(each_app, "::", port, shared=shared, v6only=True) as run:
        with client_at("127.0.0.1", port) as client, pytest.raises(ConnectionRefusedError):
            ask_udp(client)
        with client_at("::1", port) as client:
            seen = each_app.ask(client, b"hello", run.directory)
            assert seen == expected(each_app, client, Stack.IPV6, b"hello")


def test_survives_clients_that_leave(each_app: UdpApp, port: int, shared: Path) -> None:
    """Answers to them come back as errors."""
    with running(each_app, "127.0.0.1", port, shared=shared) as run:
        with client_at("127.0.0.1", port) as client, stopped(run):
            source_port = client.getsockname()[1]
            for _ in range(5):
                client.send(b"\0\1leaving")
            client.close()
        assert eventually(lambda: has_received_all(port))
        with client_at("127.0.0.1", port, source_port=source_port if each_app.one_client else 0) as client:
            seen = each_app.ask(client, b"again", run.directory)
            while each_app.one_client and seen.payload != b"again":  # answers to who had its address before
                seen = read_datagram(client.recv(2048))
            assert seen == expected(each_app, client, Stack.IPV4, b"again")
        assert run.process.poll() is None


# How they are started and ended


def test_ends_with_all_its_processes(each_app: UdpApp, port: int, shared: Path) -> None:
    for _ in range(2):  # the second time proves that the first has left the port
        with running(each_app, "127.0.0.1", port, shared=shared) as run, client_at("127.0.0.1", port) as client:
            before = processes(run)
            each_app.ask(client, b"hello", run.directory)
        assert run.process.pid in before
        assert all_gone(run)
        assert udp_states(port) == []


def test_its_processes_follow_the_first(each_app: UdpApp, port: int, shared: Path) -> None:
    with running(each_app, "127.0.0.1", port, shared=shared) as run:
        run.process.terminate()
        assert all_gone(run)


def test_a_taken_port_is_reported(each_app: UdpApp, port: int, shared: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port))
        with pytest.raises(NotReady, match=r"(?i)in ?use"), running(each_app, "127.0.0.1", port, shared=shared):
            pytest.fail("it runs")


@pytest.mark.parametrize("server", DNS_SERVERS)
def test_a_dns_server_keeps_all_its_files_together(server: str, port: int, shared: Path) -> None:
    """And is ready without a question."""
    with running(available(udp_app(server)), "::", port, shared=shared) as run, client_at("::1", port) as client:
        assert queries(log_of(run.directory).read_text()) == []
        for name in ("lab.test", "a.b.lab.test"):
            client.send(bytes(Question(name)))
            assert str(read_answer(Question(name), client.recv(512))) == "192.0.2.53"
        asker = Endpoint.of("::1", client.getsockname()[1] if run.app.shows_port else 0)  # type: ignore[attr-defined]
        asked = queries(log_of(run.directory).read_text())
        assert asked == [Query(asker, "lab.test"), Query(asker, "a.b.lab.test")]
        files = {Path(file) for pid in processes(run) for file in open_files(pid) if file.startswith("/")}
        assert {file.parent for file in files if file.is_file() and str(file) != "/dev/null"} <= {run.directory}


# The port, watched from outside


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_bound_socket_is_seen_until_it_is_closed(host: str, port: int) -> None:
    with Listener(host, port, socket.SOCK_DGRAM) as listener, Listener(host, port, socket.SOCK_STREAM) as other:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((host, port))
            assert not listener.is_open()  # not watched yet
            listener.watch(os.getpid())
            other.watch(os.getpid())
            assert listener.is_open()
            assert not other.is_open()
            sock.connect((host, port))
            assert listener.is_open()
        assert not listener.is_open()


# Each way to receive and to answer is really taken


@pytest.mark.parametrize("name", WAITS_IN)
def test_waits_in_its_call(name: str, port: int, shared: Path) -> None:
    if platform.machine() not in CALLS:
        pytest.skip("needs: the system call numbers of this machine (in CALLS)")
    call = CALLS[platform.machine()][WAITS_IN[name]]
    application = available(udp_app(name))
    with running(application, "127.0.0.1", port, shared=shared) as run, client_at("127.0.0.1", port) as client:
        application.ask(client, b"hello", run.directory)
        assert eventually(lambda: Path(f"/proc/{run.process.pid}/syscall").read_text().split()[0] == str(call))


def test_recvmmsg_takes_many_clients_in_one_batch(port: int, shared: Path) -> None:
    application = available(udp_app("c-recvmmsg"))
    with running(application, "::", port, shared=shared) as run, clients_of(Stack.DUAL, port, 5) as clients:
        with stopped(run):
            for number, client in enumerate(clients):
                client.send(str(number).encode())
        seen = [read_datagram(client.recv(2048)) for client in clients]
        assert seen == [
            expected(application, client, Stack.DUAL, str(number).encode()) for number, client in enumerate(clients)
        ]
        assert [each.together for each in seen] == [16] * 16 + [4] * 4


@pytest.mark.parametrize("stack", Stack, ids=lambda stack: stack.value)
def test_gro_brings_several_datagrams_in_one_receive(stack: Stack, port: int, shared: Path) -> None:
    application = available(udp_app("c-gro"))
    with running(application, LISTEN_AT[stack], port, shared=shared), clients_of(stack, port) as clients:
        for client in clients:
            client.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 7)
            client.send(b"datagramDATAGRAMdata")
            seen = [read_datagram(client.recv(2048)) for _ in range(3)]
            assert seen == [expected(application, client, stack, part) for part in (b"datagra", b"mDATAGR", b"AMdata")]
            assert [each.together for each in seen] == [3] * 3


@pytest.mark.parametrize("stack", Stack, ids=lambda stack: stack.value)
def test_segment_answers_with_three_datagrams(stack: Stack, port: int, shared: Path) -> None:
    application = available(udp_app("c-segment"))
    with running(application, LISTEN_AT[stack], port, shared=shared), clients_of(stack, port) as clients:
        for client, payload in zip(clients, (b"", b"h", b"he", b"hel"), strict=True):
            client.send(payload)
            first, second, third = parts = [client.recv(2048) for _ in range(3)]
            assert len(first) == len(second) >= len(third) > 0
            assert read_datagram(b"".join(parts)) == expected(application, client, stack, payload)


@pytest.mark.parametrize("name", ["c-pktinfo", "dnsmasq"])
@pytest.mark.parametrize(("listen", "stack"), [("0.0.0.0", Stack.IPV4), ("::", Stack.DUAL)])
def test_pktinfo_answers_from_the_address_that_was_asked(
    name: str, listen: str, stack: Stack, port: int, shared: Path
) -> None:
    application = available(udp_app(name))
    with running(application, listen, port, shared=shared) as run:
        for server in ("127.0.0.2", "127.0.0.3"):
            with client_at("127.0.0.4", port, server) as client:
                payload = server.replace(".", "-").encode()
                seen = application.ask(client, payload, run.directory)
                assert seen == expected(application, client, stack, payload)


def test_without_pktinfo_another_address_answers(port: int, shared: Path) -> None:
    with (
        running(available(udp_app("c-recvmsg")), "0.0.0.0", port, shared=shared),
        client_at("127.0.0.4", port) as client,
    ):
        client.sendto(b"hello", ("127.0.0.2", port))
        assert client.recvfrom(2048)[1] == ("127.0.0.1", port)


def test_connect_has_a_socket_for_each_client(port: int, shared: Path) -> None:
    application = available(udp_app("c-connect"))
    with running(application, "127.0.0.1", port, shared=shared) as run, clients_of(Stack.IPV4, port, 2) as clients:
        for client in [*clients, *clients]:
            ask_udp(client)
        assert udp_states(port) == [UDP_CONNECTED] * len(clients) + [UDP_UNCONNECTED]
        assert len(sockets(run.process.pid)) == len(clients) + 1


def test_connect_forgets_the_oldest_client(port: int, shared: Path) -> None:
    application = available(udp_app("c-connect"))
    with running(application, "::", port, shared=shared) as run, clients_of(Stack.DUAL, port, 17) as clients:
        for client in [*clients, clients[0]]:
            assert ask_udp(client) == expected(application, client, Stack.DUAL, b"hello")
        assert len(sockets(run.process.pid)) == 1 + 64 < len(clients)


@pytest.mark.parametrize("stack", Stack, ids=lambda stack: stack.value)
def test_read_serves_only_the_first_client(stack: Stack, port: int, shared: Path) -> None:
    application = available(udp_app("c-read"))
    with running(application, LISTEN_AT[stack], port, shared=shared), clients_of(stack, port) as (first, *others):
        ask_udp(first)
        assert udp_states(port) == [UDP_CONNECTED]
        for other in others:
            with pytest.raises(ConnectionRefusedError):
                ask_udp(other)
        assert ask_udp(first, b"more") == expected(application, first, stack, b"more")


@pytest.mark.parametrize(("name", "has_ring"), [("c-uring", True), ("c-recvmsg", False)])
def test_uring_has_a_ring(name: str, has_ring: bool, port: int, shared: Path) -> None:
    with running(available(udp_app(name)), "127.0.0.1", port, shared=shared) as run:
        assert ("anon_inode:[io_uring]" in open_files(run.process.pid)) == has_ring


# The table and the readers


def test_names_are_unique() -> None:
    assert len({each.name for each in UDP_APPS}) == len(UDP_APPS)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (b"from=1.2.3.4 5 payload=hello 1", SeenDatagram(b"hello 1", Endpoint.of("1.2.3.4", 5))),
        (b"from=- peer=::1 5 payload=", SeenDatagram(b"", peer=Endpoint.of("::1", 5))),
        (
            b"from=::ffff:1.2.3.4 5 peek=1.2.3.4 6 payload=\n payload=\xff",
            SeenDatagram(b"\n payload=\xff", sender=endpoint("::ffff:1.2.3.4 5"), peeked=Endpoint.of("1.2.3.4", 6)),
        ),
        (
            b"from=1.2.3.4 5 local=9.8.7.6 payload=x",
            SeenDatagram(b"x", Endpoint.of("1.2.3.4", 5), local=ip_address("9.8.7.6")),
        ),
    ],
)
def test_reads_an_answer(answer: bytes, seen: SeenDatagram) -> None:
    assert read_datagram(answer) == seen


def test_how_many_came_together_is_read_and_not_compared() -> None:
    three, one = (read_datagram(b"from=1.2.3.4 5 together=%d payload=" % number) for number in (3, 1))
    assert (three.together, one.together) == (3, 1)
    assert three == one


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"hello",
        b"from=1.2.3.4 payload=",
        b"from=1.2.3.4 5",
        b"from=1.2.3 5 payload=",
        b"from=1.2.3.4 65536 payload=",
        b"from=1.2.3.4 5 peer=- payload=",
        b" from=1.2.3.4 5 payload=",
    ],
)
def test_refuses_what_is_no_answer(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"not an answer|not in 0\.\.65535|IPv4 or IPv6"):
        read_datagram(answer)


def test_reads_logged_questions() -> None:
    log = """\
Nov 21 07:00:00 dnsmasq[7]: started, version 2.90 cachesize 150
Nov 21 07:00:00 dnsmasq[7]: 1 10.0.0.1/4242 query[A] x.lab.test from 10.0.0.1
Nov 21 07:00:00 dnsmasq[7]: 1 10.0.0.1/4242 config x.lab.test is 192.0.2.53
[1700000000] unbound[7:0] info: start of service (unbound 1.17.1).
[1700000000] unbound[7:0] info: 2001:db8::1 y.lab.test. A IN
"""
    assert queries(log) == [
        Query(Endpoint.of("10.0.0.1", 4242), "x.lab.test"),
        Query(Endpoint.of("2001:db8::1", 0), "y.lab.test"),
    ]
