"""The documents name what there is, with the defaults it has, and link to what exists."""

from __future__ import annotations

import ctypes
import re
import tomllib
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

import pytest

from ipvsca import counters, settings
from ipvsca.cli import VERBS, module
from ipvsca.counters import Meaning
from ipvsca.kernel.maps import KEYS_AND_VALUES
from ipvsca.settings import DEFAULTS, MEANINGS
from ipvsca.wire import announcement, toa, uoa

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *DOCS.glob("*.md")])

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
# At the beginning of a shell line, behind the prompt, sudo or whatever else enters a namespace or names the program.
COMMAND = re.compile(r"^(?:\$ )?(?:sudo )?(?:nsenter \S+ )?(?:\S*/bin/)?ipvsca (\S+)(.*)$")
MAKE = re.compile(r"(?:sudo )?make ([\w-]+)")
TO_TYPE = re.compile(r"(?:sudo|make|git|apt|pip|systemctl|kubectl|ipvsca) ")
OTHERS = {f"syn_recv_sock_{rest}" for rest in ("ip_vs_ca", "no_ip_vs_ca", "toa", "no_toa")}
"""Words that begin like a counter's name and are none."""

ALL_COUNTERS = (*counters.meanings(), *counters.SWEPT.values())

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def without_code(text: str) -> str:
    return FENCE.sub("", text)


def code_lines(document: Path) -> Iterator[str]:
    """The lines of the fenced blocks, and what stands alone in backticks."""
    text = document.read_text()
    for _, block in FENCE.findall(text):
        for line in block.splitlines():
            yield from line.split(" && ")
    yield from re.findall(r"`([^`\n]+)`", without_code(text))


