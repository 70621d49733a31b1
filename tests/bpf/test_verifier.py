"""How much work the programs are for the kernel's verifier, which gives up at a million instructions."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import pytest

from ipvsca.kernel.programs import PROGRAMS, Program

MOST = 200_000
"""A fifth of what is allowed: an older kernel finds fewer ways to be alike, and walks more of them."""

PROG_INFO_SIZE = 232
VERIFIED_INSNS = 216  # its offset in struct bpf_prog_info (linux/bpf.h)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_verification_stays_far_from_the_limit(programs: Mapping[Program, int], program: Program) -> None:
    info = (ctypes.c_uint8 * PROG_INFO_SIZE)()
    size = ctypes.c_uint32(PROG_INFO_SIZE)
    libbpf = ctypes.CDLL("libbpf.so.1")
    assert libbpf.bpf_obj_get_info_by_fd(programs[program], info, ctypes.byref(size)) == 0
    verified = ctypes.c_uint32.from_buffer(info, VERIFIED_INSNS).value
    if not verified:
        pytest.skip("needs: a kernel that tells how many instructions it has verified (verified_insns, Linux 5.16)")
    assert verified < MOST
