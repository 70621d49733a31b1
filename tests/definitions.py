"""Numbers that the headers of bpf/ define, for tests that are about them."""

from __future__ import annotations

import re

from ipvsca.kernel import source


def defined(name: str) -> int:
    """What a header's #define says."""
    headers = "".join(path.read_text() for path in source.folder().glob("*.h"))
    (value,) = re.findall(rf"^#define {name} (\d+)(?: /\*.*)?$", headers, re.MULTILINE)
    return int(value)
