"""What a tc program is to make of a packet, said once more in Python, and straight from the headers' definitions.

What the IP stack drops anyway is not judged here: versions, checksums, an IPv4 header under 20 bytes, addresses that
nobody may send from. A SYN that never opens a connection leaves an entry that nobody asks for.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ipvsca.address import V4_MAPPED, Address, Endpoint, from_mapped
from ipvsca.kernel.layout import LearntFrom
from ipvsca.settings import Network, Settings
from ipvsca.wire import announcement, toa, uoa
from ipvsca.wire.announcement import Announcement
from ipvsca.wire.internet import PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP
from ipvsca.wire.toa import Verdict
from ipvsca.wire.uoa import PROTOCOL_OPP
from tests.bpf import flows
from tests.bpf.ingress import Handshake, Outcome

_ETHERNET = 14
_TO, _TEST_DEVICE = slice(0, 6), bytes(6)  # whom Ethernet names first, and how the device of test runs is called
_IPV4, _IPV6, _TAGS, _MOST_TAGS = 0x0800, 0x86DD, {0x8100, 0x88A8}, 2
_FRAGMENT, _MOST_EXTENSIONS = 44, 4
_SKIPPED = {0, 43, 60}  # hop-by-hop options, routing, destination options
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16

_REFUSALS = {
    Verdict.MALFORMED: "refused_syn_malformed",
    Verdict.LENGTH: "refused_syn_length",
    Verdict.CLIENT: "refused_syn_client",
}


@dataclass(frozen=True)
class _Carried:
    """What IP carries of a protocol, from an offset of its packet on. IP's own length leaves `room` bytes for it."""

    source: Address
    destination: Address
    protocol: int
    at: int
    room: int
    is_fragment: bool = False


def expected(*packets: bytes, settings: Settings, ethernet: bool = True) -> Outcome:
    """For packets with an Ethernet header, or such that begin with IP's, one after the other."""
    judge = _Judge(settings, ethernet)
    for packet in packets:
        judge.judge(packet)
    counted = dict(judge.counted + judge.flows.counted)
    return Outcome(judge.learnt, counted, judge.flows.entries(), tuple(judge.changed))


class _Judge:
    def __init__(self, settings: Settings, ethernet: bool) -> None:
        self._settings = settings
        self._ethernet = ethernet
        self._first: dict[Handshake, Endpoint] = {}
        self.learnt: dict[Handshake, Endpoint | None] = {}
        self.counted: Counter[str] = Counter()
        self.flows = flows.Book()
        self.changed: list[bytes] = []

    def judge(self, packet: bytes) -> None:
        kind, rest = _without_link_layer(packet, self._ethernet)
        front = packet[: len(packet) - len(rest)]
        is_for_this_host = packet[_TO] == _TEST_DEVICE
        carried = _carried(kind, rest)
        if carried is None:
            return
        if carried.protocol == PROTOCOL_TCP:
            self._judge_tcp(carried, rest[carried.at :])
        elif carried.protocol == PROTOCOL_OPP and rest[0] >> 4 == carried.source.version:
            self._judge_opp(carried, front, rest, is_for_this_host)
        elif kind == _IPV4 and carried.protocol == PROTOCOL_ICMP:
            self._judge_announcement(rest, is_for_this_host)
        elif kind == _IPV4 and carried.protocol == PROTOCOL_UDP and rest[0] >> 4 == 4:
            parsed = uoa.parse_ipo(rest)
            if parsed.verdict is not uoa.Verdict.ABSENT and self._believes("ipo", parsed, is_for_this_host):
                self._learn(parsed, LearntFrom.IPO)

    def _judge_opp(self, carried: _Carried, front: bytes, packet: bytes, is_for_this_host: bool) -> None:
        parsed = uoa.parse_opp(packet)
        if carried.is_fragment:
            parsed = uoa.Parsed(uoa.Verdict.FRAGMENT)
        elif parsed.verdict is uoa.Verdict.ABSENT:  # behind extension headers
            parsed = uoa.Parsed(uoa.Verdict.MALFORMED)
        if not self._believes("opp", parsed, is_for_this_host):
            return
        if self._ethernet and len(front) > _ETHERNET:  # VLAN tags: the kernel finds no IP header
            self.counted["refused_opp_room"] += 1
            return
        self._learn(parsed, LearntFrom.OPP)
        self.changed.append(front + uoa.strip(packet))

    def _believes(self, form: str, parsed: uoa.Parsed, is_for_this_host: bool) -> bool:
        if parsed.told is None:
            self.counted[f"refused_{form}_{parsed.verdict.name.lower()}"] += 1
        elif not is_for_this_host:
            self.counted[f"refused_{form}_host"] += 1
        elif not _is_in(parsed.told.director.address, self._settings.trusted):
            self.counted[f"refused_{form}_untrusted"] += 1
        else:
            return True
        return False

    def _learn(self, parsed: uoa.Parsed, learnt_from: LearntFrom) -> None:
        told = parsed.told
        assert told
        self.flows.learn(Announcement(PROTOCOL_UDP, told.director, told.server, told.client), learnt_from)

    def _judge_announcement(self, packet: bytes, is_for_this_host: bool) -> None:
        parsed = announcement.parse(packet, self._settings.tcpopt_addr)
        if parsed.verdict is announcement.Verdict.ABSENT:
            return
        if parsed.announcement is None:
            self.counted[f"refused_announcement_{parsed.verdict.name.lower()}"] += 1
        elif not is_for_this_host:
            self.counted["refused_announcement_host"] += 1
        elif not _is_in(parsed.announcement.director.address, self._settings.trusted):
            self.counted["refused_announcement_untrusted"] += 1
        else:
            self.flows.learn(parsed.announcement)

    def _judge_tcp(self, carried: _Carried, segment: bytes) -> None:
        if carried.is_fragment:
            self.counted["refused_syn_fragment"] += 1
        elif _is_syn_with_options(segment) and carried.source not in V4_MAPPED:
            self._judge_syn(carried, segment)

    def _judge_syn(self, carried: _Carried, segment: bytes) -> None:
        parsed = toa.parse_header(segment, self._settings.tcpopt_addr)
        if (segment[toa.DATA_OFFSET] >> 4) * 4 > carried.room:
            parsed = toa.Parsed(Verdict.MALFORMED)
        if parsed.verdict is Verdict.ABSENT:
            return
        if parsed.client is None:
            self.counted[_REFUSALS[parsed.verdict]] += 1
        elif not _is_in(carried.source, self._settings.trusted):
            self.counted["refused_syn_untrusted"] += 1
        else:
            lport, rport, isn = struct.unpack_from("!HHI", segment)
            handshake = Handshake(Endpoint(carried.source, lport), Endpoint(carried.destination, rport), isn)
            self._learn_handshake(handshake, parsed.client)

    def _learn_handshake(self, handshake: Handshake, client: Endpoint) -> None:
        if self._first.setdefault(handshake, client) != client:
            self.learnt[handshake] = None
            self.counted["refused_syn_conflict"] += 1
        else:
            self.learnt.setdefault(handshake, client)
            self.counted["syn_learnt"] += 1


