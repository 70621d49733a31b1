"""Kernel TLS on a restored connection. With toa.ko the kernel follows the client's address as a pointer, and oopses."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.e2e.puppet import puppet
from tests.e2e.tcp_puppet import connection, peer
from tests.e2e.traffic import DUAL_V4, IPV4, IPV6, NAT64, Traffic, Way, own_address
from tests.rig import Ipvsca

TLS = """
import socket as sockets, struct
def encrypt(connection):
    # Both ways with one key: TLS 1.2, AES-GCM-128 (struct tls12_crypto_info_aes_gcm_128 of linux/tls.h).
    connection.setsockopt(sockets.IPPROTO_TCP, 31, b"tls")
    keys = struct.pack("HH8s16s4s8s", 0x0303, 51, bytes(8), bytes(range(16)), bytes(4), bytes(8))
    for way in (1, 2):
        connection.setsockopt(282, way, keys)
"""


def encrypt(connection: socket.socket) -> None:
    names: dict[str, object] = {}
    exec(TLS, names)
    names["encrypt"](connection)  # type: ignore[operator]


@pytest.fixture(scope="module", autouse=True)
def _loaded(ipvsca: Ipvsca) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        try:
            encrypt(client)
        except OSError as error:
            pytest.skip(f"needs: kernel TLS (CONFIG_TLS); the kernel says {error.strerror}")
    with ipvsca.loaded():
        yield


@pytest.mark.parametrize("way", [IPV4, IPV6, DUAL_V4, NAT64], ids=str)
def test_a_restored_connection(traffic: Traffic, way: Way) -> None:
    with puppet(traffic.lab) as server:
        server(f"exec({TLS!r})")
        with connection(traffic, server, way) as client:
            server("encrypt(c)")
            encrypt(client)
            for _ in range(3):
                client.sendall(b"question")
                assert server("c.recv(99)") == b"question"
                server("c.sendall(b'answer')")
                assert client.recv(99) == b"answer"
                assert peer(server) == way.shown(own_address(client))


def test_what_is_sent_is_not_in_the_clear(traffic: Traffic) -> None:
    with puppet(traffic.lab) as server:
        server(f"exec({TLS!r})")
        with connection(traffic, server, IPV4) as client:
            server("encrypt(c)")
            server("c.sendall(b'answer')")
            kind, version, length = 23, b"\x03\x03", 8 + len(b"answer") + 16
            record = client.recv(99)
            assert record[:5] == bytes([kind]) + version + length.to_bytes(2)
            assert b"answer" not in record
