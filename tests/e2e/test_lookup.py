"""DPVS's lookup calls: whom they name, and how they fail."""

from __future__ import annotations

import ctypes
import errno
import itertools
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from ipvsca.address import Endpoint
from ipvsca.dataplane import DataPlane
from ipvsca.kernel import layout
from ipvsca.kernel.maps import ONLY
from tests.apps.dpvs_lookup import TCP_LOOKUP, UDP_LOOKUP, Lookup, SeenByLookup, ask_nat64, ask_uoa
from tests.apps.seen import v4_mapped
from tests.e2e.datagrams import ANY, BOUND, DUAL, IPV6_ON_DUAL, SERVER_PORT, SERVICE_PORT, Datagrams
from tests.e2e.datagrams import IPV6 as UDP_IPV6
from tests.e2e.getsockopt import (
    NAT64_PEER,
    NAT64_SIZE,
    UOA_LOOKUP,
    UOA_SIZE,
    Caller,
    calling,
    real,
    uoa,
)
from tests.e2e.needs import of_full_lookups
from tests.e2e.traffic import (
    DUAL_V4,
    IPV4,
    IPV6,
    NAT64,
    NAT64_ON_IPV4,
    Traffic,
    Way,
    own_address,
)
from tests.e2e.traffic import SERVER_PORT as TCP_SERVER_PORT
from tests.e2e.traffic import SERVICE_PORT as TCP_SERVICE_PORT
from tests.kernel_state import wait_until
from tests.lab import addresses as a
from tests.lab.messages import ALWAYS, Announce, Protocol, Service, Toa, Where
from tests.rig import REPOSITORY, Ipvsca

RIP, OTHER_RIP = a.RIPS_V4
LIP = a.LIPS_V4[0]
VIP_PORT = Endpoint(a.VIP_V4, SERVICE_PORT)
NOBODY = "10.80.0.99"
"""An address beside the real servers' that nobody has."""
STRANGER = Endpoint(a.LIPS_V4[1], 9)
"""A director's address and port that no flow has."""

LOOKUP32 = REPOSITORY / "tests/apps/lookup32.c"
Call32 = Callable[[Caller, str, int, bytes], tuple[int, int, bytes]]

_lports = itertools.count(9000)


@pytest.fixture(scope="module")
def loaded(ipvsca: Ipvsca) -> Iterator[Ipvsca]:
    with ipvsca.loaded(lookup_calls=True):
        yield ipvsca


def answered(client: Endpoint, **differs: Any) -> Lookup:
    return replace(Lookup(client, 0, UOA_SIZE), **differs)


def failed(error: int, length: int = UOA_SIZE) -> Lookup:
    return Lookup(None, error, length)


# A server that was written for DPVS: the usual way.


@of_full_lookups
@pytest.mark.parametrize("way", [BOUND, ANY, DUAL], ids=str)
def test_the_client_of_an_announced_flow(datagrams: Datagrams, loaded: Ipvsca, way: Way) -> None:
    """Asked with what recvfrom gave, the client itself, and with LIP:lport."""
    with datagrams.serving(UDP_LOOKUP, way):
        datagrams.direct(way, Announce())
        vip = Endpoint(way.vip, SERVICE_PORT)
        with (
            datagrams.socket(a.CLIENTS_V4[0], vip) as first,
            datagrams.socket(a.CLIENTS_V4[1], vip) as second,
            loaded.counted(getsockopt_answered=10, recvmsg_restored=4, recvmsg_ambiguous=0),
        ):
            for client, about in ((first, None), (second, None), (first, second), (second, first)):
                own = own_address(client)
                named = about and own_address(about)
                lip = named and datagrams.director.connection(named).local
                assert ask_uoa(client, lip) == SeenByLookup(
                    way.shown(own),
                    {"any": answered(own), "local": answered(own), "named": named and answered(named)},
                )


@of_full_lookups
@pytest.mark.parametrize("way", [BOUND, ANY, DUAL, UDP_IPV6, IPV6_ON_DUAL], ids=str)
def test_a_flow_of_which_nothing_is_known(datagrams: Datagrams, loaded: Ipvsca, way: Way) -> None:
    with datagrams.serving(UDP_LOOKUP, way):
        datagrams.direct(way)
        with (
            datagrams.socket(way.sources[0], Endpoint(way.vip, SERVICE_PORT)) as client,
            loaded.counted(getsockopt_unknown=3, getsockopt_answered=0),
        ):
            seen = ask_uoa(client, STRANGER)
            assert seen.sender == way.shown(datagrams.director.connection(own_address(client)).local)
            assert seen.lookups == dict.fromkeys(("any", "local", "named"), failed(errno.ENOENT))


