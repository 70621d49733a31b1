"""What the parsers of bpf/ read from bytes, in the words of their twins in ipvsca/wire/, to be compared."""

from __future__ import annotations

import struct
from pathlib import Path

from ipvsca.address import Endpoint, from_mapped
from ipvsca.kernel.programs import Program, ProgramType
from ipvsca.wire import announcement, toa
from ipvsca.wire.announcement import Announcement
from tests.bpf.testrun import TestRun

SOURCE = Path(__file__).with_name("probe.c")
TOA = Program("ipvsca_probe_toa", SOURCE.name, ProgramType.SCHED_CLS, None, "calls toa_parse")
ANNOUNCEMENT = Program(
    "ipvsca_probe_announcement", SOURCE.name, ProgramType.SCHED_CLS, None, "calls announcement_look and _read"
)

_LOCAL_EXPERIMENT = b"\x88\xb5"  # an Ethernet type that the kernel does not look behind
_ROOM = (bytes(12) + _LOCAL_EXPERIMENT).ljust(64, b"\0")
_RESULT = struct.Struct("!BBH16s16s16sHH")
_KIND = 34  # where an announcement's kind stands in its packet


class ToaProbe:
    """The loaded program TOA (its descriptor)."""

    def __init__(self, program: int) -> None:
        self._run = TestRun(program)

    def __call__(self, segment: bytes) -> toa.Parsed:
        """The twin of toa.parse_header, with the kinds that are in the settings map."""
        number, _, port, address, *_ = _RESULT.unpack_from(self._run(_ROOM + segment).packet)
        verdict = toa.Verdict(number)
        if verdict is not toa.Verdict.FOUND:
            return toa.Parsed(verdict)
        return toa.Parsed(verdict, Endpoint(from_mapped(address), port))


class AnnouncementProbe:
    """The loaded program ANNOUNCEMENT (its descriptor)."""

    def __init__(self, program: int) -> None:
        self._run = TestRun(program)

    def __call__(self, packet: bytes) -> announcement.Parsed:
        """The twin of announcement.parse, with the kinds that are in the settings map."""
        result = _RESULT.unpack_from(self._run(_ROOM + packet).packet)
        number, protocol, port, address, lip, rip, lport, rport = result
        verdict = announcement.Verdict(number)
        if verdict is not announcement.Verdict.FOUND:
            return announcement.Parsed(verdict)
        ends = ((lip, lport), (rip, rport), (address, port))
        director, server, client = (Endpoint(from_mapped(address), port) for address, port in ends)
        return announcement.Parsed(verdict, Announcement(protocol, director, server, client, packet[_KIND]))
