"""UOA in frames: datagrams of a director that tell their client."""

from __future__ import annotations

from scapy.packet import Packet, Raw

from ipvsca.kernel.layout import LearntFrom
from ipvsca.wire import uoa
from ipvsca.wire.announcement import Announcement
from ipvsca.wire.internet import PROTOCOL_UDP
from ipvsca.wire.uoa import Parsed, Told, Verdict
from tests.bpf.announced_packets import FRAME
from tests.bpf.flows import Book
from tests.bpf.ingress import Outcome
from tests.bpf.packets import CLIENT_V4, CLIENT_V6, DIRECTOR_V4, DIRECTOR_V6, SERVER_V4, SERVER_V6

V4 = Told(DIRECTOR_V4, SERVER_V4, CLIENT_V4)
V6 = Told(DIRECTOR_V6, SERVER_V6, CLIENT_V6)
NAT64 = Told(DIRECTOR_V4, SERVER_V4, CLIENT_V6)

_ETHERNET = 14
_TYPES = {4: 0x0800, 6: 0x86DD}


def framed(packet: bytes, frame: Packet = FRAME) -> bytes:
    """An IP packet behind a frame's header, the last of which says what it is."""
    front = frame.copy()
    front.lastlayer().type = _TYPES.get(packet[0] >> 4 if packet else 4, 0x0800)
    return bytes(front / Raw(packet))


def learnt(told: Told, learnt_from: LearntFrom, *changed: bytes) -> Outcome:
    """What is to be after a datagram that was believed, and left as `changed`."""
    book = Book()
    book.learn(Announcement(PROTOCOL_UDP, told.director, told.server, told.client), learnt_from)
    return Outcome({}, dict(book.counted), book.entries(), changed)


def refused(form: str, why: str) -> Outcome:
    return Outcome({}, {f"refused_{form}_{why}": 1})


def outcome_for_ipo(parsed: Parsed) -> Outcome:
    """Of a packet from a trusted source to this host alone."""
    if parsed.verdict is Verdict.ABSENT:
        return Outcome()
    return learnt(parsed.told, LearntFrom.IPO) if parsed.told else refused("ipo", parsed.verdict.name.lower())


def outcome_for_opp(parsed: Parsed, frame: bytes) -> Outcome:
    """The same; `frame` is the packet behind an Ethernet header."""
    if parsed.verdict is Verdict.ABSENT:
        return Outcome()
    if parsed.told is None:
        return refused("opp", parsed.verdict.name.lower())
    return learnt(parsed.told, LearntFrom.OPP, frame[:_ETHERNET] + uoa.strip(frame[_ETHERNET:]))
