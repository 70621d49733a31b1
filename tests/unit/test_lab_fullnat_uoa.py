"""How the director tells clients in UDP datagrams, without I/O: scapy's packets go in, scapy's are expected."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scapy.layers.inet import IP, UDP, IPOption
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from ipvsca.address import Endpoint
from ipvsca.wire.uoa import Told, parse_ipo, parse_opp, strip
from tests.lab import addresses as a
from tests.lab.fullnat import Fullnat
from tests.lab.messages import Announce, Protocol, Service, Settings, Uoa, UoaMode

CLIENT_V4, CLIENT_V6 = Endpoint(a.CLIENTS_V4[0], 0x9C40), Endpoint(a.CLIENTS_V6[0], 0x9C40)
VIP_V4, VIP_V6 = Endpoint(a.VIP_V4, 53), Endpoint(a.VIP_V6, 53)
LOCAL_V4, LOCAL_V6 = Endpoint(a.LIPS_V4[0], 7000), Endpoint(a.LIPS_V6[0], 7000)
REAL_V4, REAL_V6 = Endpoint(a.RIPS_V4[0], 5300), Endpoint(a.RIPS_V6[0], 5300)

# Client, VIP, LIP:lport, RIP:rport; and the option that tells the client.
Way = tuple[Endpoint, Endpoint, Endpoint, Endpoint, bytes]
OF_V4 = bytes.fromhex("9f089c40") + a.CLIENTS_V4[0].packed
OF_V6 = bytes.fromhex("9f149c40") + a.CLIENTS_V6[0].packed
V4: Way = (CLIENT_V4, VIP_V4, LOCAL_V4, REAL_V4, OF_V4)
V6: Way = (CLIENT_V6, VIP_V6, LOCAL_V6, REAL_V6, OF_V6)
NAT64: Way = (CLIENT_V6, VIP_V6, LOCAL_V4, REAL_V4, OF_V6)
NAT46: Way = (CLIENT_V4, VIP_V4, LOCAL_V6, REAL_V6, OF_V4)
OPP_HEADERS = {OF_V4: bytes.fromhex("1011000c"), OF_V6: bytes.fromhex("20110018")}

to_ipv4 = pytest.mark.parametrize("way", [V4, NAT64], ids=["v4", "nat64"])
every_way = pytest.mark.parametrize("way", [V4, V6, NAT64, NAT46], ids=["v4", "v6", "nat64", "nat46"])
every_payload = pytest.mark.parametrize("payload", [b"", b"odd", bytes(1400)], ids=len)


def director(way: Way, uoa: Uoa | None, announce: Announce | None = None) -> Fullnat:
    _, vip, local, real, _ = way
    service = Service(
        vip,
        (real,),
        local_addresses=(local.address,),
        local_ports=(local.port, local.port),
        protocol=Protocol.UDP,
        announce=announce,
        uoa=uoa,
    )
    return Fullnat(Settings((service,)), clock=lambda: 0.0)


def network(source: Endpoint, destination: Endpoint, **fields: object) -> Packet:
    if source.address.version == 6:
        return IPv6(src=str(source.address), dst=str(destination.address), **fields)
    return IP(src=str(source.address), dst=str(destination.address), **({"id": 0, "flags": "DF"} | fields))


def datagram(source: Endpoint, destination: Endpoint, payload: bytes, **fields: int) -> Packet:
    return UDP(sport=source.port, dport=destination.port, **fields) / Raw(payload)


def plain(source: Endpoint, destination: Endpoint, payload: bytes = b"odd", **fields: int) -> bytes:
    return bytes(network(source, destination) / datagram(source, destination, payload, **fields))


def ipo(way: Way, payload: bytes, **fields: int) -> bytes:
    """A datagram to the real server with the option, as scapy builds it."""
    _, _, local, real, option = way
    return bytes(network(local, real, options=[IPOption(option)]) / datagram(local, real, payload, **fields))


def opp(way: Way, payload: bytes) -> bytes:
    """The same with the header of its own. Over IPv4 there is no UDP checksum, over IPv6 that of the plain datagram."""
    _, _, local, real, option = way
    if local.address.version == 4:
        behind = bytes(datagram(local, real, payload, chksum=0))
        return bytes(network(local, real, proto=248) / Raw(OPP_HEADERS[option] + option + behind))
    behind = plain(local, real, payload)[40:]
    return bytes(network(local, real, nh=248) / Raw(OPP_HEADERS[option] + option + behind))


def told(way: Way) -> Told:
    client, _, local, real, _ = way
    return Told(local, real, client)


@to_ipv4
@every_payload
def test_ipo_is_an_option_of_the_ipv4_header(way: Way, payload: bytes) -> None:
    client, vip, *_ = way
    fullnat = director(way, Uoa(UoaMode.IPO))
    (sent,) = fullnat.handle(plain(client, vip, payload))
    assert sent == ipo(way, payload)
    assert parse_ipo(sent).told == told(way)


@every_way
@every_payload
def test_opp_is_a_header_between_ip_and_udp(way: Way, payload: bytes) -> None:
    client, vip, *_ = way
    fullnat = director(way, Uoa(UoaMode.OPP))
    (sent,) = fullnat.handle(plain(client, vip, payload))
    assert sent == opp(way, payload)
    assert parse_opp(sent).told == told(way)
    _, _, local, real, _ = way
    without_checksum = {"chksum": 0} if local.address.version == 4 else {}
    assert strip(sent) == plain(local, real, payload, **without_checksum)


@pytest.mark.parametrize("way", [V6, NAT46], ids=["v6", "nat46"])
def test_ipo_cannot_go_to_ipv6(way: Way) -> None:
    client, vip, local, real, _ = way
    fullnat = director(way, Uoa(UoaMode.IPO))
    assert fullnat.handle(plain(client, vip)) == [plain(local, real)]
    assert fullnat.counters == {"connections": 1, "to_server": 1, "uoa_impossible": 1}


@pytest.mark.parametrize("mode", UoaMode)
def test_the_first_datagrams_tell_and_no_answer_does(mode: UoaMode) -> None:
    client, vip, local, real, _ = V4
    fullnat = director(V4, Uoa(mode, datagrams=2))
    with_client = {UoaMode.IPO: ipo, UoaMode.OPP: opp}[mode](V4, b"odd")
    for expected in (with_client, with_client, plain(local, real)):
        assert fullnat.handle(plain(client, vip)) == [expected]
        assert fullnat.handle(plain(real, local)) == [plain(vip, client)]
    assert fullnat.counters == {"connections": 1, "to_server": 3, "to_client": 3, "uoa_told": 2}


@every_way
def test_a_carrier_goes_ahead(way: Way) -> None:
    client, vip, local, real, _ = way
    fullnat = director(way, Uoa(UoaMode.OPP, always_by_carrier=True, datagrams=1))
    assert fullnat.handle(plain(client, vip)) == [opp(way, b""), plain(local, real)]
    assert fullnat.handle(plain(client, vip)) == [plain(local, real)]
    assert fullnat.counters == {"connections": 1, "to_server": 2, "uoa_carriers": 1}


@to_ipv4
def test_a_carrier_of_ipo_has_no_udp_checksum(way: Way) -> None:
    client, vip, local, real, _ = way
    fullnat = director(way, Uoa(UoaMode.IPO, always_by_carrier=True))
    assert fullnat.handle(plain(client, vip)) == [ipo(way, b"", chksum=0), plain(local, real)]


@pytest.mark.parametrize(
    ("mode", "way", "room"),
    [
        (UoaMode.IPO, V4, 28 + 8),
        (UoaMode.IPO, NAT64, 28 + 20),
        (UoaMode.OPP, V4, 28 + 12),
        (UoaMode.OPP, NAT64, 28 + 24),
        (UoaMode.OPP, V6, 48 + 24),
        (UoaMode.OPP, NAT46, 48 + 12),
    ],
)
def test_what_has_no_room_gets_a_carrier(mode: UoaMode, way: Way, room: int) -> None:
    client, vip, local, real, _ = way
    fullnat = director(way, Uoa(mode, mtu=1000))
    largest = bytes(1000 - room)
    (sent,) = fullnat.handle(plain(client, vip, largest))
    assert len(sent) == 1000
    carrier, sent = fullnat.handle(plain(client, vip, largest + b"1"))
    assert (len(carrier), sent) == (room, plain(local, real, largest + b"1"))
    assert (fullnat.counters["uoa_told"], fullnat.counters["uoa_carriers"]) == (1, 1)


def test_a_packet_without_a_client_in_it_has_no_options() -> None:
    """A client's own are not carried, as before."""
    client, vip, local, real, _ = V4
    fullnat = director(V4, None)
    asked = network(client, vip, options=[IPOption(b"\x94\x04\x00\x00")]) / datagram(client, vip, b"odd")
    assert fullnat.handle(bytes(asked)) == [plain(local, real)]