def learn(loaded: Ipvsca, flow: tuple[Endpoint, Endpoint], client: Endpoint) -> None:
    """What any way of learning leaves in the table, for flows that the lab's director cannot announce."""
    director, server = flow
    now = time.monotonic_ns()
    lport, rport = socket.htons(director.port), socket.htons(server.port)
    lip, rip = layout.PackedAddress.of(director.address), layout.PackedAddress.of(server.address)
    learnt = layout.Learnt(
        identity=lip.word[3] << 32 | lport << 16 | rport,
        client=layout.Client(
            layout.PackedAddress.of(client.address), socket.htons(client.port), layout.LearntFrom.ANNOUNCEMENT
        ),
        rip=rip,
        used_ns=now,
    )
    learnt.client.learnt_ns = now
    with DataPlane(loaded.pin_path) as plane:
        key = layout.FlowKey(lip=lip, lport=lport, rport=rport, protocol=socket.IPPROTO_UDP)
        plane.table("flows").put(key, learnt)
        used = layout.Hints()
        ctypes.memset(ctypes.byref(used), 1, ctypes.sizeof(used))
        plane.table("hints").put(ONLY, used)


@of_full_lookups
@pytest.mark.parametrize(
    ("way", "client"),
    [
        (UDP_IPV6, Endpoint(a.CLIENTS_V6[5], 40001)),
        (IPV6_ON_DUAL, Endpoint(a.CLIENTS_V6[5], 40002)),
        (BOUND, Endpoint(a.CLIENTS_V6[5], 40003)),
        (ANY, Endpoint(a.CLIENTS_V6[5], 40004)),
        (DUAL, Endpoint(a.CLIENTS_V6[5], 40005)),
    ],
    ids=str,
)
def test_the_client_has_ipv6(datagrams: Datagrams, loaded: Ipvsca, way: Way, client: Endpoint) -> None:
    """Towards an IPv6 server, and NAT64, where an IPv4 socket cannot show it: the lookup call can."""
    with datagrams.serving(UDP_LOOKUP, way):
        datagrams.direct(way)
        with datagrams.socket(way.sources[0], Endpoint(way.vip, SERVICE_PORT)) as sender:
            ask_uoa(sender)
            before = loaded.counts()["getsockopt_answered"]
            lip = datagrams.director.connection(own_address(sender)).local
            learn(loaded, (lip, Endpoint(way.rip, SERVER_PORT)), client)
            if way is DUAL:  # its answer is lost: from such a socket it cannot go to an IPv4 LIP
                with loaded.counted(getsockopt_answered=3):
                    sender.send(f"{lip.address} {lip.port}".encode())
                    assert wait_until(lambda: loaded.counts()["getsockopt_answered"] - before == 3)
            else:
                shown = lip if way in (BOUND, ANY) else client
                assert ask_uoa(sender, lip) == SeenByLookup(
                    shown, dict.fromkeys(("any", "local", "named"), answered(client))
                )


# Single calls.


@contextmanager
def one_flow(datagrams: Datagrams, bound_to: str = "0.0.0.0") -> Iterator[tuple[Caller, Endpoint, Endpoint]]:
    """A server's socket `s` that has received from an announced client: calls on it, the client, LIP:lport."""
    datagrams.direct(ANY, Announce())
    with calling(datagrams.lab) as call, datagrams.socket(a.CLIENTS_V4[0], VIP_PORT) as client:
        call.run(f"s = socket(AF_INET, SOCK_DGRAM); s.bind(('{bound_to}', {SERVER_PORT}))")
        client.send(b"?")
        own = own_address(client)
        assert call.run("s.recvfrom(99)") == (b"?", (str(own.address), own.port))
        yield call, own, datagrams.director.connection(own).local


@of_full_lookups
@pytest.mark.parametrize("bound_to", ["0.0.0.0", str(RIP)])
def test_whom_a_lookup_names(datagrams: Datagrams, loaded: Ipvsca, bound_to: str) -> None:
    with one_flow(datagrams, bound_to) as (call, client, lip):
        for saddr in (lip, client, v4_mapped(lip), v4_mapped(client)):
            assert call.uoa("s", saddr, SERVER_PORT) == client
            daddr = str(RIP) if saddr.address.version == 4 else f"::ffff:{RIP}"
            assert call.uoa("s", saddr, SERVER_PORT, daddr) == client
            assert call.uoa("s", replace(saddr, port=STRANGER.port), SERVER_PORT) == errno.ENOENT
            assert call.uoa("s", saddr, SERVER_PORT + 1) == errno.ENOENT
            daddr = str(OTHER_RIP) if saddr.address.version == 4 else f"::ffff:{OTHER_RIP}"
            assert call.uoa("s", saddr, SERVER_PORT, daddr) == errno.ENOENT
        for family in (0, 1, 7, 0xFFFF):
            assert call.uoa("s", lip, SERVER_PORT, family=family) == errno.EINVAL


