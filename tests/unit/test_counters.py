"""bpf/counters.h is the only list of counters: it is read as the compiler reads it, and the programs use all of it."""

from __future__ import annotations

import re

import pytest

from ipvsca import counters
from ipvsca.kernel import layout, source
from tests.definitions import defined

HEADER = (source.folder() / "counters.h").read_text()
CODE = "".join(path.read_text() for path in sorted(source.folder().glob("*.[ch]")) if path.name != "counters.h")
NAMES = [meaning.name for meaning in counters.meanings()]


def members(header: str, enumeration: str, prefix: str) -> list[str]:
    """The members of an enumeration as the counters' names end in them."""
    body = re.search(rf"enum {enumeration} \{{(.*?)\}}", (source.folder() / header).read_text(), re.DOTALL)
    assert body
    return [name.lower() for name in re.findall(rf"{prefix}_(\w+),", body[1])]


REFUSALS = members("counters.h", "refusal", "REFUSED")
VERDICTS = members("announcement.h", "announcement_verdict", "ANNOUNCEMENT")
REFUSING_VERDICTS = VERDICTS[VERDICTS.index("fragment") :]
UOA_VERDICTS = members("uoa.h", "uoa_verdict", "UOA")
OF_UOA = {
    "ipo": UOA_VERDICTS[UOA_VERDICTS.index("malformed") : UOA_VERDICTS.index("fragment")],  # ipo knows none
    "opp": UOA_VERDICTS[UOA_VERDICTS.index("malformed") :],
}

# What is read rightly may still not be believed.
DISBELIEFS = members("claim.h", "disbelief", "DISBELIEF")
OF_CLAIMS = {
    form: DISBELIEFS if form == "opp" else DISBELIEFS[: DISBELIEFS.index("room")]  # of the others nothing is taken away
    for form in re.findall(r"->untrusted = COUNTER_refused_(\w+)_untrusted\b", CODE)
}

# Where a member of an enumeration is added to the first counter of a place: the members, in order.
PLACES = {
    **dict.fromkeys(re.findall(r"COUNTER_(refused_\w+)_malformed \+ refusal\b", CODE), REFUSALS),
    **{
        f"refused_{form}": REFUSING_VERDICTS + OF_CLAIMS[form]
        for form in re.findall(r"COUNTER_refused_(\w+)_fragment \+ verdict - ANNOUNCEMENT_FRAGMENT\b", CODE)
    },
    **{
        f"refused_{form}": OF_UOA[form] + OF_CLAIMS[form]
        for form in re.findall(r"COUNTER_refused_(\w+)_malformed \+ verdict - UOA_MALFORMED\b", CODE)
    },
}


def test_every_line_of_the_list_is_read() -> None:
    assert len(NAMES) == len(re.findall(r"^\tCOUNTER\(", HEADER, re.MULTILINE)) > 0
    assert [meaning.index for meaning in counters.meanings()] == list(range(len(NAMES)))


def test_the_map_has_room_for_all() -> None:
    assert len(NAMES) <= defined("MAX_COUNTERS") == counters.MAX_COUNTERS


def test_names_are_unique() -> None:
    names = NAMES + [meaning.name for meaning in counters.SWEPT.values()]
    assert len(set(names)) == len(names)


def test_what_sweeps_count_has_a_field_for_each() -> None:
    assert list(counters.SWEPT) == [name for name, *_ in layout.Swept._fields_]


@pytest.mark.parametrize("meaning", [*counters.meanings(), *counters.SWEPT.values()], ids=lambda meaning: meaning.name)
def test_each_has_a_name_and_a_meaning(meaning: counters.Meaning) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]+", meaning.name)
    assert len(meaning.help) > len("SYNs with it")
    assert meaning.is_refusal == meaning.name.startswith("refused_")


def test_refusals_are_counted_at_every_place() -> None:
    assert sorted(PLACES) == [
        "refused_ack",
        "refused_announcement",
        "refused_ipo",
        "refused_opp",
        "refused_syn",
    ]


@pytest.mark.parametrize("place", sorted(PLACES))
def test_refusals_of_a_place_stand_in_the_order_of_their_enumeration(place: str) -> None:
    expected = [f"{place}_{refusal}" for refusal in PLACES[place]]
    first = NAMES.index(expected[0])
    assert NAMES[first : first + len(expected)] == expected


def test_the_programs_use_every_counter_and_no_other() -> None:
    named = set(re.findall(r"\bCOUNTER_([a-z]\w*)", CODE))
    added = {f"{place}_{refusal}" for place, refusals in PLACES.items() for refusal in refusals}
    assert named | added == set(NAMES)
