"""The test applications: each tells exactly which client it saw, on every stack, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvsca.address import Endpoint
from tests.apps import APPS, App, NotReady, Seen, Stack, accesses, answer, answer_http, app, running, v4_mapped
from tests.apps.listener import Listener
from tests.apps.processes import all_gone, eventually, open_files, processes, sockets
from tests.apps.program import Need, build

LISTEN_AT = {Stack.IPV4: "127.0.0.1", Stack.IPV6: "::1", Stack.DUAL: "::"}
CONNECT_TO = {Stack.IPV4: ["127.0.0.1"], Stack.IPV6: ["::1"], Stack.DUAL: ["127.0.0.1", "::1", "127.0.0.2"]}
TIMEOUT_S = 10
TCP_LISTEN, TCP_SYN_RECV = "0A", "03"


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("apps")


@pytest.fixture(params=APPS, ids=str)
def each_app(request: pytest.FixtureRequest) -> App:
    return available(request.param)


def available(application: App) -> App:
    if reason := application.missing():
        pytest.skip(reason)
    return application


@pytest.fixture
def port() -> int:
    """A port that is free for both families."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as sock:
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def connected(hosts: list[str], port: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((host, port), TIMEOUT_S)) for host in hosts]


def shown(client: socket.socket, stack: Stack) -> Endpoint:
    """The client's address as a socket of that stack shows it."""
    local = Endpoint.of(*client.getsockname()[:2])
    return v4_mapped(local) if stack is Stack.DUAL and client.family == socket.AF_INET else local


def received(client: socket.socket) -> str:
    with client.makefile("rb") as stream:
        return stream.read().decode()


def words(line_app: App, peer: str) -> str:
    """The answer of a line server that was shown `peer`."""
    accept, getpeername = (peer if asks else "-" for asks in (line_app.accept, line_app.getpeername))
    return f"accept={accept} getpeername={getpeername}\n"


def socket_states(port: int) -> list[str]:
    """The states of this namespace's IPv4 TCP sockets with that local port."""
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return [row[3] for row in rows if row[1].endswith(f":{port:04X}")]


# What they see


@pytest.mark.parametrize("stack", Stack, ids=lambda stack: stack.value)
def test_reports_each_of_several_clients(each_app: App, stack: Stack, port: int, shared: Path) -> None:
    if stack not in each_app.stacks:
        pytest.skip(f"{each_app} does not listen on {stack.value}")
    with (
        running(each_app, LISTEN_AT[stack], port, shared=shared),
        connected(CONNECT_TO[stack] * 4, port) as clients,
    ):
        seen = [each_app.ask(client) for client in reversed(clients)]  # those before it are silent meanwhile
        assert seen == [each_app.sees(shown(client, stack)) for client in reversed(clients)]
        assert len(set(seen)) == len(clients)


@pytest.mark.parametrize("line_app", [each for each in APPS if each.ask is answer], ids=str)
def test_answers_in_the_words_of_the_protocol(line_app: App, port: int, shared: Path) -> None:
    with running(available(line_app), "::", port, shared=shared), connected(["127.0.0.1", "::1"], port) as (v4, v6):
        v4.sendall(b"hel")
        v6.sendall(b"hello\n")
        assert received(v6) == words(line_app, f"::1 {v6.getsockname()[1]}")
        assert select.select([v4], [], [], 0)[0] == []  # half a line is not answered
        v4.sendall(b"lo\n")
        assert received(v4) == words(line_app, f"::ffff:127.0.0.1 {v4.getsockname()[1]}")


def test_v6only_refuses_ipv4(each_app: App, port: int, shared: Path) -> None:
    with running(each_app, "::", port, shared=shared, v6only=True):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        with connected(["::1"], port) as (client,):
            assert each_app.ask(client) == each_app.sees(shown(client, Stack.IPV6))