def test_the_client_s_own_option_makes_place_for_the_director_s() -> None:
    client, vip, *_ = V4
    fullnat = director(V4, Uoa(UoaMode.IPO))
    planted = bytes.fromhex("9f08115c08080808")
    asked = network(client, vip, options=[IPOption(planted)]) / datagram(client, vip, b"odd")
    assert fullnat.handle(bytes(asked)) == [ipo(V4, b"odd")]


def test_an_announcement_can_go_ahead_as_well() -> None:
    client, vip, *_ = V4
    fullnat = director(V4, Uoa(UoaMode.OPP, datagrams=2), Announce())
    announced, sent = fullnat.handle(plain(client, vip))
    assert IP(announced).proto == 1
    assert sent == opp(V4, b"odd")
    assert fullnat.handle(plain(client, vip)) == [opp(V4, b"odd")]


def test_a_new_connection_is_told_anew() -> None:
    client, vip, *_ = V4
    fullnat = director(V4, Uoa(UoaMode.OPP, datagrams=1))
    fullnat.handle(plain(client, vip))
    fullnat.forget(client)
    other = replace(client, port=0x9C41)
    (sent,) = fullnat.handle(plain(other, vip))
    assert IP(sent).proto == 248
    assert bytes(IP(sent).payload)[4:8] == bytes.fromhex("9f089c41")
