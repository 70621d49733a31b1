"""Announcements in frames: what a real server receives from a director ahead of a flow."""

from __future__ import annotations

from itertools import pairwise

from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from ipvsca.wire import announcement
from ipvsca.wire.announcement import Announcement, Parsed, Verdict
from ipvsca.wire.internet import PROTOCOL_UDP
from tests.bpf.flows import Book
from tests.bpf.ingress import Outcome
from tests.bpf.packets import CLIENT_V4, DIRECTOR_V4, SERVER_V4

EXAMPLE = Announcement(PROTOCOL_UDP, DIRECTOR_V4, SERVER_V4, CLIENT_V4)

# What a test run's device takes for its own address.
FRAME = Ether(src="02:00:00:00:00:01", dst="00:00:00:00:00:00", type=0x0800)

ELSEWHERE = {
    "broadcast": "ff:ff:ff:ff:ff:ff",
    "multicast": "01:00:5e:00:00:01",
    "another host": "02:00:00:00:00:02",
    "one bit of the address differs": "00:00:00:00:00:02",
}


def tagged(frame: Packet, *tags: Packet) -> Packet:
    """The frame with VLAN tags, in front of IPv4."""
    headers = [frame.copy(), *(tag.copy() for tag in tags)]
    for header, following in pairwise(headers):
        header.type = 0x88A8 if isinstance(following, Dot1AD) else 0x8100
    headers[-1].type = 0x0800
    front = headers[0]
    for header in headers[1:]:
        front /= header
    return front


TAGS = {
    "no tag": (),
    "one tag": (Dot1Q(vlan=7),),
    "one tag with priority": (Dot1Q(vlan=4094, prio=7),),
    "one tag of a provider": (Dot1AD(vlan=7),),
    "two tags": (Dot1Q(vlan=7), Dot1Q(vlan=8)),
    "a tag inside a provider's": (Dot1AD(vlan=7), Dot1Q(vlan=8)),
}


def framed(packet: Announcement | bytes, frame: Packet = FRAME) -> bytes:
    """An announcement, or an IP packet, behind a frame's header."""
    return bytes(frame / Raw(packet if isinstance(packet, bytes) else announcement.build(packet)))


def learnt(*announced: Announcement) -> Outcome:
    """What is to be after announcements that were all believed."""
    book = Book()
    for one in announced:
        book.learn(one)
    return Outcome({}, dict(book.counted), book.entries())


def refused(why: str, times: int = 1) -> Outcome:
    return Outcome({}, {f"refused_announcement_{why}": times})


def outcome_for(parsed: Parsed) -> Outcome:
    """Of a packet from a trusted source to this host alone."""
    if parsed.verdict is Verdict.ABSENT:
        return Outcome()
    return learnt(parsed.announcement) if parsed.announcement else refused(parsed.verdict.name.lower())