def test_survives_clients_that_leave(each_app: App, port: int, shared: Path) -> None:
    with running(each_app, "127.0.0.1", port, shared=shared) as run:
        with connected(["127.0.0.1"] * 20, port) as (no_line, *clients):
            no_line.sendall(b"no line")
            for client in clients:
                if each_app.ask is answer:
                    client.sendall(b"hello\n")
                    client.shutdown(socket.SHUT_WR)  # then a late answer earns the server a SIGPIPE
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close resets
        with connected(["127.0.0.1"], port) as (client,):
            assert each_app.ask(client) == each_app.sees(shown(client, Stack.IPV4))
        assert run.process.poll() is None


# How they are started and ended


def test_ends_with_all_its_processes(each_app: App, port: int, shared: Path) -> None:
    with (
        running(each_app, "127.0.0.1", port, shared=shared) as run,
        connected(["127.0.0.1"] * 2, port) as (client, _),  # an open connection does not hold it up
    ):
        before = processes(run)
        each_app.ask(client)
    assert run.process.pid in before
    assert all_gone(run)
    with running(each_app, "127.0.0.1", port, shared=shared):  # although the port has a connection in TIME_WAIT
        pass


def test_its_processes_follow_the_first(each_app: App, port: int, shared: Path) -> None:
    """So that even a test that was interrupted leaves nothing."""
    with running(each_app, "127.0.0.1", port, shared=shared) as run, connected(["127.0.0.1"], port):
        run.process.terminate()
        assert all_gone(run)


