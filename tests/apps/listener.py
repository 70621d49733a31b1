"""Whether an address and port is taken, watched from outside its network namespace and without a packet to it."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from io import FileIO
from types import TracebackType

TABLES = {socket.SOCK_STREAM: ("tcp", "tcp6"), socket.SOCK_DGRAM: ("udp", "udp6")}
TCP_LISTEN = "0A"
CLOSE_S = 5.0
POLL_S = 0.002


def _as_in_proc(address: str, port: int) -> str:
    """The local_address column of the tables in /proc/net: words in the machine's byte order, in hexadecimal."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"


class Listener:
    """The listening TCP socket or the UDP sockets at an address. Once seen with `watch`, gone when the context is left.

    The end of a process does not prove that: the kernel closes what an io_uring accept holds some time later.
    """

    def __init__(self, address: str, port: int, transport: socket.SocketKind) -> None:
        self._transport = transport
        self._local = _as_in_proc(address, port)
        self._address = f"{address} port {port}"
        self._tables = contextlib.ExitStack()
        self._files: list[FileIO] = []

    def watch(self, pid: int) -> None:
        """Opens the tables of the process's namespace; once open they can be read even after its end."""
        for table in TABLES[self._transport]:
            with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
                self._files.append(self._tables.enter_context(FileIO(f"/proc/{pid}/net/{table}")))

    def is_open(self) -> bool:
        for file in self._files:
            file.seek(0)
            rows = [row.split() for row in file.readall().decode().splitlines()[1:]]
            states = [row[3] for row in rows if row[1] == self._local]
            if TCP_LISTEN in states or (states and self._transport is socket.SOCK_DGRAM):
                return True
        return False

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._tables:
            deadline = time.monotonic() + CLOSE_S
            while self.is_open():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self._address} is still taken")
                time.sleep(POLL_S)
