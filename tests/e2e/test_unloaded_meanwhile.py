"""Programs that go away, or are replaced, in the middle of calls and with thousands of connections open."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ipvsca.address import Endpoint
from tests.e2e.puppet import Puppet, puppet
from tests.e2e.tcp_puppet import connection, listen
from tests.e2e.traffic import DUAL_V4, IPV4, SERVICE_PORT, Traffic, own_address
from tests.kernel_state import KernelState, are_freed
from tests.lab import addresses as a
from tests.lab.messages import Toa, Where
from tests.lab.topology import Lab
from tests.rig import Ipvsca

MANY = 2000

THREADS = """
import ctypes, fcntl, mmap, os, struct, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
pool = ThreadPoolExecutor()
libc = ctypes.CDLL(None, use_errno=True)

def state_of(thread):
    return Path(f'/proc/self/task/{thread}/stat').read_text().rpartition(')')[2].split()[0]

def waiting(state, call):
    # In a thread; gives what will come of it, once the thread waits in the kernel.
    began, thread = threading.Event(), []
    def run():
        thread.append(threading.get_native_id())
        began.set()
        return call()
    future = pool.submit(run)
    began.wait()
    while state_of(thread[0]) != state:
        assert not future.done(), 'it did not wait'
    return future

USERFAULTFD = {'x86_64': 323, 'aarch64': 282}[os.uname().machine]
API, REGISTER, ZEROPAGE = 0xc018aa3f, 0xc020aa00, 0xc020aa04
page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE)
start = ctypes.addressof((ctypes.c_char * mmap.PAGESIZE).from_buffer(page))
faults = libc.syscall(USERFAULTFD, os.O_CLOEXEC)
fcntl.ioctl(faults, API, struct.pack('QQQ', 0xaa, 0, 0))
fcntl.ioctl(faults, REGISTER, struct.pack('QQQQ', start, mmap.PAGESIZE, 1, 0))

def hold(connection):
    # Have the kernel hold a connection's lock: it waits for the page that it is to send.
    page.madvise(mmap.MADV_DONTNEED)
    future = pool.submit(libc.send, connection.fileno(), ctypes.c_void_p(start), ctypes.c_size_t(mmap.PAGESIZE), 0)
    os.read(faults, 32)
    return future

def let_go():
    fcntl.ioctl(faults, ZEROPAGE, struct.pack('QQQQ', start, mmap.PAGESIZE, 0, 0))
"""

COLLECT = f"""
import resource, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (4 * {MANY}, 4 * {MANY}))
connections = []
def collect():
    connections.extend(l.accept()[0] for _ in range({MANY}))
def peers():
    return tuple(sorted(each.getpeername()[:2] for each in connections))
def echo():
    for each in connections:
        each.sendall(each.recv(99))
def close(those):
    for each in those:
        each.close()
"""


@pytest.fixture
def server(lab: Lab) -> Iterator[Puppet]:
    with puppet(lab) as server:
        yield server


def test_replaced_and_unloaded_while_a_getpeername_waits(traffic: Traffic, server: Puppet, ipvsca: Ipvsca) -> None:
    """It waits for the socket's lock, which a send holds. As it goes on it meets other programs, or none."""
    server(f"exec({THREADS!r})")
    with ExitStack() as stack:
        with ipvsca.loaded():
            client = stack.enter_context(connection(traffic, server, DUAL_V4))
            wait_for_the_lock(server)
            ipvsca.configure(lookup_calls=True)
            ipvsca.run("load")
            assert shown_with_the_lock(server, client) == DUAL_V4.shown(own_address(client))
            wait_for_the_lock(server)
        lip = traffic.director.connection(own_address(client)).local
        assert shown_with_the_lock(server, client) == DUAL_V4.shown(lip)


def wait_for_the_lock(server: Puppet) -> None:
    server("s = hold(c)")
    server("g = waiting('D', c.getpeername)")


def shown_with_the_lock(server: Puppet, client: socket.socket) -> Endpoint:
    """Whom getpeername shows now that it goes on; what was to be sent arrives."""
    assert not server("int(g.done())")
    server("let_go()")
    length = server("s.result()")
    with client.makefile("rb") as stream:
        assert stream.read(length) == bytes(length)
    return Endpoint.of(*server("g.result()[:2]"))


def test_loaded_and_unloaded_while_accept_waits(traffic: Traffic, server: Puppet, ipvsca: Ipvsca) -> None:
    """Whoever comes while the programs are there is seen, also by a call that began before."""
    server(f"exec({THREADS!r})")
    listen(server, IPV4)
    server("l.settimeout(None)")
    traffic.direct(IPV4, Toa(Where.BOTH))
    server("g = waiting('S', l.accept)")
    with ipvsca.loaded():
        client, _, shown = next_accepted(traffic, server)
        assert shown == client
        server("g = waiting('S', l.accept)")
    _, lip, shown = next_accepted(traffic, server)
    assert shown == lip


def next_accepted(traffic: Traffic, server: Puppet) -> tuple[Endpoint, Endpoint, Endpoint]:
    """A client, its LIP:lport, and whom the accept that waits shows."""
    with traffic.connect(Endpoint(IPV4.vip, SERVICE_PORT), IPV4.sources[0]) as connection:
        shown = Endpoint.of(*server("g.result()[1]"))
        return own_address(connection), traffic.director.connection(own_address(connection)).local, shown


@pytest.fixture
def _many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4 * MANY, max(4 * MANY, before[1])))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_many_files")
def test_unloaded_with_thousands_of_connections(traffic: Traffic, server: Puppet, ipvsca: Ipvsca) -> None:
    """Half of them close meanwhile; the others go on, and show LIP:lport. The kernel frees all that there was."""
    lab, to = traffic.lab, Endpoint(DUAL_V4.vip, SERVICE_PORT)
    server(f"exec({COLLECT!r})")
    listen(server, DUAL_V4)
    traffic.direct(DUAL_V4, Toa(Where.ACK))
    with ExitStack() as stack:
        with ipvsca.loaded():
            server("t = threading.Thread(target=collect); t.start()")
            clients = [stack.enter_context(traffic.connect(to, a.CLIENTS_V4[n % 16])) for n in range(MANY)]
            server("t.join()")
            loaded = KernelState.of(lab.server, lab.cgroup, lab.bpffs).objects
            assert peers(server) == {DUAL_V4.shown(own_address(client)) for client in clients}
            local = traffic.director.locals_towards(to)
            server(f"t = threading.Thread(target=close, args=(connections[{MANY // 2}:],)); t.start()")
        server("t.join()")
        server(f"del connections[{MANY // 2}:]")
        stay = clients[: MANY // 2]
        assert peers(server) == {DUAL_V4.shown(local[own_address(client)]) for client in stay}
        for client in stay:
            client.sendall(b"hello")
        server("echo()")
        assert {client.recv(99) for client in stay} == {b"hello"}
        are_freed(loaded)


def peers(server: Puppet) -> set[Endpoint]:
    return {Endpoint.of(*shown) for shown in server("peers()")}