def test_a_stubborn_application_is_killed(port: int, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.apps.runner.END_S", 0.1)
    script = ["import os, signal, time", "signal.signal(signal.SIGTERM, signal.SIG_IGN)", "os.fork()"]
    script += ["os.write(1, b'ready\\n')", "time.sleep(60)"]
    stubborn = App("stubborn", lambda shared, own: [sys.executable, "-c", "\n".join(script)], needs=())
    with running(stubborn, "127.0.0.1", port, shared=shared) as run:
        pass
    assert all_gone(run)


def test_a_taken_port_is_reported(each_app: App, port: int, shared: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(NotReady, match=r"(?i)in use"),
        running(each_app, "127.0.0.1", port, shared=shared),
    ):
        pytest.fail("it runs")


def test_a_silent_application_is_not_waited_for(port: int, shared: Path) -> None:
    silent = App("silent", lambda shared, own: [sys.executable, "-c", "import time; time.sleep(60)"], needs=())
    with pytest.raises(NotReady), running(silent, "127.0.0.1", port, shared=shared, ready_s=0.1):
        pytest.fail("it never said so")


def test_launch_is_the_callers(port: int, shared: Path) -> None:
    launched: list[subprocess.Popen[bytes]] = []

    def launch(argv: list[str], **options: object) -> subprocess.Popen[bytes]:
        launched.append(subprocess.Popen(["env", "--", *argv], **options))  # type: ignore[call-overload]
        return launched[-1]

    with running(app("asyncio"), "127.0.0.1", port, launch, shared=shared) as run:
        assert launched == [run.process]


def test_launch_without_a_session_of_its_own_is_refused(port: int, shared: Path) -> None:
    def launch(argv: list[str], **options: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(argv, stdout=subprocess.PIPE)

    with (
        pytest.raises(ValueError, match="start_new_session"),
        running(app("asyncio"), "127.0.0.1", port, launch, shared=shared),
    ):
        pytest.fail("it runs")


# The port, watched from outside


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_listener_is_seen_until_it_is_closed(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with Listener(host, port, socket.SOCK_STREAM) as listener:
        with socket.create_server((host, port), family=family):
            assert not listener.is_open()  # not watched yet
            listener.watch(os.getpid())
            assert listener.is_open()
            assert listener.is_open()
        assert not listener.is_open()


def test_another_address_or_a_connection_is_no_listener(port: int) -> None:
    with socket.create_server(("127.0.0.2", port)) as server, socket.create_connection(("127.0.0.2", port)) as client:
        for address, local_port in (("127.0.0.1", port), client.getsockname()):
            with Listener(address, local_port, socket.SOCK_STREAM) as listener:
                listener.watch(os.getpid())
                assert not listener.is_open()
        assert server.getsockname() == client.getpeername()


def test_leaving_waits_until_the_port_is_closed(port: int) -> None:
    sock = socket.create_server(("127.0.0.1", port))
    with Listener("127.0.0.1", port, socket.SOCK_STREAM) as listener:
        listener.watch(os.getpid())
        threading.Timer(0.1, sock.close).start()
    assert sock.fileno() == -1


def test_leaving_does_not_wait_for_ever(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.apps.listener.CLOSE_S", 0.05)
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(TimeoutError, match=f"port {port} is still"),
        Listener("127.0.0.1", port, socket.SOCK_STREAM) as listener,
    ):
        listener.watch(os.getpid())


# Each way to accept is really taken


def test_fork_shares_one_listener(port: int, shared: Path) -> None:
    extra = ("--workers", "3")
    with running(available(app("c-fork")), "127.0.0.1", port, shared=shared, extra=extra) as run:
        assert len(processes(run)) == 1 + 3
        assert socket_states(port) == [TCP_LISTEN]


def test_reuseport_has_a_listener_per_process(port: int, shared: Path) -> None:
    extra = ("--workers", "3")
    with running(available(app("c-reuseport")), "127.0.0.1", port, shared=shared, extra=extra) as run:
        parent, *workers = processes(run)
        assert sockets(parent) == set()
        assert [len(sockets(worker)) for worker in workers] == [1, 1, 1]
        assert len(set.union(*map(sockets, workers))) == 3
        assert socket_states(port) == [TCP_LISTEN] * 3


def test_fork_connection_inherits_the_connection(port: int, shared: Path) -> None:
    with (
        running(available(app("c-fork-connection")), "127.0.0.1", port, shared=shared) as run,
        connected(["127.0.0.1"] * 2, port) as (first, second),
    ):
        answer(second)
        parent, child = (pid for pid in processes(run) if sockets(pid))
        assert eventually(lambda: len(sockets(parent)) == len(sockets(child)) == 1)
        assert sockets(parent) != sockets(child)  # the listener, the connection
        answer(first)


def test_defer_accepts_only_with_data(port: int, shared: Path) -> None:
    with (
        running(available(app("c-defer")), "127.0.0.1", port, shared=shared),
        connected(["127.0.0.1"], port) as (client,),
    ):
        assert sorted(socket_states(port)) == [TCP_SYN_RECV, TCP_LISTEN]
        answer(client)


@pytest.mark.parametrize(("name", "has_ring"), [("c-uring", True), ("c-accept", False)])
def test_uring_has_a_ring(name: str, has_ring: bool, port: int, shared: Path) -> None:
    with running(available(app(name)), "127.0.0.1", port, shared=shared) as run:
        assert ("anon_inode:[io_uring]" in open_files(run.process.pid)) == has_ring


# nginx


def test_nginx_listens_on_every_stack_at_once_and_logs(port: int, shared: Path) -> None:
    """Two of them beside each other, so every file is its own."""
    with (
        socket.create_server(("127.0.0.2", 0)) as other,
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as dual,
    ):
        other_port, dual_port = other.getsockname()[1], dual.getsockname()[1]
    listen = ("--listen", f"[::1]:{port} ipv6only=on", "--listen", f"[::]:{dual_port} ipv6only=off")
    nginx = available(app("nginx"))
    with (
        running(nginx, "127.0.0.2", other_port, shared=shared) as beside,
        running(nginx, "127.0.0.1", port, shared=shared, extra=listen) as run,
        socket.create_connection(("127.0.0.1", port), TIMEOUT_S, ("127.0.0.3", 0)) as v4,
        connected(["::1"], port) as (v6,),
        connected(["127.0.0.1"], dual_port) as (mapped,),
    ):
        expected = [
            (shown(v4, Stack.IPV4), Endpoint.of("127.0.0.1", port)),
            (shown(v6, Stack.IPV6), Endpoint.of("::1", port)),
            (shown(mapped, Stack.DUAL), Endpoint.of("::ffff:127.0.0.1", dual_port)),
        ]
        assert [nginx.ask(client).accept for client in (v4, v6, mapped)] == [client for client, _ in expected]
        logged = accesses((run.directory / "access.log").read_text())
        assert [(each.client, each.server) for each in logged] == expected
        assert {each.request for each in logged} == {"GET / HTTP/1.0"}
        assert (beside.directory / "access.log").read_text() == ""


def test_nginx_is_ready_when_all_its_workers_are(port: int, shared: Path) -> None:
    extra = ("--workers", "8")
    with running(available(app("nginx")), "127.0.0.1", port, shared=shared, extra=extra) as run:
        assert len(processes(run)) == 1 + 1 + 8  # what started it, the master, the workers


# The table and the readers


def test_missing_tools_are_named() -> None:
    absent = Need("teapot", "apt install teapot", lambda: False)
    present = Need("kettle", "apt install kettle", lambda: True)
    assert App("tea", lambda shared, own: [], needs=(absent, present)).missing() == "needs: teapot (apt install teapot)"
    assert App("water", lambda shared, own: [], needs=(present,)).missing() is None


def test_names_are_unique() -> None:
    assert len({each.name for each in APPS}) == len(APPS)


def test_compiles_once(shared: Path) -> None:
    available(app("c-accept"))
    program = build(shared, "accept_server")
    before = program.stat()
    assert build(shared, "accept_server").stat() == before
    os.utime(program, (0, 0))
    assert build(shared, "accept_server").stat().st_mtime > 0


@contextlib.contextmanager
def replied(reply: str) -> Iterator[socket.socket]:
    """A connection whose other end says `reply`, whatever it is asked."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(reply.encode())
        theirs.shutdown(socket.SHUT_WR)
        yield ours


@pytest.mark.parametrize(
    ("reply", "seen"),
    [
        ("accept=- getpeername=1.2.3.4 5\n", Seen(None, Endpoint.of("1.2.3.4", 5))),
        (
            "accept=::ffff:1.2.3.4 5 getpeername=2001:db8::1 6\n",
            Seen(Endpoint.of("::ffff:1.2.3.4", 5), Endpoint.of("2001:db8::1", 6)),
        ),
    ],
)
def test_reads_an_answer(reply: str, seen: Seen) -> None:
    with replied(reply) as sock:
        assert answer(sock) == seen


def test_reads_an_http_answer() -> None:
    with replied("HTTP/1.1 200 OK\r\nA: b\r\n\r\n::1 7\n") as sock:
        assert answer_http(sock) == Seen(Endpoint.of("::1", 7), None)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "accept=1.2.3.4 5 getpeername=1.2.3.4 5",
        "accept=1.2.3.4 getpeername=1.2.3.4 5\n",
        "accept=1.2.3.4 5 getpeername=1.2.3.4 65536\n",
        "accept=1.2.3.4 5 getpeername=1.2.3 5\n",
        "accept=- getpeername=-\naccept=- getpeername=-\n",
    ],
)
def test_refuses_what_is_no_answer(reply: str) -> None:
    with replied(reply) as sock, pytest.raises(ValueError, match=r"not an answer|not in 0\.\.65535|IPv4 or IPv6"):
        answer(sock)


@pytest.mark.parametrize("reply", ["", "HTTP/1.1 502 Bad Gateway\r\n\r\n::1 7\n", "HTTP/1.1 200 OK\r\n\r\n"])
def test_refuses_what_is_no_http_answer(reply: str) -> None:
    with replied(reply) as sock, pytest.raises(ValueError, match=r"not an answer"):
        answer_http(sock)


def test_a_mapped_address_is_not_the_ipv4_one() -> None:
    plain = Endpoint.of("1.2.3.4", 5)
    assert v4_mapped(plain) == Endpoint.of("::ffff:1.2.3.4", 5) != plain


def test_an_unreadable_access_log_is_refused() -> None:
    with pytest.raises(ValueError, match="access log"):
        accesses('1.2.3.4 5 1.2.3.4 80 "GET /"\ngarbage\n')