@of_full_lookups
def test_a_socket_that_is_there_to_ask_only(datagrams: Datagrams, loaded: Ipvsca) -> None:
    with one_flow(datagrams, str(RIP)) as (call, client, lip):
        call.run("t = socket(AF_INET, SOCK_DGRAM)")
        for daddr in ("", str(RIP)):
            assert call.uoa("t", lip, SERVER_PORT, daddr) == client
        assert call.uoa("t", client, SERVER_PORT, str(RIP)) == client
        assert call.uoa("t", lip, SERVER_PORT, str(OTHER_RIP)) == errno.ENOENT
        assert call.uoa("t", lip, SERVER_PORT + 1) == errno.ENOENT


@of_full_lookups
def test_nobody_asks_about_the_flows_of_another_port(datagrams: Datagrams, loaded: Ipvsca) -> None:
    with one_flow(datagrams) as (call, client, lip):
        call.run("t = socket(AF_INET, SOCK_DGRAM)")
        call.run(f"t.bind(('0.0.0.0', {SERVER_PORT + 1}))")
        for saddr in (lip, client):
            for port in (SERVER_PORT, SERVER_PORT + 1):
                assert call.uoa("t", saddr, port) == errno.ENOENT
        call.run("u = socket(AF_INET, SOCK_DGRAM); u.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)")
        call.run("s.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)")
        call.run(f"u.bind(('{OTHER_RIP}', {SERVER_PORT}))")
        for daddr in ("", str(RIP), str(OTHER_RIP)):
            assert call.uoa("u", lip, SERVER_PORT, daddr) == errno.ENOENT


@of_full_lookups
def test_buffers_of_any_size(datagrams: Datagrams, loaded: Ipvsca) -> None:
    with one_flow(datagrams) as (call, client, lip):
        asked = uoa(lip, SERVER_PORT)
        for size in (0, 1, 16, 32, 33, UOA_SIZE - 1):
            assert call("s", 0, UOA_LOOKUP, asked, size) == (errno.EINVAL, size, asked)
        for size in (UOA_SIZE, UOA_SIZE + 1, 4096, 4097, 65536):
            data = asked.ljust(size, b"\xaa")
            error, length, buffer = call("s", 0, UOA_LOOKUP, data)
            assert (error, length, real(buffer)) == (0, UOA_SIZE, client)
            assert buffer[UOA_SIZE:] == data[UOA_SIZE:]


@of_full_lookups
def test_a_buffer_that_is_not_there(datagrams: Datagrams, loaded: Ipvsca) -> None:
    with one_flow(datagrams) as (call, _, _), loaded.counted(getsockopt_unreadable=2):
        for address in (0, 8):
            source = (
                f"_libc.getsockopt(s.fileno(), 0, 2048, ctypes.c_void_p({address}), ctypes.byref(ctypes.c_int(58)))"
            )
            assert call.run(source) == -1
            assert call.run("ctypes.get_errno()") == errno.ENOPROTOOPT


@of_full_lookups
def test_a_flow_that_is_ambiguous(datagrams: Datagrams, loaded: Ipvsca) -> None:
    """One LIP:lport for two clients on two of our addresses: who says which is answered."""
    lport, other_port = next(_lports), SERVICE_PORT + 1
    servers = {SERVICE_PORT: RIP, other_port: OTHER_RIP}
    datagrams.director.forget_all()
    datagrams.director.serve(
        *(
            Service(
                Endpoint(a.VIP_V4, port),
                (Endpoint(rip, SERVER_PORT),),
                protocol=Protocol.UDP,
                announce=Announce(ALWAYS),
                local_addresses=(LIP,),
                local_ports=(lport, lport),
            )
            for port, rip in servers.items()
        )
    )
    lip = Endpoint(LIP, lport)
    with (
        calling(datagrams.lab) as call,
        datagrams.socket(a.CLIENTS_V4[0], VIP_PORT) as first,
        datagrams.socket(a.CLIENTS_V4[1], Endpoint(a.VIP_V4, other_port)) as second,
    ):
        call.run(f"s = socket(AF_INET, SOCK_DGRAM); s.bind(('0.0.0.0', {SERVER_PORT}))")
        for client in (first, second):
            client.send(b"?")
            call.run("s.recvfrom(99)")
        clients = {RIP: own_address(first), OTHER_RIP: own_address(second)}
        with loaded.counted(recvmsg_ambiguous=0, getsockopt_unknown=2, getsockopt_answered=2):
            for saddr in (lip, own_address(first)):
                assert call.uoa("s", saddr, SERVER_PORT) == errno.ENOENT
            for rip, client in clients.items():
                assert call.uoa("s", lip, SERVER_PORT, str(rip)) == client
        call.run("s.close()")
        for rip, client in clients.items():
            call.run(f"s = socket(AF_INET, SOCK_DGRAM); s.bind(('{rip}', {SERVER_PORT}))")
            assert call.uoa("s", lip, SERVER_PORT) == client
            call.run("s.close()")


