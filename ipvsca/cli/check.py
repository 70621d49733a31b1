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

from ipvsca import health, settings
from ipvsca.cli.output import coloured, print_json
from ipvsca.durations import since
from ipvsca.health import Finding, Health

_GREEN, _RED, _YELLOW = 32, 31, 33

CANNOT = 1
COULD = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(parsed: argparse.Namespace) -> int:
    found = health.examine(settings.read_file(parsed.config))
    if parsed.json:
        print_json(_as_json(found))
    else:
        _print(found)
    if found.is_restoring:
        return 0
    return COULD if found.can_restore else CANNOT


def _print(found: Health) -> None:
    print("This machine")
    for finding in found.requirements:
        _print_finding(finding)
    print("Hooks")
    for finding in found.attachments:
        _print_finding(finding)
    if found.is_loaded:
        _print_traffic(found)
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


def _as_json(found: Health) -> dict[str, object]:
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
    }


def _finding_as_json(finding: Finding) -> dict[str, object]:
    return {"what": finding.what, "ok": finding.ok, "remedy": finding.remedy}
