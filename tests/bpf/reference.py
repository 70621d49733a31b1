"""What a tc program is to make of a packet, said once more in Python, and straight from the headers' definitions.

What the IP stack drops anyway is not judged here: versions, checksums, an IPv4 header under 20 bytes, addresses that
nobody may send from. A SYN that never opens a connection leaves an entry that nobody asks for.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address

from ipvsca.address import V4_MAPPED, Address, Endpoint, from_mapped
from ipvsca.settings import Network, Settings
from ipvsca.wire import announcement, toa
from ipvsca.wire.toa import Verdict
from tests.bpf import flows
from tests.bpf.ingress import Handshake, Outcome

_ETHERNET = 14
_TO, _TEST_DEVICE = slice(0, 6), bytes(6)  # whom Ethernet names first, and how the device of test runs is called
_IPV4, _IPV6, _TAGS, _MOST_TAGS = 0x0800, 0x86DD, {0x8100, 0x88A8}, 2
_ICMP, _TCP, _FRAGMENT, _MOST_EXTENSIONS = 1, 6, 44, 4
_MAPPED = V4_MAPPED.network_address.packed[:12]  # as a source: a packet like this passes for none of IPv4
_SKIPPED = {0, 43, 60}  # hop-by-hop options, routing, destination options
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16

_REFUSALS = {
    Verdict.MALFORMED: "refused_syn_malformed",
    Verdict.LENGTH: "refused_syn_length",
    Verdict.CLIENT: "refused_syn_client",
}


class _Fragment(Exception):
    """TCP, or a part of it, in an IP fragment."""


@dataclass(frozen=True)
class _Carried:
    """A TCP segment, and what IP says of it. `room` is how many bytes IP's own length leaves for it."""

    source: Address
    destination: Address
    segment: bytes
    room: int


def expected(*packets: bytes, settings: Settings, ethernet: bool = True) -> Outcome:
    """For packets with an Ethernet header, or such that begin with IP's, one after the other."""
    judge = _Judge(settings, ethernet)
    for packet in packets:
        judge.judge(packet)
    return Outcome(judge.learnt, dict(judge.counted + judge.flows.counted), judge.flows.entries())


class _Judge:
    def __init__(self, settings: Settings, ethernet: bool) -> None:
        self._settings = settings
        self._ethernet = ethernet
        self._first: dict[Handshake, Endpoint] = {}
        self.learnt: dict[Handshake, Endpoint | None] = {}
        self.counted: Counter[str] = Counter()
        self.flows = flows.Book()

    def judge(self, packet: bytes) -> None:
        kind, rest = _without_link_layer(packet, self._ethernet)
        if kind == _IPV4 and len(rest) >= 20 and rest[9] == _ICMP:
            self._judge_announcement(rest, is_for_this_host=packet[_TO] == _TEST_DEVICE)
            return
        try:
            carried = _carried(kind, rest)
        except _Fragment:
            self.counted["refused_syn_fragment"] += 1
            return
        if carried and _is_syn_with_options(carried.segment):
            self._judge_syn(carried)

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

    def _judge_syn(self, carried: _Carried) -> None:
        segment = carried.segment
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


def _in_ipv4(packet: bytes) -> _Carried | None:
    words, length, fragment, protocol = struct.unpack_from("!BxHxxHxB", packet)
    if protocol != _TCP:
        return None
    more, offset = fragment & 0x2000, fragment & 0x1FFF
    if more or offset:
        raise _Fragment
    header = (words & 0xF) * 4
    return _Carried(IPv4Address(packet[12:16]), IPv4Address(packet[16:20]), packet[header:], length - header)


def _in_ipv6(packet: bytes) -> _Carried | None:
    length, kind = struct.unpack_from("!HB", packet, 4)
    at = 40
    for _ in range(_MOST_EXTENSIONS):
        if kind not in _SKIPPED | {_FRAGMENT} or len(packet) < at + 8:
            break
        following, units, fragment = struct.unpack_from("!BBH", packet, at)
        if kind == _FRAGMENT:
            more, offset = fragment & 1, fragment >> 3
            if more or offset:
                if following == _TCP:
                    raise _Fragment
                return None
            units = 0  # the byte is reserved
        kind, at = following, at + 8 + units * 8
    if kind != _TCP or packet[8:20] == _MAPPED:
        return None
    return _Carried(from_mapped(packet[8:24]), from_mapped(packet[24:40]), packet[at:], 40 + length - at)
