"""A UDP server on Python's socket module that answers each datagram with the address it was shown, and to it."""

from __future__ import annotations

import argparse
import socket


def bound(address: str, port: int, v6only: bool) -> socket.socket:
    """IPv6 is dual-stack unless `v6only`."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    sock.bind((address, port))
    return sock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--v6only", action="store_true")
    options = parser.parse_args()
    with bound(options.address, options.port, options.v6only) as sock:
        print("ready", flush=True)
        while True:
            payload, sender = sock.recvfrom(2048)
            sock.sendto(f"from={sender[0]} {sender[1]} payload=".encode() + payload, sender)


if __name__ == "__main__":
    main()
