"""The program behind DPVS's lookup calls: wanted or not, on kernels that can do less, and beside everything else."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ipvsca import loader, settings
from ipvsca.address import Endpoint
from ipvsca.kernel import bpf, compiler
from ipvsca.kernel.programs import LOOKUP, LOOKUP_VARIANTS, AttachType, LookupVariant
from tests.apps.dpvs_lookup import UDP_LOOKUP, Lookup, ask_uoa
from tests.e2e.datagrams import ANY, SERVER_PORT, SERVICE_PORT, Datagrams
from tests.e2e.getsockopt import (
    NAT64_PEER,
    NAT64_SIZE,
    QUESTION_SIZE,
    UOA_LOOKUP,
    UOA_SIZE,
    Caller,
    calling,
    real,
    uoa,
)
from tests.e2e.needs import CHOOSES_ERRORS, READS_QUESTIONS, of_full_lookups, of_questions
from tests.e2e.traffic import own_address
from tests.kernel_state import KernelState, settles
from tests.lab import addresses as a
from tests.lab.messages import Announce
from tests.lab.topology import Lab
from tests.rig import Ipvsca

Picture = Callable[[], KernelState]

VIP = Endpoint(a.VIP_V4, SERVICE_PORT)
STRANGER = Endpoint(a.LIPS_V4[1], 9)
"""A director's address and port that no flow has."""
NO_SUCH_OPTION = (errno.ENOPROTOOPT, UOA_SIZE)
NOT_CURRENT = "not those of this ipvsca and its configuration"
ALL, WITHOUT_ERRORS, WITHOUT_QUESTIONS = slice(None), slice(1, 2), slice(2, 3)
FULL, NO_ERRORS, LAST_DATAGRAM = LOOKUP_VARIANTS
BEST = FULL if CHOOSES_ERRORS else NO_ERRORS if READS_QUESTIONS else LAST_DATAGRAM
"""What this kernel accepts."""


@pytest.fixture
def picture(lab: Lab) -> Picture:
    return partial(KernelState.of, lab.server, lab.cgroup, lab.bpffs)


@contextmanager
def loaded_as(ipvsca: Ipvsca, variants: slice) -> Iterator[None]:
    """As on a kernel that accepts none but these of the variants."""
    ipvsca.configure(lookup_calls=True)
    with pytest.MonkeyPatch.context() as patch, ipvsca.namespace.entered():
        patch.setattr(compiler, "LOOKUP_VARIANTS", compiler.LOOKUP_VARIANTS[variants])
        loader.load(settings.read_file(ipvsca.config))
    try:
        yield
    finally:
        ipvsca.run("unload")
        ipvsca.configure()


@contextmanager
def received(datagrams: Datagrams) -> Iterator[tuple[Caller, bytes, socket.socket]]:
    """A server's socket `s` that has received from a client: calls on it, the question who that was, and the client."""
    datagrams.direct(ANY, Announce())
    with calling(datagrams.lab) as call, datagrams.socket(a.CLIENTS_V4[0], VIP) as client:
        call.run("s = socket(AF_INET, SOCK_DGRAM); s.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)")
        call.run(f"s.bind(('0.0.0.0', {SERVER_PORT}))")
        client.send(b"?")
        call.run("s.recvfrom(99)")
        yield call, uoa(datagrams.director.connection(own_address(client)).local, SERVER_PORT), client


def answer(call: Caller, question: bytes) -> Endpoint | tuple[int, int]:
    """The client; errno and length where there is none. What fails leaves the buffer alone."""
    error, length, buffer = call("s", socket.IPPROTO_IP, UOA_LOOKUP, question)
    if error:
        assert buffer == question
        return error, length
    assert length == UOA_SIZE
    return real(buffer)


def is_told(ipvsca: Ipvsca, variant: LookupVariant | None) -> bool:
    """Whether `check` says how lookup calls are answered: this way, or (None) not at all."""
    told = f"{LOOKUP.does} ({variant.lacks})\n" if variant and variant.lacks else f"{LOOKUP.does}\n"
    is_said = (told in ipvsca.run("check").stdout) == (variant is not None)
    return is_said and ipvsca.json("check")["lookup_variant"] == (variant and variant.name)


