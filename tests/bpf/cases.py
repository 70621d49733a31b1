"""Packets and what the tc programs are to make of them, case by case."""

from __future__ import annotations

from dataclasses import dataclass

from scapy.layers.inet import ICMP, UDP
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q
from scapy.packet import Packet, Padding, Raw

from ipvsca.wire import toa
from tests.bpf.ingress import Handshake, Outcome
from tests.bpf.packets import (
    CLIENT_V4,
    CLIENT_V6,
    DIRECTOR_V4,
    DIRECTOR_V6,
    FRAME,
    ISN,
    OPTION_V4,
    OPTION_V6,
    SERVER_V4,
    SERVER_V6,
    SYN_OPTIONS,
    V4,
    V6,
    syn_v4,
    syn_v6,
)

NOTHING = Outcome()
LEARNT_V4 = Outcome({Handshake(DIRECTOR_V4, SERVER_V4, ISN): CLIENT_V4}, {"syn_learnt": 1})
LEARNT_V6 = Outcome({Handshake(DIRECTOR_V6, SERVER_V6, ISN): CLIENT_V6}, {"syn_learnt": 1})
LEARNT_V4_AT_V6 = Outcome({Handshake(DIRECTOR_V6, SERVER_V6, ISN): CLIENT_V4}, {"syn_learnt": 1})
LEARNT_V6_AT_V4 = Outcome({Handshake(DIRECTOR_V4, SERVER_V4, ISN): CLIENT_V6}, {"syn_learnt": 1})


def refused(why: str) -> Outcome:
    return Outcome({}, {f"refused_syn_{why}": 1})


@dataclass(frozen=True)
class Case:
    sentence: str
    packet: Packet
    outcome: Outcome


def at(packet: Packet, **fields: object) -> Packet:
    """The packet with other fields."""
    changed = packet.copy()
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


STRANGER_V4, STRANGER_V6 = at(V4, src="203.0.113.66"), at(V6, src="2001:db8:66::1")
HOP_BY_HOP, ROUTING, DESTINATION = IPv6ExtHdrHopByHop(), IPv6ExtHdrRouting(), IPv6ExtHdrDestOpt()
LONG_DESTINATION = IPv6ExtHdrDestOpt(len=255, nh=6) / Raw(bytes(2040))
ATOMIC, FIRST_FRAGMENT, LAST_FRAGMENT = IPv6ExtHdrFragment(), IPv6ExtHdrFragment(m=1), IPv6ExtHdrFragment(offset=1)
WRONG_LENGTH = bytes.fromhex("fe04 f989")
IMPOSSIBLE = bytes.fromhex("fe08 04d2 7f000001")