@of_full_lookups
def test_a_flow_that_is_past_its_time(datagrams: Datagrams, loaded: Ipvsca) -> None:
    """However often it was asked about: a lookup is no use of a flow."""
    with loaded.having("udp_timeout", "1"), one_flow(datagrams) as (call, client, lip):
        assert wait_until(lambda: call.uoa("s", lip, SERVER_PORT) == errno.ENOENT)
        for saddr in (lip, client):
            assert call.uoa("s", saddr, SERVER_PORT) == errno.ENOENT


# NAT64.


def ask_about_nat64(traffic: Traffic, way: Way, toa: Toa) -> tuple[Endpoint, Endpoint, SeenByLookup]:
    """The client, LIP:lport, and what the server heard."""
    traffic.direct(way, toa)
    with (
        traffic.serving(TCP_LOOKUP, way),
        traffic.connect(Endpoint(way.vip, TCP_SERVICE_PORT), way.sources[0]) as client,
    ):
        own = own_address(client)
        return own, traffic.director.connection(own).local, ask_nat64(client)


@pytest.mark.parametrize("where", [Where.SYN, Where.ACK], ids=str)
@pytest.mark.parametrize("way", [NAT64_ON_IPV4, NAT64], ids=str)
def test_the_client_of_a_nat64_connection(traffic: Traffic, loaded: Ipvsca, way: Way, where: Where) -> None:
    with loaded.counted(getsockopt_answered=1):
        client, lip, seen = ask_about_nat64(traffic, way, Toa(where))
    shown = lip if way is NAT64_ON_IPV4 else client
    assert seen == SeenByLookup(shown, {"nat64": Lookup(client, 0, NAT64_SIZE)})


@of_full_lookups
@pytest.mark.parametrize("way", [IPV4, DUAL_V4, IPV6], ids=str)
def test_a_connection_that_is_not_nat64(traffic: Traffic, loaded: Ipvsca, way: Way) -> None:
    with loaded.counted(getsockopt_not_nat64=1):
        client, _, seen = ask_about_nat64(traffic, way, Toa())
    assert seen == SeenByLookup(way.shown(client), {"nat64": failed(errno.EFAULT, NAT64_SIZE)})


@of_full_lookups
@pytest.mark.parametrize("way", [IPV4, DUAL_V4, IPV6, NAT64_ON_IPV4], ids=str)
def test_a_connection_of_which_nothing_is_known(traffic: Traffic, loaded: Ipvsca, way: Way) -> None:
    with loaded.counted(getsockopt_unknown=1):
        _, lip, seen = ask_about_nat64(traffic, way, Toa(Where.NONE))
    assert seen == SeenByLookup(way.shown(lip), {"nat64": failed(errno.EINVAL, NAT64_SIZE)})


@of_full_lookups
def test_nat64_in_buffers_of_any_size(traffic: Traffic, loaded: Ipvsca) -> None:
    """The structure has 18 bytes; C makes them 20, and so does toa.ko."""
    traffic.direct(NAT64_ON_IPV4, Toa())
    with calling(traffic.lab) as call:
        call.run(f"l = create_server(('{RIP}', {TCP_SERVER_PORT}))")
        with traffic.connect(Endpoint(a.VIP_V6, TCP_SERVICE_PORT), a.CLIENTS_V6[0]) as client:
            own = own_address(client)
            told = own.address.packed + own.port.to_bytes(2)
            call.run("c = l.accept()[0]")
            for size in (0, 1, 4, 16, 17):
                data = b"\xaa" * size
                assert call("c", 0, NAT64_PEER, data) == (errno.EINVAL, size, data)
            for size in (18, 19):
                assert call("c", 0, NAT64_PEER, bytes(size)) == (0, 18, told.ljust(size, b"\0"))
            for size in (20, 21, 58, 4096, 4097, 65536):
                assert call("c", 0, NAT64_PEER, bytes(size)) == (0, 20, told.ljust(size, b"\0"))


