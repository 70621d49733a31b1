"""A TCP server on asyncio streams that answers each client with the address it was shown."""

from __future__ import annotations

import argparse
import asyncio
import socket
from typing import Any


def text(peer: tuple[Any, ...]) -> str:
    """A socket address of Python (IPv6 has two more fields) as `ADDRESS PORT`."""
    return f"{peer[0]} {peer[1]}"


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    accepted = writer.get_extra_info("peername")  # what accept returned
    named = writer.get_extra_info("socket").getpeername()
    if (await reader.readline()).endswith(b"\n"):
        writer.write(f"accept={text(accepted)} getpeername={text(named)}\n".encode())
    writer.close()


def listener(address: str, port: int, v6only: bool) -> socket.socket:
    """asyncio would make every IPv6 listener IPv6-only, so the socket is made here."""
    if ":" not in address:
        return socket.create_server((address, port))
    return socket.create_server((address, port), family=socket.AF_INET6, dualstack_ipv6=not v6only)


async def serve(listening: socket.socket) -> None:
    server = await asyncio.start_server(converse, sock=listening)
    print("ready", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--v6only", action="store_true")
    options = parser.parse_args()
    asyncio.run(serve(listener(options.address, options.port, options.v6only)))


if __name__ == "__main__":
    main()
