"""getsockopt called by a puppet with any buffer, and the structure of DPVS's UOA lookup."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from ipvsca.address import Endpoint
from tests.e2e.puppet import Puppet, puppet
from tests.lab.topology import Lab

UOA_LOOKUP, NAT64_PEER = 2048, 4096
UOA_SIZE, NAT64_SIZE = 58, 20
UOA = struct.Struct("=H16s16s2s2sH16s2s")  # families in host byte order
QUESTION_SIZE = 38
"""Of UOA, what is asked."""

RAW = """
import ctypes
_libc = ctypes.CDLL(None, use_errno=True)
def lookup(socket, level, option, data, length):
    buffer = ctypes.create_string_buffer(data, len(data) + 1)
    size = ctypes.c_int(length)
    result = _libc.getsockopt(socket.fileno(), level, option, buffer, ctypes.byref(size))
    return (ctypes.get_errno() if result else 0, size.value, buffer.raw[:len(data)])
"""


@dataclass(frozen=True)
class Caller:
    """Calls of getsockopt on sockets of a puppet: errno, length and buffer."""

    run: Puppet

    def __call__(self, name: str, level: int, option: int, data: bytes, length: int | None = None) -> Any:
        return self.run(f"lookup({name}, {level}, {option}, {data!r}, {len(data) if length is None else length})")

    def uoa(self, name: str, saddr: Endpoint, dport: int, daddr: str = "", family: int | None = None) -> Any:
        """Ask who is behind saddr: the client, or errno."""
        own = socket.AF_INET if saddr.address.version == 4 else socket.AF_INET6
        asked = uoa(saddr, dport, daddr, own if family is None else family)
        error, length, buffer = self(name, socket.IPPROTO_IP, UOA_LOOKUP, asked)
        assert length == UOA_SIZE
        if error:
            assert buffer == asked
            return error
        assert buffer[:QUESTION_SIZE] == asked[:QUESTION_SIZE]
        return real(buffer)


def uoa(saddr: Endpoint, dport: int, daddr: str = "", family: int = socket.AF_INET) -> bytes:
    """A question, with rubbish where the answer will stand."""
    source, destination = (
        ip_address(address).packed.ljust(16, b"\0") if address else bytes(16) for address in (saddr.address, daddr)
    )
    return UOA.pack(
        family, source, destination, saddr.port.to_bytes(2), dport.to_bytes(2), 0xAAAA, b"\xaa" * 16, b"\xaa" * 2
    )


def real(buffer: bytes) -> Endpoint:
    *_, family, address, port = UOA.unpack_from(buffer)
    length = 4 if family == socket.AF_INET else 16
    assert family in (socket.AF_INET, socket.AF_INET6)
    assert not any(address[length:])
    return Endpoint(ip_address(address[:length]), int.from_bytes(port))


@contextmanager
def calling(lab: Lab) -> Iterator[Caller]:
    with puppet(lab) as run:
        run(f"exec({RAW!r})")
        yield Caller(run)