def is_there(ipvsca: Ipvsca) -> set[str]:
    """What is pinned of the program."""
    return {folder for folder in ("programs", "links") if (ipvsca.pin_path / folder / LOOKUP.name).exists()}


# Wanted or not.


def test_it_is_not_there_unless_wanted(datagrams: Datagrams, ipvsca: Ipvsca, picture: Picture) -> None:
    with ipvsca.loaded(), received(datagrams) as (call, question, _):
        assert is_there(ipvsca) == set()
        assert LOOKUP.attach not in dict(picture().cgroup)
        assert LOOKUP.name not in ipvsca.run("check").stdout
        assert answer(call, question) == NO_SUCH_OPTION
        assert call("s", socket.IPPROTO_IP, NAT64_PEER, bytes(NAT64_SIZE))[0] == errno.ENOPROTOOPT
        assert not any(count for name, count in ipvsca.counts().items() if name.startswith("getsockopt_"))


def test_it_comes_and_goes_with_its_setting(datagrams: Datagrams, ipvsca: Ipvsca, picture: Picture) -> None:
    """In the middle of traffic, which sees its client all the time; maps and other links stay."""
    datagrams.direct(ANY, Announce())
    with (
        ipvsca.loaded(),
        datagrams.serving(UDP_LOOKUP, ANY),
        continuous(datagrams) as senders,
        datagrams.socket(a.CLIENTS_V4[0], VIP) as client,
    ):
        before = picture()
        own = own_address(client)
        ipvsca.configure(lookup_calls=True)
        assert NOT_CURRENT in ipvsca.run("check", status=3).stdout
        assert f"{LOOKUP.name} on" in ipvsca.run("load").stdout
        assert is_there(ipvsca) == {"programs", "links"}
        assert is_told(ipvsca, BEST)
        assert ipvsca.run("load").stdout == "already loaded: nothing to do\n"
        assert ask_uoa(client).lookups["any"] == Lookup(own, 0, UOA_SIZE, kept=BEST is not LAST_DATAGRAM)
        ipvsca.configure(lookup_calls=False)
        assert NOT_CURRENT in ipvsca.run("check").stdout
        assert f"{LOOKUP.name} taken off" in ipvsca.run("load").stdout
        assert is_there(ipvsca) == set()
        assert is_told(ipvsca, None)
        assert ask_uoa(client).lookups["any"] == Lookup(None, *NO_SUCH_OPTION)
        after = picture()
        for kind in ("map", "link"):
            assert after.of_kind(kind) == before.of_kind(kind)
        assert len(after.of_kind("prog")) == len(before.of_kind("prog"))
        assert NOT_CURRENT not in ipvsca.run("check").stdout
    assert len(senders) == 1


@contextmanager
def continuous(datagrams: Datagrams) -> Iterator[set[Endpoint]]:
    """A client that asks all the time, and as whom it was seen."""
    enough = threading.Event()
    with datagrams.socket(a.CLIENTS_V4[1], VIP) as client, ThreadPoolExecutor(1) as pool:
        seen = {own_address(client)}

        def ask() -> None:
            while not enough.is_set():
                seen.add(ask_uoa(client).sender)

        asking = pool.submit(ask)
        try:
            yield seen
        finally:
            enough.set()
            asking.result()


class Broken(Exception):
    """What a test makes a step fail with."""