LEARNT = [
    Case("IPv4", FRAME / V4 / syn_v4(), LEARNT_V4),
    Case("IPv6", FRAME / V6 / syn_v6(), LEARNT_V6),
    Case("an IPv6 client in front of an IPv4 server", FRAME / V4 / syn_v4(OPTION_V6), LEARNT_V6_AT_V4),
    Case("an IPv4 client in front of an IPv6 server", FRAME / V6 / syn_v6(OPTION_V4), LEARNT_V4_AT_V6),
    Case("before a SYN's other options", FRAME / V4 / syn_v4(OPTION_V4 + SYN_OPTIONS), LEARNT_V4),
    Case("behind a SYN's other options", FRAME / V6 / syn_v6(SYN_OPTIONS + OPTION_V4), LEARNT_V4_AT_V6),
    Case("kind 200", FRAME / V4 / syn_v4(toa.build(CLIENT_V4, toa.KIND_LVS)), LEARNT_V4),
    Case("SYN with data", FRAME / V4 / syn_v4(payload=b"data of fast open"), LEARNT_V4),
    Case("SYN that offers ECN", FRAME / V4 / syn_v4(flags="SEC"), LEARNT_V4),
    Case("SYN with PSH and URG", FRAME / V6 / syn_v6(flags="SPU"), LEARNT_V6),
    Case("SYN with reserved bits set", FRAME / V4 / syn_v4(reserved=7, flags="SN"), LEARNT_V4),
    Case("IPv4 header with options", FRAME / at(V4, options=[b"\x94\x04\x00\x00"]) / syn_v4(), LEARNT_V4),
    Case("IPv4 header with 40 bytes of options", FRAME / at(V4, options=[b"\x01" * 40]) / syn_v4(), LEARNT_V4),
    Case("IPv4 that must not be fragmented", FRAME / at(V4, flags="DF") / syn_v4(), LEARNT_V4),
    Case("IPv4 with its reserved flag", FRAME / at(V4, flags="evil") / syn_v4(), LEARNT_V4),
    Case("behind hop-by-hop options", FRAME / V6 / HOP_BY_HOP / syn_v6(), LEARNT_V6),
    Case("behind a routing header", FRAME / V6 / ROUTING / syn_v6(), LEARNT_V6),
    Case("behind destination options", FRAME / V6 / DESTINATION / syn_v6(), LEARNT_V6),
    Case("behind 2048 bytes of destination options", FRAME / V6 / LONG_DESTINATION / syn_v6(), LEARNT_V6),
    Case("in an atomic fragment", FRAME / V6 / ATOMIC / syn_v6(), LEARNT_V6),
    Case("in one with reserved bits set", FRAME / V6 / at(ATOMIC, res1=0xFF, res2=3) / syn_v6(), LEARNT_V6),
    Case(
        "behind four extension headers", FRAME / V6 / HOP_BY_HOP / DESTINATION / ROUTING / ATOMIC / syn_v6(), LEARNT_V6
    ),
    Case("one VLAN tag", FRAME / Dot1Q(vlan=7) / V4 / syn_v4(), LEARNT_V4),
    Case("one VLAN tag, IPv6", FRAME / Dot1Q(vlan=4094, prio=7) / V6 / syn_v6(), LEARNT_V6),
    Case("two VLAN tags", FRAME / Dot1Q(vlan=7) / Dot1Q(vlan=8) / V4 / syn_v4(), LEARNT_V4),
    Case("a VLAN tag inside a provider's", FRAME / Dot1AD(vlan=7) / Dot1Q(vlan=8) / V6 / syn_v6(), LEARNT_V6),
    Case("Ethernet's padding behind the packet", FRAME / V4 / syn_v4() / Padding(bytes(100)), LEARNT_V4),
]

IGNORED = [
    Case("SYN without options", FRAME / V4 / syn_v4(b""), NOTHING),
    Case("SYN without options, with an option as data", FRAME / V4 / syn_v4(b"", OPTION_V4), NOTHING),
    Case("SYN with other options only", FRAME / V6 / syn_v6(SYN_OPTIONS), NOTHING),
    Case("SYN with other options only, from a stranger", FRAME / STRANGER_V4 / syn_v4(SYN_OPTIONS), NOTHING),
    Case("SYN with other options only, and an option as data", FRAME / V6 / syn_v6(SYN_OPTIONS, OPTION_V4), NOTHING),
    *(
        Case(f"{flags or 'no flags'}, not a SYN", FRAME / V4 / syn_v4(flags=flags), NOTHING)
        for flags in ("", "SA", "A", "PA", "FA", "R", "RA", "SR", "SF", "SFA")
    ),
    Case("ACK with malformed options", FRAME / V4 / syn_v4(b"\xfe\x00\x00\x00", flags="A"), NOTHING),
    Case("UDP", FRAME / V4 / UDP(sport=40001, dport=8001) / Raw(bytes(syn_v4())), NOTHING),
    Case("UDP in a fragment", FRAME / at(V4, flags="MF") / UDP() / Raw(bytes(64)), NOTHING),
    Case("UDP in an IPv6 fragment", FRAME / V6 / at(FIRST_FRAGMENT, nh=17) / Raw(bytes(64)), NOTHING),
    Case("ICMP", FRAME / V4 / ICMP() / Raw(bytes(V4 / syn_v4())), NOTHING),
    Case("a SYN inside IP inside IP", FRAME / V4 / V4 / syn_v4(), NOTHING),
    Case("ARP", FRAME / ARP(psrc="10.90.0.2") / Raw(bytes(64)), NOTHING),
    Case("another Ethernet type", at(FRAME, type=0x88CC) / Raw(bytes(V4 / syn_v4())), NOTHING),
    Case("a length in place of Ethernet's type", at(FRAME, type=64) / Raw(bytes(V4 / syn_v4())), NOTHING),
    Case("three VLAN tags", FRAME / Dot1Q() / Dot1Q() / Dot1Q() / V4 / syn_v4(), NOTHING),
    Case("behind five", FRAME / V6 / HOP_BY_HOP / ATOMIC / ATOMIC / ROUTING / DESTINATION / syn_v6(), NOTHING),
    Case("an extension header that is not skipped", FRAME / V6 / AH(spi=1, seq=1, icv=bytes(12)) / syn_v6(), NOTHING),
    Case("nothing behind the IPv6 header", FRAME / at(V6, nh=59) / Raw(bytes(syn_v6())), NOTHING),
    Case("nothing behind an extension header", FRAME / V6 / at(HOP_BY_HOP, nh=59) / Raw(bytes(syn_v6())), NOTHING),
]

