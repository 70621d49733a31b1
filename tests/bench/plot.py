"""Two kinds of plots as SVG: dots with their spread, and lines over a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from tests.bench.rounds import Spread

WIDTH = 800
LABELS = 330  # for the words at the left
RIGHT = 30
ROW = 24
TOP = 44
HEIGHT = 360
LINE = 16  # between words
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart by the colour-blind too (Okabe and Ito)."""

Point = tuple[float, float]


def dots(title: str, rows: Sequence[tuple[str, Spread]], line_at: float | None = None) -> str:
    """A dot at each median, a bar from the lowest to the highest; a vertical line where one is asked for."""
    highest = max([spread.high for _, spread in rows] + [line_at or 0.0], default=1.0)
    ticks = _ticks(highest)
    bottom = TOP + ROW * len(rows)

    def x(figure: float) -> float:
        return LABELS + (WIDTH - LABELS - RIGHT) * figure / ticks[-1]

    shapes = [_grid_line(x(tick), bottom, f"{tick:g}") for tick in ticks]
    if line_at is not None:
        shapes.append(_line((x(line_at), TOP), (x(line_at), bottom), "#444", 1.5))
    for number, (label, spread) in enumerate(rows):
        y = TOP + ROW * (number + 0.5)
        shapes += [
            _text(LABELS - 10, y + 4, label, "end"),
            _line((x(spread.low), y), (x(spread.high), y), COLOURS[0], 3, 0.4),
            f'<circle cx="{x(spread.median):.1f}" cy="{y:.1f}" r="4.5" fill="{COLOURS[0]}"/>',
        ]
    return _document(title, bottom + 30, shapes)


def lines(title: str, things: Mapping[str, Mapping[int, float]]) -> str:
    """A line for each thing; what it is measured over grows by powers of ten."""
    sizes = sorted({size for figures in things.values() for size in figures}) or [1, 10]
    ticks = _ticks(max((figure for figures in things.values() for figure in figures.values()), default=1.0))
    left, right, bottom = 60, WIDTH - 150, HEIGHT - 40
    decades = math.log10(sizes[-1] / sizes[0])

    def x(size: int) -> float:
        return left + (right - left) * math.log10(size / sizes[0]) / decades

    def y(figure: float) -> float:
        return bottom - (bottom - TOP) * figure / ticks[-1]

    shapes = [_text(x(size), bottom + 18, f"{size:,}", "middle") for size in sizes]
    for tick in ticks:
        shapes += [
            _line((left, y(tick)), (right, y(tick)), "#ddd", 1),
            _text(left - 8, y(tick) + 4, f"{tick:g}", "end"),
        ]
    highest_first = sorted(things.items(), key=lambda thing: -list(thing[1].values())[-1])
    label_y = -math.inf
    for (label, figures), colour in zip(highest_first, COLOURS, strict=False):
        points = " ".join(f"{x(size):.1f},{y(figure):.1f}" for size, figure in figures.items())
        shapes.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        label_y = max(y(list(figures.values())[-1]) + 4, label_y + LINE)
        shapes.append(_text(right + 8, label_y, label, "start", colour))
    return _document(title, HEIGHT, shapes)


def _ticks(highest: float) -> list[float]:
    """From 0 to just beyond the highest figure, in five steps or so that people like."""
    rough = highest / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= rough)
    return [step * number for number in range(math.ceil(highest / step - 1e-9) + 1)]


def _grid_line(x: float, bottom: float, label: str) -> str:
    return _line((x, TOP), (x, bottom), "#ddd", 1) + _text(x, bottom + 18, label, "middle")


def _line(start: Point, end: Point, colour: str, width: float, opacity: float = 1) -> str:
    ends = f'x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}" stroke-opacity="{opacity}"/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _document(title: str, height: float, shapes: Iterable[str]) -> str:
    heading = f'<text x="10" y="24" font-weight="bold" fill="#222">{escape(title)}</text>'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
            'font-family="sans-serif" font-size="13">',
            '<rect width="100%" height="100%" fill="white"/>',
            heading,
            *shapes,
            "</svg>\n",
        ]
    )
