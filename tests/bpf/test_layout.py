"""Keys, values and enumerations are the same in bpf/ and in ipvsca/, down to the offset of every field."""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from ipvsca.kernel import compiler, source
from ipvsca.kernel.layout import LearntFrom, fields
from ipvsca.kernel.maps import KEYS_AND_VALUES
from ipvsca.settings import DEFAULTS
from ipvsca.wire import announcement, toa, uoa


@pytest.fixture(scope="module")
def maps(pins: Path) -> Path:
    folder = pins / "layout"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def module(maps: Path) -> Iterator[Any]:
    """The data plane as bcc understands it, on maps of its own."""
    with compiler.compiled(source.text(), maps, DEFAULTS.max_flows) as module:
        yield module


def as_bcc_has_it(description: bytes) -> type:
    """The ctypes type that bcc itself makes of a C type."""
    from bcc import BPF

    kind: type = BPF._decode_table_type(json.loads(description))
    return kind


@pytest.mark.usefixtures("module")
def test_every_map_is_known(maps: Path) -> None:
    assert {path.name for path in maps.iterdir()} == set(KEYS_AND_VALUES)


@pytest.mark.parametrize("name", KEYS_AND_VALUES)
def test_keys_and_values(module: Any, name: str) -> None:
    from bcc import lib

    for ask, ours in zip((lib.bpf_table_key_desc, lib.bpf_table_leaf_desc), KEYS_AND_VALUES[name], strict=True):
        theirs = as_bcc_has_it(ask(module.module, name.encode()))
        assert list(fields(ours)) == list(fields(theirs))
        assert ctypes.sizeof(ours) == ctypes.sizeof(theirs)


@pytest.mark.parametrize("name", KEYS_AND_VALUES)
def test_no_padding_is_left_to_the_compiler(name: str) -> None:
    """Keys are compared byte by byte, and what no field covers is never written."""
    for kind in KEYS_AND_VALUES[name]:
        covered = sum(field.elements * field.size for field in fields(kind))
        assert covered == ctypes.sizeof(kind)


@pytest.mark.parametrize(
    ("header", "enumeration", "prefix", "ours"),
    [
        ("types.h", "learnt_from", "LEARNT_FROM_", LearntFrom),
        ("toa.h", "toa_verdict", "TOA_", toa.Verdict),
        ("announcement.h", "announcement_verdict", "ANNOUNCEMENT_", announcement.Verdict),
        ("uoa.h", "uoa_verdict", "UOA_", uoa.Verdict),
    ],
)
def test_enumerations(header: str, enumeration: str, prefix: str, ours: type[IntEnum]) -> None:
    members = members_of(enumeration, (source.folder() / header).read_text())
    assert members == {prefix + member.name: member.value for member in ours}


def members_of(enumeration: str, text: str) -> dict[str, int]:
    """The members of a C enumeration; each without a value is one more than the one before it."""
    body = re.search(rf"enum {enumeration} {{(.*?)}};", text, re.DOTALL)
    assert body
    members: dict[str, int] = {}
    following = 0
    for name, value in re.findall(r"^\s*(\w+)(?: = (\d+))?,", body[1], re.MULTILINE):
        members[name] = int(value) if value else following
        following = members[name] + 1
    return members