def anchors(document: Path) -> set[str]:
    """What links can point at: a heading in lower case, without punctuation, spaces as hyphens."""
    headings = HEADING.findall(without_code(document.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(document: Path) -> dict[str, list[str]]:
    """The rows of a document's tables by what the first cell has in backticks: the other cells."""
    found = {}
    for line in without_code(document.read_text()).splitlines():
        if line.startswith("| "):
            first, *others = (cell.strip() for cell in line.strip("|").split("|"))
            if name := re.match(r"\[?`([^`]+)`", first):
                found[name[1]] = others
    return found


def section(document: Path, heading: str, level: int = 3) -> str:
    """What stands below a heading, up to the next one of any level."""
    _, _, below = document.read_text().partition(f"\n{'#' * level} {heading}\n")
    assert below, f"{document.name} has no section {heading}"
    return re.split(r"^#", below, maxsplit=1, flags=re.MULTILINE)[0]


def test_there_are_documents() -> None:
    assert {"README.md", "CHANGELOG.md", "configure.md", "operate.md"} <= {document.name for document in DOCUMENTS}


@every_document
def test_every_link_resolves(document: Path) -> None:
    for link in LINK.findall(without_code(document.read_text())):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_document_is_linked_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall((REPOSITORY / "README.md").read_text())}
    assert {f"docs/{document.name}" for document in DOCS.glob("*.md")} <= linked


@every_document
def test_every_command_is_one(document: Path) -> None:
    """Verbs exist, and so does each option that is used with them."""
    for line in code_lines(document):
        command = COMMAND.match(line)
        if command and not command[1].startswith("-"):
            verb, arguments = command[1], command[2].partition("|")[0]
            assert verb in {*VERBS, "VERB"}, line
            for option in re.findall(r"(?<= )--[a-z-]+", arguments):
                assert option in {"--config", "--help"} or f'"{option}"' in source_of(verb), line


def source_of(verb: str) -> str:
    file = module(verb).__file__
    assert file is not None
    return Path(file).read_text()


@every_document
def test_every_make_target_exists(document: Path) -> None:
    targets = re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    for line in code_lines(document):
        target = MAKE.match(line)
        assert target is None or target[1] in targets, line


@every_document
def test_every_file_named_exists(document: Path) -> None:
    for line in re.findall(r"`((?:bpf|ipvsca|tests|docs)/[\w./]+)`", document.read_text()):
        assert (REPOSITORY / line).exists(), line


def test_the_chinese_readme_follows_the_english_one() -> None:
    """As many sections, the same commands and the same configuration; their comments are translated."""
    english, chinese = REPOSITORY / "README.md", DOCS / "README.zh-CN.md"
    assert to_type(english)
    assert to_type(chinese) == to_type(english)
    assert configuration(chinese) == configuration(english)
    assert sections(chinese) == sections(english)


def to_type(document: Path) -> list[str]:
    """Sorted, as languages differ in the order of words."""
    return sorted(line.partition("#")[0].strip() for line in code_lines(document) if TO_TYPE.match(line))


def configuration(document: Path) -> list[dict[str, object]]:
    return [tomllib.loads(block) for language, block in FENCE.findall(document.read_text()) if language == "toml"]


def sections(document: Path) -> int:
    return len(re.findall(r"^## ", without_code(document.read_text()), re.MULTILINE))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_described(verb: str) -> None:
    assert f"`{verb}`" in (DOCS / "operate.md").read_text()


@pytest.mark.parametrize("key", MEANINGS)
def test_every_setting_is_described(key: str) -> None:
    """With its default as TOML, and whether it takes effect at once."""
    described = section(DOCS / "configure.md", key)
    default = re.search(r"- Default: `([^`]+)`", described)
    assert default, key
    assert MEANINGS[key].read(tomllib.loads(f"value = {default[1]}")["value"]) == getattr(DEFAULTS, key)
    effect = re.search(r"- Takes effect (with `\w+`|as the daemon)", described)
    # Every verb finds what is loaded by pin_path: changing it is another matter.
    assert key == "pin_path" or (effect and effect[1] == takes_effect(key))
    assert ("`set`" in rows(DOCS / "configure.md")[key][1]) == MEANINGS[key].live


def takes_effect(key: str) -> str:
    if key.startswith("metrics"):
        return "as the daemon"
    return "with `set`" if MEANINGS[key].live else "with `load`"


def test_the_example_file_is_complete_and_accepted(tmp_path: Path) -> None:
    _, _, below = (DOCS / "configure.md").read_text().partition("## A complete file\n")
    language, example = FENCE.findall(below)[0]
    assert language == "toml"
    assert set(tomllib.loads(example)) == set(MEANINGS)
    file = tmp_path / "ipvsca.toml"
    file.write_text(example)
    settings.read_file(file)


@every_document
def test_every_piece_of_configuration_is_accepted(document: Path, tmp_path: Path) -> None:
    file = tmp_path / "ipvsca.toml"
    for language, block in FENCE.findall(document.read_text()):
        if language == "toml":
            file.write_text(block)
            settings.read_file(file)


@pytest.mark.parametrize("counter", ALL_COUNTERS, ids=lambda counter: counter.name)
def test_every_counter_is_described(counter: Meaning) -> None:
    """In its row it says truly whether time and source of its last event are kept."""
    meaning, remembers, _ = rows(DOCS / "operate.md")[counter.name]
    assert meaning
    assert remembers == ("yes" if counter.name in remembering() else "no")


def remembering() -> set[str]:
    """The counters that the programs count with count_from()."""
    source = "".join(path.read_text() for path in sorted((REPOSITORY / "bpf").glob("*.[ch]")))
    plain = {
        name
        for call in re.findall(r"\b(?:count|refuse)\(([^;]*)\);", source)
        for name in re.findall(r"COUNTER_(\w+)", call)
    }
    return {counter.name for counter in counters.meanings()} - plain


def test_no_counter_is_described_that_does_not_exist() -> None:
    names = {counter.name for counter in ALL_COUNTERS}
    starts = {f"{name.partition('_')[0]}_" for name in names} - {"tcp_"} | {"tcp_restored", "tcp_no"}
    for document in DOCUMENTS:
        for word in re.findall(r"`((?:" + "|".join(sorted(starts)) + r")\w+)`", document.read_text()):
            assert word in names or word in OTHERS, f"{document.name}: {word}"


@pytest.mark.parametrize(
    ("verdict", "heading", "level"),
    [
        *((verdict, "How a header is read", 2) for verdict in toa.Verdict),
        *((verdict, "How an announcement is read", 3) for verdict in announcement.Verdict),
        *((verdict, "How UOA is read", 3) for verdict in uoa.Verdict),
    ],
)
def test_every_verdict_is_described(verdict: IntEnum, heading: str, level: int) -> None:
    assert f"\n| {verdict.name.lower()} |" in section(DOCS / "wire-formats.md", heading, level)


@pytest.mark.parametrize("name", ["flows", "replies", "connects"])
def test_the_maps_of_flows_are_drawn_in_their_sizes(name: str) -> None:
    key, value = map(ctypes.sizeof, KEYS_AND_VALUES[name])
    _, _, below = (DOCS / "architecture.md").read_text().partition(f"\n**{name}** (")
    described = below.partition("\n**")[0]
    assert f"The key, {key} bytes" in " ".join(described.split())
    assert f"he value, {value} bytes" in " ".join(described.split())
