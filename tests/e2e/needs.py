"""What some tests need of the kernel they run on, as marks that skip them elsewhere."""

from __future__ import annotations

import errno
import socket

import pytest

from tests.kernel_state import KERNEL

READS_QUESTIONS, CHOOSES_ERRORS = KERNEL >= (5, 15), KERNEL >= (5, 18)
"""Whether this kernel's programs can read what a lookup asks, and choose the error of one that fails."""
of_questions = pytest.mark.skipif(not READS_QUESTIONS, reason="needs: Linux 5.15, whose programs read what is asked")
of_full_lookups = pytest.mark.skipif(not CHOOSES_ERRORS, reason="needs: Linux 5.18, whose programs choose the error")

TCP_AO_INFO = 40  # linux/tcp.h


def has_tcp_ao() -> bool:
    """Whether this kernel has TCP's authentication option (CONFIG_TCP_AO)."""
    with socket.socket() as sock:
        try:
            sock.getsockopt(socket.IPPROTO_TCP, TCP_AO_INFO, 64)
        except OSError as error:
            return error.errno != errno.ENOPROTOOPT
    return True


without_tcp_ao = pytest.mark.skipif(
    has_tcp_ao(), reason="needs: a kernel without TCP-AO, which drops options that are longer than the header"
)