def _is_in(address: Address, networks: Collection[Network]) -> bool:
    return any(address in network for network in networks)


def _is_syn_with_options(segment: bytes) -> bool:
    if len(segment) < toa.TCP_HEADER or segment[toa.DATA_OFFSET] >> 4 == toa.TCP_HEADER // 4:
        return False
    return segment[toa.DATA_OFFSET + 1] & (_SYN | _ACK | _RST | _FIN) == _SYN


def _without_link_layer(packet: bytes, ethernet: bool) -> tuple[int, bytes]:
    """The Ethernet type, and what follows."""
    # Where there is no Ethernet header, test runs still take the type from the place where it would be.
    kind, rest = int.from_bytes(packet[12:14]), packet
    if ethernet:
        rest = packet[_ETHERNET:]
        for _ in range(_MOST_TAGS):
            if kind in _TAGS:
                kind, rest = int.from_bytes(rest[2:4]), rest[4:]
    return kind, rest


def _carried(kind: int, rest: bytes) -> _Carried | None:
    if kind == _IPV4 and len(rest) >= 20:
        return _in_ipv4(rest)
    if kind == _IPV6 and len(rest) >= 40:
        return _in_ipv6(rest)
    return None


def _in_ipv4(packet: bytes) -> _Carried:
    words, length, fragment, protocol = struct.unpack_from("!BxHxxHxB", packet)
    source, destination = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    header = (words & 0xF) * 4
    return _Carried(source, destination, protocol, header, length - header, bool(fragment & 0x3FFF))


def _in_ipv6(packet: bytes) -> _Carried:
    length, kind = struct.unpack_from("!HB", packet, 4)
    source, destination = IPv6Address(packet[8:24]), from_mapped(packet[24:40])
    at = 40
    for _ in range(_MOST_EXTENSIONS):
        if kind not in _SKIPPED | {_FRAGMENT} or len(packet) < at + 8:
            break
        following, units, fragment = struct.unpack_from("!BBH", packet, at)
        if kind == _FRAGMENT:
            more, offset = fragment & 1, fragment >> 3
            if more or offset:
                return _Carried(source, destination, following, at + 8, 0, is_fragment=True)
            units = 0  # the byte is reserved
        kind, at = following, at + 8 + units * 8
    return _Carried(source, destination, kind, at, 40 + length - at)
