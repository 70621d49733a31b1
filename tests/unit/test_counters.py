"""bpf/counters.h is the only list of counters: it is read as the compiler reads it, and the programs use all of it."""

from __future__ import annotations

import re

import pytest

from ipvsca import counters
from ipvsca.kernel import source

HEADER = (source.folder() / "counters.h").read_text()
CODE = "".join(path.read_text() for path in sorted(source.folder().glob("*.[ch]")) if path.name != "counters.h")
NAMES = [meaning.name for meaning in counters.meanings()]

# Where an enum refusal is added to the first counter of a place.
PLACES = set(re.findall(r"COUNTER_(refused_\w+)_malformed \+ refusal\b", CODE))


def refusals() -> list[str]:
    body = re.search(r"enum refusal \{(.*?)\}", HEADER, re.DOTALL)
    assert body
    return [name.lower() for name in re.findall(r"REFUSED_(\w+),", body[1])]


def test_every_line_of_the_list_is_read() -> None:
    assert len(NAMES) == len(re.findall(r"^\tCOUNTER\(", HEADER, re.MULTILINE)) > 0
    assert [meaning.index for meaning in counters.meanings()] == list(range(len(NAMES)))


def test_names_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("meaning", counters.meanings(), ids=lambda meaning: meaning.name)
def test_each_has_a_name_and_a_meaning(meaning: counters.Meaning) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]+", meaning.name)
    assert len(meaning.help) > len("SYNs with it")
    assert meaning.is_refusal == meaning.name.startswith("refused_")


def test_refusals_are_counted_at_both_places() -> None:
    assert sorted(PLACES) == ["refused_ack", "refused_syn"]


@pytest.mark.parametrize("place", sorted(PLACES))
def test_refusals_of_a_place_stand_in_the_order_of_their_enumeration(place: str) -> None:
    first = NAMES.index(f"{place}_malformed")
    expected = [f"{place}_{refusal}" for refusal in refusals()]
    assert NAMES[first : first + len(expected)] == expected


def test_the_programs_use_every_counter_and_no_other() -> None:
    named = set(re.findall(r"\bCOUNTER_([a-z]\w*)", CODE))
    added = {f"{place}_{refusal}" for place in PLACES for refusal in refusals()}
    assert named | added == set(NAMES)
