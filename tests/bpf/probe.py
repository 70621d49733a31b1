"""What bpf/toa.h reads from a segment, in the words of ipvsca/wire/toa.py, so that the two can be compared."""

from __future__ import annotations

from pathlib import Path

from ipvsca.address import Endpoint, from_mapped
from ipvsca.kernel.programs import Program, ProgramType
from ipvsca.wire.toa import Parsed, Verdict
from tests.bpf.testrun import TestRun

SOURCE = Path(__file__).with_name("probe.c")
PROGRAM = Program("ipvsca_probe", SOURCE.name, ProgramType.SCHED_CLS, None, "calls toa_parse")

_LOCAL_EXPERIMENT = b"\x88\xb5"  # an Ethernet type that the kernel does not look behind
_ROOM = (bytes(12) + _LOCAL_EXPERIMENT).ljust(32, b"\0")
_PORT, _ADDRESS = slice(2, 4), slice(4, 20)


class Probe:
    """The loaded probe program (its descriptor)."""

    def __init__(self, program: int) -> None:
        self._run = TestRun(program)

    def __call__(self, segment: bytes) -> Parsed:
        """The twin of toa.parse_header, with the kinds that are in the settings map."""
        result = self._run(_ROOM + segment).packet
        verdict = Verdict(result[0])
        if verdict is not Verdict.FOUND:
            return Parsed(verdict)
        return Parsed(verdict, Endpoint(from_mapped(result[_ADDRESS]), int.from_bytes(result[_PORT])))