REFUSED = [
    Case("a stranger", FRAME / STRANGER_V4 / syn_v4(), refused("untrusted")),
    Case("a stranger, IPv6", FRAME / STRANGER_V6 / syn_v6(), refused("untrusted")),
    Case("first fragment", FRAME / at(V4, flags="MF") / syn_v4(), refused("fragment")),
    Case("fragment in the middle", FRAME / at(V4, flags="MF", frag=1) / syn_v4(), refused("fragment")),
    Case("last fragment", FRAME / at(V4, frag=1) / syn_v4(), refused("fragment")),
    Case("fragment far behind", FRAME / at(V4, frag=0x1000) / syn_v4(), refused("fragment")),
    Case("first IPv6 fragment", FRAME / V6 / FIRST_FRAGMENT / syn_v6(), refused("fragment")),
    Case("last IPv6 fragment", FRAME / V6 / LAST_FRAGMENT / syn_v6(), refused("fragment")),
    Case("IPv6 fragment far behind", FRAME / V6 / at(LAST_FRAGMENT, offset=0x1000) / syn_v6(), refused("fragment")),
    Case("destination options, fragment", FRAME / V6 / DESTINATION / FIRST_FRAGMENT / syn_v6(), refused("fragment")),
    Case("a header that claims to have no words", FRAME / V4 / syn_v4(dataofs=0), refused("malformed")),
    Case("a header that claims 4 words", FRAME / V6 / syn_v6(dataofs=4), refused("malformed")),
    Case("a header that claims to be longer than the packet", FRAME / V4 / syn_v4(dataofs=8), refused("malformed")),
    Case("an option of length 0", FRAME / V4 / syn_v4(b"\xfe\x00\x00\x00"), refused("malformed")),
    Case("an option cut by the header's end", FRAME / V6 / syn_v6(OPTION_V4[:4], OPTION_V4[4:]), refused("malformed")),
    Case("IPv4 of length 0", FRAME / at(V4, len=0) / syn_v4(), refused("malformed")),
    Case("IPv6 of length 0, as in a jumbogram", FRAME / at(V6, plen=0) / syn_v6(), refused("malformed")),
    Case("an option in Ethernet's padding", FRAME / at(V4, len=40) / syn_v4(), refused("malformed")),
    Case("an option in Ethernet's padding, IPv6", FRAME / at(V6, plen=20) / syn_v6(), refused("malformed")),
    Case("IPv4 one byte shorter than the TCP header", FRAME / at(V4, len=47) / syn_v4(), refused("malformed")),
    Case("IPv6 one byte shorter than the TCP header", FRAME / at(V6, plen=39) / syn_v6(), refused("malformed")),
    Case("another length", FRAME / V4 / syn_v4(WRONG_LENGTH), refused("length")),
    Case("another length, from a stranger", FRAME / STRANGER_V4 / syn_v4(WRONG_LENGTH), refused("length")),
    Case("a client that cannot be", FRAME / V6 / syn_v6(IMPOSSIBLE), refused("client")),
    Case("a client that cannot be, from a stranger", FRAME / STRANGER_V6 / syn_v6(IMPOSSIBLE), refused("client")),
]

ALL = LEARNT + IGNORED + REFUSED
