"""A UDP server on an asyncio DatagramProtocol that answers each datagram with the address it was shown, and to it."""

from __future__ import annotations

import argparse
import asyncio
import socket
from typing import Any, cast


class Answers(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)  # no subclass of it before Python 3.12

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.transport.sendto(f"from={addr[0]} {addr[1]} payload=".encode() + data, addr)


def bound(address: str, port: int, v6only: bool) -> socket.socket:
    """asyncio would make every IPv6 socket IPv6-only, so the socket is made here."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    sock.bind((address, port))
    sock.setblocking(False)
    return sock


async def serve(sock: socket.socket) -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(Answers, sock=sock)
    print("ready", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--v6only", action="store_true")
    options = parser.parse_args()
    asyncio.run(serve(bound(options.address, options.port, options.v6only)))


if __name__ == "__main__":
    main()