@pytest.mark.parametrize("is_wanted", [True, False], ids=["it was to come", "it was to go"])
def test_a_load_that_fails_changes_nothing(
    ipvsca: Ipvsca, picture: Picture, is_wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise Broken

    with ipvsca.loaded(lookup_calls=not is_wanted), ipvsca.namespace.entered():
        before = picture()
        ipvsca.configure(lookup_calls=is_wanted)
        with monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", fails)  # the last step writes it down
            with pytest.raises(Broken):
                loader.load(settings.read_file(ipvsca.config))
        settles(picture, before)
        ipvsca.configure(lookup_calls=not is_wanted)
        assert NOT_CURRENT not in ipvsca.run("check").stdout


# Kernels that can do less.


@of_questions
def test_without_the_choice_of_an_error(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    """Who is known is told; otherwise the kernel's own error stays."""
    with loaded_as(ipvsca, WITHOUT_ERRORS), received(datagrams) as (call, question, client):
        assert is_told(ipvsca, NO_ERRORS)
        assert answer(call, question) == own_address(client)
        assert answer(call, uoa(STRANGER, SERVER_PORT)) == NO_SUCH_OPTION
        assert answer(call, uoa(STRANGER, SERVER_PORT, family=7)) == NO_SUCH_OPTION
        assert call("s", socket.IPPROTO_IP, UOA_LOOKUP, question[:-1])[:2] == (errno.ENOPROTOOPT, UOA_SIZE - 1)


def test_without_the_question(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    """The answer is about the datagram that this socket received last, whatever is asked, and says which that was."""
    with loaded_as(ipvsca, WITHOUT_QUESTIONS), received(datagrams) as (call, question, first):
        assert is_told(ipvsca, LAST_DATAGRAM)
        call.run("t = socket(AF_INET, SOCK_DGRAM); t.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)")
        call.run(f"t.bind(('{a.RIPS_V4[1]}', {SERVER_PORT}))")
        with datagrams.socket(a.CLIENTS_V4[1], VIP) as second:
            for client in (first, second, first):
                client.send(b"?")
                call.run("s.recvfrom(99)")
                lip = datagrams.director.connection(own_address(client)).local
                for asked in (question, bytes(UOA_SIZE), b"\xff" * UOA_SIZE):
                    error, length, buffer = call("s", socket.IPPROTO_IP, UOA_LOOKUP, asked)
                    assert (error, length, real(buffer)) == (0, UOA_SIZE, own_address(client))
                    assert buffer[:QUESTION_SIZE] == uoa(lip, SERVER_PORT)[:QUESTION_SIZE]
                assert call("t", socket.IPPROTO_IP, UOA_LOOKUP, question) == (*NO_SUCH_OPTION, question)


def test_without_the_question_and_a_stranger_comes(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    """A datagram of which nothing is known takes the place of the one before it."""
    with loaded_as(ipvsca, WITHOUT_QUESTIONS), received(datagrams) as (call, question, client):
        assert answer(call, question) == own_address(client)
        call.run(f"o = socket(AF_INET, SOCK_DGRAM); o.sendto(b'?', ('{a.RIPS_V4[0]}', {SERVER_PORT}))")
        call.run("s.recvfrom(99)")
        assert answer(call, question) == NO_SUCH_OPTION


def test_without_the_question_each_thread_is_told_its_own(datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    """Who has not received the last datagram cannot mean it, and is told nothing."""
    with loaded_as(ipvsca, WITHOUT_QUESTIONS), received(datagrams) as (call, question, client):
        call.run("from concurrent.futures import ThreadPoolExecutor; pool = ThreadPoolExecutor(1)")
        in_thread = f"pool.submit(lookup, s, 0, {UOA_LOOKUP}, {question!r}, {UOA_SIZE}).result()"
        assert call.run(in_thread)[:2] == NO_SUCH_OPTION
        assert answer(call, question) == own_address(client)
        client.send(b"?")
        call.run("pool.submit(s.recvfrom, 99).result()")
        assert answer(call, question) == NO_SUCH_OPTION
        assert real(call.run(in_thread)[2]) == own_address(client)


@of_questions
def test_the_best_that_the_kernel_accepts_is_taken(
    datagrams: Datagrams, ipvsca: Ipvsca, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown_helper = "-Dbpf_set_retval=((long (*)(int))9999)"
    monkeypatch.setattr(compiler, "LOOKUP_VARIANTS", (replace(FULL, flags=(unknown_helper,)), NO_ERRORS, LAST_DATAGRAM))
    with loaded_as(ipvsca, ALL), received(datagrams) as (call, question, client):
        assert is_told(ipvsca, NO_ERRORS)
        assert answer(call, question) == own_address(client)
        assert answer(call, uoa(STRANGER, SERVER_PORT)) == NO_SUCH_OPTION


# Beside everything else.

OTHERS = """
int others_answer(struct bpf_sockopt *call)
{
	__u8 *value = call->optval;
	bool is_theirs = *(volatile __s32 *)&call->level == 0xdead || *(volatile __s32 *)&call->optlen == 99;

	if (is_theirs && (void *)(value + 1) <= call->optval_end) {
		*value = 42;
		*(volatile __s32 *)&call->optlen = 1;
		*(volatile __s32 *)&call->retval = 0;
	}
	return 1;
}

int others_refusal(struct bpf_sockopt *call)
{
	return !(*(volatile __s32 *)&call->level == 1 && *(volatile __s32 *)&call->optname == 3); /* SO_TYPE */
}
"""


@contextmanager
def others(lab: Lab, *cgroups: Path) -> Iterator[None]:
    """Programs of somebody else.

    One answers a level of its own, and whatever has room for 99 bytes; one forbids to ask for a socket's type.
    """
    with compiler.compiled(OTHERS, lab.bpffs, 1024) as module, ExitStack() as stack:
        for cgroup in cgroups:
            folder = os.open(cgroup, os.O_RDONLY)
            stack.callback(os.close, folder)
            for name in ("others_answer", "others_refusal"):
                program = compiler.load(module, replace(LOOKUP, name=name))
                stack.callback(os.close, bpf.link_create(program, folder, AttachType.CGROUP_GETSOCKOPT))
        yield


def test_programs_of_others(lab: Lab, datagrams: Datagrams, ipvsca: Ipvsca) -> None:
    """On the same cgroup, before and behind ours, and on the one above."""
    with (
        others(lab, lab.cgroup, lab.cgroup.parent),
        ipvsca.loaded(lookup_calls=True),
        others(lab, lab.cgroup),
        received(datagrams) as (call, question, client),
    ):
        for size in (1, 58, 65536):
            data = b"\xaa" * size
            assert call("s", 0xDEAD, 1, data) == (0, 1, b"\x2a" + data[1:])
        assert call("s", socket.IPPROTO_IP, UOA_LOOKUP, question.ljust(99))[:2] == (0, 1)
        assert call("s", socket.SOL_SOCKET, socket.SO_TYPE, bytes(4))[0] == errno.EPERM
        assert call("s", socket.SOL_SOCKET, socket.SO_ERROR, b"\xaa" * 4) == (0, 4, bytes(4))
        assert answer(call, question) == own_address(client)


DECIDES = """
int decides(struct bpf_sockopt *call)
{
	if (*(volatile __s32 *)&call->level == 0 && *(volatile __s32 *)&call->optname == 2048)
		bpf_set_retval(-ERROR);
	return 1;
}
"""


@of_full_lookups
@pytest.mark.parametrize("error", [errno.ENOENT, errno.EACCES])
def test_what_others_do_not_know_is_answered_and_what_they_forbid_is_not(
    lab: Lab, datagrams: Datagrams, ipvsca: Ipvsca, error: int
) -> None:
    """ENOENT is what uoa.ko says of a flow that it does not know; here a program says it, ahead of ours."""
    with compiler.compiled(DECIDES, lab.bpffs, 1024, (f"-DERROR={error}",)) as module, ExitStack() as stack:
        folder = os.open(lab.cgroup, os.O_RDONLY)
        stack.callback(os.close, folder)
        theirs = compiler.load(module, replace(LOOKUP, name="decides"))
        stack.callback(os.close, bpf.link_create(theirs, folder, AttachType.CGROUP_GETSOCKOPT))
        with ipvsca.loaded(lookup_calls=True), received(datagrams) as (call, question, client):
            expected = own_address(client) if error == errno.ENOENT else (error, UOA_SIZE)
            assert answer(call, question) == expected
            assert answer(call, uoa(STRANGER, SERVER_PORT)) == (error, UOA_SIZE)


MATRIX = """
import zlib
def matrix(sockets, options, sizes):
    found = []
    for socket in sockets:
        for level, option in options:
            for size in sizes:
                data = b"\\xaa" * max(size, 0)
                error, length, buffer = lookup(socket, level, option, data, size)
                if (level, option) == (IPPROTO_TCP, TCP_INFO):
                    buffer = buffer[:44] + buffer[60:]  # how long ago something was sent and received
                found.append((error, length, zlib.crc32(buffer)))
    return tuple(found)
def null(socket, level, option, buffer, size):
    pointer = ctypes.byref(ctypes.c_int(size)) if size is not None else None
    return (_libc.getsockopt(socket.fileno(), level, option, buffer, pointer), ctypes.get_errno())
"""
SOCKETS = {
    "tcp": "socket(AF_INET, SOCK_STREAM)",
    "listening": "create_server(('127.0.0.1', 0))",
    "tcp6": "socket(AF_INET6, SOCK_STREAM)",
    "udp": "socket(AF_INET, SOCK_DGRAM)",
    "udp6": "socket(AF_INET6, SOCK_DGRAM)",
    "raw": "socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)",
    "unix": "socketpair()[0]",
    "netlink": "socket(AF_NETLINK, SOCK_RAW, 0)",
    "raw_tcp": "socket(AF_INET, SOCK_RAW, IPPROTO_TCP)",
    "raw_udp": "socket(AF_INET6, SOCK_RAW, IPPROTO_UDP)",
    "netlink_tcp": "socket(AF_NETLINK, SOCK_DGRAM, IPPROTO_TCP)",
}
IPPROTO_UDPLITE, SO_PEERCRED, TCP_CONGESTION, IP_MSFILTER, UDP_CORK = 136, 17, 13, 41, 1
OPTIONS = (
    *((socket.SOL_SOCKET, option) for option in (socket.SO_ERROR, socket.SO_TYPE, SO_PEERCRED, UOA_LOOKUP, NAT64_PEER)),
    *((socket.IPPROTO_IP, option) for option in (socket.IP_TOS, socket.IP_TTL, IP_MSFILTER, socket.IP_OPTIONS)),
    *((socket.IPPROTO_IP, around + by) for around in (UOA_LOOKUP, NAT64_PEER) for by in (-1, 1)),
    *((level, option) for level in (socket.IPPROTO_IPV6, socket.IPPROTO_UDP) for option in (UOA_LOOKUP, NAT64_PEER)),
    *((socket.IPPROTO_TCP, option) for option in (socket.TCP_NODELAY, socket.TCP_INFO, TCP_CONGESTION, NAT64_PEER)),
    (socket.IPPROTO_UDP, UDP_CORK),
    (0x7FFFFFFF, UOA_LOOKUP),
    (-1, -1),
)
SIZES = (0, 1, 2, 4, 8, 16, 31, 32, 33, 57, 58, 256, 4095, 4096, 4097, 65536)


def every_call(call: Caller) -> dict[str, Any]:
    """What other options give on each kind of socket, and ours on sockets of another kind."""
    found = {}
    for name, make in SOCKETS.items():
        call.run(f"{name} = {make}")
        theirs = [(0, option) for option, of in ((UOA_LOOKUP, "udp"), (NAT64_PEER, "tcp")) if not name.startswith(of)]
        if name == "listening":
            theirs = [(0, UOA_LOOKUP)]
        found[name] = call.run(f"matrix([{name}], {(*OPTIONS, *theirs)}, {SIZES})")
        found[f"{name}, NULL"] = tuple(
            call.run(f"null({name}, {level}, {option}, {buffer}, {size})")
            for level, option in (*OPTIONS, *theirs)
            for buffer, size in ((None, 4), (None, 0), (None, 65536), (8, 4), ("b'1234'", None))
        )
    return found


@pytest.mark.parametrize("variant", [pytest.param(0, marks=of_full_lookups), pytest.param(1, marks=of_questions), 2])
def test_other_options_are_as_without_it(lab: Lab, ipvsca: Ipvsca, variant: int) -> None:
    """Value, length and errno, also of buffers longer than a page (of which a program sees the first page only)."""
    with calling(lab) as call:
        call.run(f"exec({MATRIX!r})")
        without = every_call(call)
        with loaded_as(ipvsca, slice(variant, variant + 1)):
            with_ = every_call(call)
    for name in without:
        assert with_[name] == without[name], name
