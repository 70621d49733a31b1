"""What a device of a namespace sends and receives, as a test can read it once the exchange is over."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from types import TracebackType

from tests.lab.namespace import Namespace

ETH_P_ALL = 0x0003
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
SO_RCVBUFFORCE = 33
SOL_PACKET, PACKET_STATISTICS = 263, 6
BUFFER = 64 << 20  # bytes
LONGEST_PACKET = 1 << 17


@dataclass(frozen=True)
class Captured:
    """An IP packet, from its IP header on. Only an incoming one has its checksums filled in for sure."""

    incoming: bool
    packet: bytes


class Capture:
    """Records IP packets from its making until its block ends; they can be read then and before.

    The kernel hands packets over as they pass. So what led to data that an application has read is there already.
    """

    def __init__(self, namespace: Namespace, device: str = "eth0") -> None:
        with namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self._socket.setblocking(False)
        self._socket.bind((device, ETH_P_ALL))
        self._captured: list[Captured] = []

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._socket:
            self._receive()

    def packets(self) -> list[Captured]:
        """All packets since the beginning. Raises OverflowError when the kernel dropped some for want of space."""
        if self._socket.fileno() >= 0:
            self._receive()
        return self._captured

    def incoming(self) -> list[bytes]:
        """The packets that came in since the beginning."""
        return [captured.packet for captured in self.packets() if captured.incoming]

    def _receive(self) -> None:
        while True:
            try:
                packet, (_, protocol, direction, *_) = self._socket.recvfrom(LONGEST_PACKET)
            except BlockingIOError:
                break
            if protocol in (ETH_P_IP, ETH_P_IPV6):
                self._captured.append(Captured(direction != socket.PACKET_OUTGOING, packet))
        self._refuse_drops()

    def _refuse_drops(self) -> None:
        statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        _, drops = struct.unpack("II", statistics)
        if drops:
            raise OverflowError(f"the capture lost {drops} packets")
