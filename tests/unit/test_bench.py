"""The bench's figures: how they are taken, what is made of them, and that the documents show these and no others."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import counts, documents, plot, report
from tests.bench.records import Judged, Results
from tests.bench.rounds import Spread, interleaved, ratios
from tests.bench.table import Table

SVG = "{http://www.w3.org/2000/svg}"


def results(**samples: list[float]) -> Results:
    """One thing's figures, of these variants, in a run without judgement."""
    made = Results({"cpus": 2}, {"pairs": 3})
    made.keep("tcp", "new connections, nginx", "/s", samples)
    return made


def test_variants_are_measured_in_turn_forwards_and_backwards() -> None:
    order: list[str] = []
    names = ("a", "b", "c")
    interleaved({name: lambda name=name: order.append(name) or 1.0 for name in names}, 3)  # type: ignore[misc]
    assert "".join(order) == "abccbaabc"


def test_each_round_is_watched_with_its_own_figures() -> None:
    figures = iter([1.0, 2.0, 3.0, 4.0])
    measures = {"a": lambda: next(figures), "b": lambda: next(figures)}
    seen: list[tuple[int, dict[str, float]]] = []
    samples = interleaved(measures, 2, lambda number, said: seen.append((number, dict(said))))
    assert samples == {"a": [1.0, 4.0], "b": [2.0, 3.0]}
    assert seen == [(0, {"a": 1.0, "b": 2.0}), (1, {"a": 4.0, "b": 3.0})]


def test_a_ratio_is_that_of_a_round() -> None:
    """Not of medians: the machine was half as fast in the second round, which says nothing."""
    assert ratios({"without": [100, 50, 200], "with": [90, 45, 180]}, "with", "without") == [0.9, 0.9, 0.9]


def test_rounds_that_are_not_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        ratios({"without": [100, 50], "with": [90]}, "with", "without")


def test_spread() -> None:
    assert Spread.of([5, 1, 9, 2, 3]) == Spread(median=3, low=1, high=9)


def test_a_comparison_shows_medians_ratio_and_target() -> None:
    table = report.tables(results(**{"without": [100, 200, 400], "with": [99, 190, 400]}))["tcp"]
    assert table.columns == ["", "without", "with", "with / without", "target"]
    assert table.rows == [["new connections, nginx", "200 /s", "190 /s", "0.990 (0.950 to 1.000)", "≥ 0.98"]]


def test_three_variants_are_compared_each_with_each() -> None:
    three = Results({}, {})
    three.keep("proxy", "new connections", "/s", {"nothing": [100], "ipvsca": [50], "HAProxy": [10]})
    table = report.tables(three)["proxy"]
    assert table.columns[4:7] == ["ipvsca / nothing", "HAProxy / nothing", "HAProxy / ipvsca"]
    assert [cell.partition(" ")[0] for cell in table.rows[0][4:7]] == ["0.500", "0.100", "0.200"]


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = results(**{"without": [1.5], "with": [2.5]})
    written.judge("tcp", Judged(right=7))
    written.judge("tcp", Judged(right=1, missing=2))
    written.write(tmp_path / "bench.json")
    assert Results.read(tmp_path / "bench.json") == written
    assert written.judged == {"tcp": Judged(right=8, missing=2)}


@pytest.mark.parametrize("judged", [Judged(9, wrong=1), Judged(9, missing=1), Judged(9, failed=1)])
def test_one_address_that_is_not_right_is_one_too_many(judged: Judged) -> None:
    assert not judged.is_clean
    assert Judged(9).is_clean


def test_a_table_for_the_terminal_is_aligned() -> None:
    assert Table("Title", ["", "n"], [["long", "1"], ["x", "1,000"]]).as_text() == (
        "Title\n            n\n  long      1\n  x     1,000\n"
    )


def test_a_table_for_a_document() -> None:
    assert Table("Title", ["", "n"], [["x", "1"]]).as_markdown() == "|  | n |\n| --- | ---: |\n| x | 1 |\n"


def test_only_what_is_marked_is_filled() -> None:
    document = "before\n<!-- begin it -->\nold\n<!-- end it -->\nafter 0.98\n"
    tables = {"it": Table("", ["", "n"], [["x", "1"]])}
    filled = documents.filled(document, tables)
    assert filled.startswith("before\n<!-- begin it -->\n\n|  | n |\n")
    assert filled.endswith("\n<!-- end it -->\nafter 0.98\n")
    assert "old" not in filled
    assert documents.filled(filled, tables) == filled
    with pytest.raises(KeyError):
        documents.filled(document, {})


@pytest.mark.parametrize("path", documents.made(), ids=lambda path: path.name)
def test_the_documents_show_what_was_recorded(path: Path) -> None:
    assert path.read_text() == documents.made()[path]


@pytest.mark.parametrize(("highest", "ticks"), [(1.0, 6), (0.95, 6), (37, 5), (2650, 4)])
def test_an_axis_ends_at_or_just_beyond_the_highest_figure(highest: float, ticks: int) -> None:
    found = plot._ticks(highest)
    assert found[0] == 0
    assert found[-2] < highest <= found[-1]
    assert len(found) == ticks


def test_a_dot_stands_where_its_figure_is() -> None:
    drawn = ElementTree.fromstring(plot.dots("a & b", [("half", Spread(0.5, 0.5, 0.5)), ("one", Spread(1, 1, 1))], 1.0))
    half, one = (float(circle.attrib["cx"]) for circle in drawn.iter(f"{SVG}circle"))
    assert one == plot.WIDTH - plot.RIGHT
    assert half == (plot.LABELS + one) / 2


def test_lines_grow_by_powers_of_ten() -> None:
    drawn = ElementTree.fromstring(plot.lines("title", {"hit": {10: 1.0, 100: 2.0, 1000: 2.0}}))
    (line,) = drawn.iter(f"{SVG}polyline")
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y1 == y2 < y0


def counted(base: int, loaded: int) -> counts.Counts:
    return {"SYN": {counts.NOT_LOADED: base, "option in ACK": loaded}}


def test_growth_is_of_what_is_added() -> None:
    """Another kernel takes more by itself: that is not ours."""
    known = counted(10_000, 11_000)
    assert list(counts.growth(known, counted(20_000, 21_000))) == []
    assert list(counts.growth(known, counted(10_000, 11_020))) == []
    assert list(counts.growth(known, counted(10_000, 10_500))) == []
    assert list(counts.growth(known, counted(10_000, 11_021))) == [
        "GROWN: SYN, option in ACK: 1021 instructions added, not 1000"
    ]


def test_some_instructions_are_no_growth() -> None:
    assert list(counts.growth(counted(1000, 1000), counted(1000, 1020))) == []
    assert list(counts.growth(counted(1000, 1000), counted(1000, 1021)))


def test_a_step_that_is_not_counted_any_more_is_told() -> None:
    assert list(counts.growth(counted(1000, 1100), {})) == [
        "GONE: SYN, option in ACK: it was recorded, and is not counted any more"
    ]


def test_the_table_of_counts_shows_what_is_added() -> None:
    whole = {counts.WHOLE: {counts.NOT_LOADED: 100_000, "option in ACK": 101_000}}
    run = counts.Run("6.1", counted(10_000, 11_000) | {"announcement": {"option in ACK": 12_000}} | whole)
    rows = counts.table(run).rows
    assert rows[0] == ["SYN", "10,000", "", "", "+1,000", "", "", ""]
    assert rows[1] == ["announcement", "", "", "", "12,000", "", "", ""]
    assert rows[-1] == [counts.RATIO, "1.000", "", "", "1.010", "", "", "≤ 1.010"]