@of_full_lookups
def test_nat64_on_a_socket_that_is_not_connected(traffic: Traffic, loaded: Ipvsca) -> None:
    traffic.direct(NAT64_ON_IPV4, Toa())
    data = b"\xaa" * NAT64_SIZE
    not_connected = (errno.ENOTCONN, NAT64_SIZE, data)
    with calling(traffic.lab) as call, loaded.counted(getsockopt_invalid=5, getsockopt_answered=1):
        for family in ("AF_INET", "AF_INET6"):
            call.run(f"n = socket({family}, SOCK_STREAM)")
            assert call("n", 0, NAT64_PEER, data) == not_connected
        call.run("n.close(); n = socket(AF_INET, SOCK_STREAM); n.setblocking(False)")
        assert call.run(f"n.connect_ex(('{NOBODY}', 9))") == errno.EINPROGRESS  # its SYN is not answered
        assert call("n", 0, NAT64_PEER, data) == not_connected
        call.run(f"l = create_server(('{RIP}', {TCP_SERVER_PORT}))")
        assert call("l", 0, NAT64_PEER, data) == not_connected
        with traffic.connect(Endpoint(a.VIP_V6, TCP_SERVICE_PORT), a.CLIENTS_V6[0]) as client:
            call.run("c = l.accept()[0]")
            client.shutdown(socket.SHUT_WR)
            assert call.run("c.recv(9)") == b""
            assert call("c", 0, NAT64_PEER, data)[:2] == (0, NAT64_SIZE)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # the client has reset the connection
        assert wait_until(lambda: bool(call.run("c.getsockopt(SOL_SOCKET, SO_ERROR)")))
        assert call("c", 0, NAT64_PEER, data) == not_connected


# A caller of 32 bits.


@pytest.fixture(scope="module")
def call32(tmp_path_factory: pytest.TempPathFactory) -> Call32:
    """getsockopt(IPPROTO_IP) by a 32-bit process on a puppet's socket, with a buffer of UOA_SIZE: as Caller has it."""
    program = tmp_path_factory.mktemp("lookup32") / "lookup32"
    flags = ["-m32", "-O1", "-ffreestanding", "-fno-stack-protector", "-nostdlib", "-static", "-no-pie", "-fno-pie"]
    try:
        subprocess.run(["gcc", *flags, "-o", program, LOOKUP32], check=True)
        subprocess.run([program], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs gcc, and a kernel that runs programs of 32 bits (x86-64 with CONFIG_IA32_EMULATION)")

    def ask(call: Caller, name: str, option: int, data: bytes) -> tuple[int, int, bytes]:
        call.run("import os, subprocess; q = os.pipe()")
        call.run(f"os.write(q[1], {struct.pack('=i58s', option, data)!r})")
        words = f"['sh', '-c', 'exec {program} 3<&' + str(q[0])]"
        said = call.run(f"subprocess.run({words}, stdin={name}, stdout=subprocess.PIPE, pass_fds=q[:1]).stdout")
        result, length, buffer = struct.unpack_from("=ii58s", said)
        return -result, length, buffer

    return ask


def test_of_32_bits(datagrams: Datagrams, traffic: Traffic, loaded: Ipvsca, call32: Call32) -> None:
    """The kernel asks no program about it, so that nothing is counted either; the same call of 64 bits is answered."""
    unanswered = errno.ENOPROTOOPT, UOA_SIZE
    with one_flow(datagrams) as (call, client, lip), loaded.counted(getsockopt_unreadable=0, getsockopt_answered=1):
        asked = uoa(lip, SERVER_PORT)
        assert call32(call, "s", UOA_LOOKUP, asked) == (*unanswered, asked)
        assert call.uoa("s", lip, SERVER_PORT) == client
    traffic.direct(NAT64_ON_IPV4, Toa())
    with calling(traffic.lab) as call, loaded.counted(getsockopt_answered=1):
        call.run(f"l = create_server(('{RIP}', {TCP_SERVER_PORT}))")
        with traffic.connect(Endpoint(a.VIP_V6, TCP_SERVICE_PORT), a.CLIENTS_V6[0]):
            call.run("c = l.accept()[0]")
            buffer = bytes(UOA_SIZE)
            assert call32(call, "c", NAT64_PEER, buffer) == (*unanswered, buffer)
            assert call("c", 0, NAT64_PEER, buffer)[:2] == (0, NAT64_SIZE)
