"""What made kernel modules with the same purpose crash servers, leak or refuse, done to connections that are restored.

What happens as programs go away is in test_unloaded_meanwhile.py, kernel TLS in tests/guests.
"""

from __future__ import annotations

from collections.abc import Iterator

import bcc
import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import IPv6ExtHdrDestOpt

from ipvsca.address import Endpoint
from ipvsca.kernel import bpf, compiler
from tests.e2e.puppet import Puppet, puppet
from tests.e2e.tcp_puppet import accepted, connection, listen, peer
from tests.e2e.traffic import DUAL_V4, IPV4, IPV6, NAT64, SERVICE_PORT, Traffic, Way, own_address
from tests.e2e.tun_device import LIPS, WAYS, shake_hands, tun
from tests.lab.messages import Toa, Where
from tests.lab.topology import Lab
from tests.rig import Ipvsca

STICKY = "setsockopt(IPPROTO_IPV6, IPV6_DSTOPTS, bytes([0, 0, 1, 4, 0, 0, 0, 0]))"
"""Destination options (a PadN) on every packet of a socket and of those that it accepts."""

ECHO = """
BPF_SOCKHASH(connections, u32, 1);

int echo(struct __sk_buff *skb)
{
	u32 only = 0;

	return connections.sk_redirect_hash(skb, &only, 0);
}
"""
SK_SKB, STREAM_VERDICT = 14, 5
"""BPF_PROG_TYPE_SK_SKB and BPF_SK_SKB_STREAM_VERDICT of linux/bpf.h."""


@pytest.fixture(scope="module", autouse=True)
def loaded(ipvsca: Ipvsca) -> Iterator[Ipvsca]:
    with ipvsca.loaded():
        yield ipvsca


@pytest.fixture
def server(lab: Lab) -> Iterator[Puppet]:
    with puppet(lab) as server:
        yield server


@pytest.fixture(scope="module")
def echoing(lab: Lab) -> Iterator[None]:
    """A sockmap, pinned for the puppet, whose verdict program sends what arrives back on the same connection."""
    pin = lab.bpffs / "connections"
    with compiler.compiled(ECHO, lab.bpffs, 1) as module:
        program = module.load_func(b"echo", SK_SKB)
        table = bcc.lib.bpf_table_fd(module.module, b"connections")  # bcc has no Python type for it
        bpf._checked(bpf._libbpf().bpf_prog_attach(program.fd, table, STREAM_VERDICT, 0))
        bpf.pin(table, pin)
        try:
            yield
        finally:
            pin.unlink()


@pytest.mark.parametrize("way", [IPV4, IPV6, DUAL_V4], ids=str)
@pytest.mark.usefixtures("echoing")
def test_a_connection_in_a_sockmap(traffic: Traffic, server: Puppet, way: Way) -> None:
    """Its data never reaches the application; its address does."""
    server("from pathlib import Path; from ipvsca.kernel import bpf")
    with connection(traffic, server, way) as client:
        server(f"m = bpf.get(Path('{traffic.lab.bpffs}/connections'))")
        server("bpf.update(m, bytes(4), c.fileno().to_bytes(4, 'little'))")
        for _ in range(3):
            client.sendall(b"hello")
            assert client.recv(99) == b"hello"
        assert peer(server) == way.shown(own_address(client))
        server("c.close()")
        assert client.recv(99) == b""


@pytest.mark.parametrize("way", [DUAL_V4, NAT64], ids=str)
def test_a_dual_stack_listener_with_ipv6_options(traffic: Traffic, server: Puppet, way: Way) -> None:
    """They mean nothing to IPv4, over which director and server speak here."""
    listen(server, way, STICKY)
    for where in (Where.SYN, Where.ACK):
        traffic.direct(way, Toa(where))
        with traffic.connect(Endpoint(way.vip, SERVICE_PORT), way.sources[0]) as client:
            assert accepted(server) == peer(server) == way.shown(own_address(client))


@pytest.mark.parametrize("where", [Where.SYN, Where.ACK], ids=str)
def test_an_ipv6_connection_with_ipv6_options(lab: Lab, server: Puppet, loaded: Ipvsca, where: Where) -> None:
    way, lip = WAYS["ipv6"], LIPS["ipv6"]
    client = Endpoint.of("2001:db8:c::77", 7777)
    told = (client, None) if where is Where.SYN else (None, client)
    with tun(lab, lip, way.rip) as device:
        loaded.run("load")  # the device has just come
        listen(server, way, STICKY)
        lport = shake_hands(device, lip, way.rip, *told)
        assert accepted(server) == peer(server) == way.shown(client)
        server("c.sendall(b'bye')")
        answer = device.receive(lport)
        while not bytes(answer[TCP].payload):
            answer = device.receive(lport)
        assert IPv6ExtHdrDestOpt in answer
