"""Tell whether this machine can restore addresses, whether it is doing so now, and what the counters hint at.

exit status:
  0  addresses are being restored: every hook is attached
  3  they could be, but are not: something is not loaded or not attached
  1  they cannot be on this machine as it is
  2  wrong configuration

examples:
  ipvsca check
  ipvsca check --json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ipvsca import directors, health, settings
from ipvsca.cli.output import coloured, print_json
from ipvsca.dataplane import DataPlane
from ipvsca.durations import since
from ipvsca.errors import Problem
from ipvsca.health import Finding, Health
from ipvsca.settings import Network

_GREEN, _RED, _YELLOW = 32, 31, 33

_NARROWER = (
    "trusted is wider than the directors seen so far; compare with yours, add those that are idle, and name them"
)

CANNOT = 1
COULD = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(parsed: argparse.Namespace) -> int:
    wanted = settings.read_file(parsed.config)
    found = health.examine(wanted)
    narrower = _narrower_trust(wanted.pin_path) if found.is_loaded else None
    if parsed.json:
        print_json(_as_json(found, narrower))
    else:
        _print(found, narrower)
    if found.is_restoring:
        return 0
    return COULD if found.can_restore else CANNOT


def _narrower_trust(pin_path: Path) -> tuple[Network, ...] | None:
    with suppress(Problem, OSError), DataPlane(pin_path) as plane:  # where it cannot be read, the findings say so
        return directors.narrower_trust(plane)
    return None


def _print(found: Health, narrower: Sequence[Network] | None) -> None:
    print("This machine")
    for finding in found.requirements:
        _print_finding(finding)
    print("Hooks")
    for finding in found.attachments:
        _print_finding(finding)
    if found.is_loaded:
        _print_traffic(found)
    if narrower:
        print(f"  {coloured('tip ', _YELLOW)}  {_NARROWER}:")
        print(f"        {_as_toml(narrower)}")
    print(_verdict(found))


def _print_traffic(found: Health) -> None:
    print("Traffic")
    last = found.last_option
    if last is None:
        print("  no client has been told by a trusted director yet")
    else:
        print(f"  last option {since(last.last_seconds_ago)}, from director {last.last_source} ({last.meaning.help})")
    for hint in found.hints:
        mark = coloured("note", _YELLOW)
        source = "" if hint.count.last_source is None else f", last from {hint.count.last_source}"
        ago = "" if hint.count.last_seconds_ago is None else f" {since(hint.count.last_seconds_ago)}"
        print(f"  {mark}  {hint.count.meaning.name} {hint.count.total}{source}{ago}: {hint.text}")


def _print_finding(finding: Finding) -> None:
    mark = coloured("ok  ", _GREEN) if finding.ok else coloured("NO  ", _RED)
    print(f"  {mark}  {finding.what}" + ("" if finding.ok else f": {finding.remedy}"))


def _verdict(found: Health) -> str:
    if found.is_restoring:
        return "Addresses are being restored."
    if found.can_restore:
        return "Addresses could be restored here, but are not: see NO above."
    return "Addresses cannot be restored here as it is: see NO above."


def _as_toml(trusted: Sequence[Network]) -> str:
    """The line of the configuration file."""
    return f"trusted = {json.dumps(_as_texts(trusted))}"


def _as_texts(trusted: Sequence[Network]) -> list[str]:
    return [str(prefix).removesuffix(f"/{prefix.max_prefixlen}") for prefix in trusted]


def _as_json(found: Health, narrower: Sequence[Network] | None) -> dict[str, object]:
    last = found.last_option
    return {
        "can_restore": found.can_restore,
        "is_restoring": found.is_restoring,
        "requirements": [_finding_as_json(finding) for finding in found.requirements],
        "attachments": [_finding_as_json(finding) for finding in found.attachments],
        "lookup_variant": found.lookup_variant and found.lookup_variant.name,
        "last_option": last and {"seconds_ago": last.last_seconds_ago, "director": str(last.last_source)},
        "hints": [
            {
                "counter": hint.count.meaning.name,
                "total": hint.count.total,
                "last_source": hint.count.last_source and str(hint.count.last_source),
                "text": hint.text,
            }
            for hint in found.hints
        ],
        "source": found.source and vars(found.source),
        "narrower_trust": narrower and {"trusted": _as_texts(narrower), "toml": _as_toml(narrower)},
    }


def _finding_as_json(finding: Finding) -> dict[str, object]:
    return {"what": finding.what, "ok": finding.ok, "remedy": finding.remedy}
