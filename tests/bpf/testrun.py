"""BPF_PROG_TEST_RUN: what a tc program makes of one packet, without any interface.

The kernel calls the program as tc ingress would, on a packet whose data all lies in the linear part of the skb.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from collections.abc import Iterable
from typing import NamedTuple

LONGEST = 3072

TC_ACT_UNSPEC = -1


class _Options(ctypes.Structure):
    """struct bpf_test_run_opts of libbpf's bpf.h."""

    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_int32),  # the kernel's is unsigned; a tc program's return value is not
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    ]


def shortest(ethertype: bytes) -> int:
    """The shortest packet of this type that test runs take: what the kernel itself reads (6.18; older ones: less)."""
    return 14 + {b"\x08\x00": 20, b"\x86\xdd": 40}.get(ethertype, 0)


class Ran(NamedTuple):
    """What the program returned, and the packet as it left it."""

    verdict: int
    packet: bytes


class TestRun:
    """Runs one loaded program (its descriptor) on packets, one at a time, in buffers that are made once."""

    __test__ = False  # nothing for pytest to collect

    def __init__(self, program: int) -> None:
        self._program = program
        self._in = ctypes.create_string_buffer(LONGEST)
        self._out = ctypes.create_string_buffer(LONGEST)
        self._options = _Options(
            sz=ctypes.sizeof(_Options), data_in=ctypes.addressof(self._in), data_out=ctypes.addressof(self._out)
        )
        self._run = ctypes.CDLL("libbpf.so.1").bpf_prog_test_run_opts
        self._arguments = ctypes.c_int(program), ctypes.byref(self._options)

    def __call__(self, packet: bytes) -> Ran:
        """Raises OSError where the kernel refuses to run the program on this packet."""
        options = self._options
        self._in.raw = packet
        options.data_size_in = len(packet)
        options.data_size_out = LONGEST
        if (result := self._run(*self._arguments)) < 0:
            raise OSError(-result, f"{os.strerror(-result)}: {packet.hex()}")
        return Ran(options.retval, ctypes.string_at(self._out, options.data_size_out))


def run_at_once(program: int, pairs: Iterable[tuple[bytes, bytes]], timeout_s: float = 30.0) -> None:
    """Run a program on both packets of each pair at the same moment, where there are two CPUs. Raises TimeoutError."""
    until = time.monotonic() + timeout_s
    with mmap.mmap(-1, 16) as shared:
        turns = (ctypes.c_uint64 * 2).from_buffer(shared)
        child = os.fork()
        own, other = (0, 1) if child else (1, 0)
        try:
            run = TestRun(program)
            for turn, pair in enumerate(pairs, start=1):
                turns[own] = turn
                while turns[other] < turn:  # without a rest, after which the other one would be done
                    if time.monotonic() > until:
                        raise TimeoutError(f"the other process has not come to turn {turn}")
                run(pair[own])
        finally:
            if not child:
                os._exit(0)
            os.waitpid(child, 0)
            del turns
