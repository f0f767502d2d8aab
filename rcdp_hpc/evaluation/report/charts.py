"""Charts as SVG: lines, bars, points and a heat map.

Colours differ in lightness as well, and lines in their dashes, so that charts are legible for colour-blind readers and
in grey. Each chart has an accessible name, which states its main fact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rcdp_hpc.evaluation.report.axes import Scale, scale_of, thinned
from rcdp_hpc.evaluation.report.html import Html, join, tag
from rcdp_hpc.runtime.text import display_width, plain_name, shorten

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 40
MOST_POINTS = 400
BAR = 17
# Of a name next to a bar; a column of the font is at most so many units wide.
NAME_COLUMNS, COLUMN = 18, 7.0
# Okabe and Ito: distinguishable for colour-blind readers.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#7a4a93", "#666666", "#b8860b")
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 2", "10 4")


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes
    ----------
    name : str
    x, y : sequence of float
        Points with a value that is None or not finite are left out and interrupt the line.
    steps : bool
        Whether a value holds until the next one.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    steps: bool = False


@dataclass(frozen=True)
class Bars:
    """The values of one kind for all bars of a chart; kinds are stacked.

    Attributes
    ----------
    name : str
    values : sequence of float
    """

    name: str
    values: Sequence[float]


@dataclass
class Plane:
    """Two axes and what is drawn on them.

    Attributes
    ----------
    x, y : Scale
    parts : list of Html
        What is drawn, in order.
    height : float
        Height of the picture.
    """

    x: Scale
    y: Scale
    parts: list[Html] = field(default_factory=list)
    height: float = HEIGHT

    def add_axes(self, x_label: str, y_label: str, x_ticks: Sequence[tuple[float, str]] | None = None) -> None:
        """Draw both axes with ticks, and the grid of the values."""
        bottom = self.height - BOTTOM
        for value, text in self.y.ticks():
            at = self.y(value)
            self.parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=_n(at), y2=_n(at), class_="grid"))
            self.parts.append(svg_text(text, LEFT - 5, at + 4, "end"))
        for value, text in self.x.ticks() if x_ticks is None else x_ticks:
            at = self.x(value)
            self.parts.append(tag("line", x1=_n(at), x2=_n(at), y1=_n(bottom), y2=_n(bottom + 4), class_="axis"))
            self.parts.append(svg_text(text, at, bottom + 16, "middle"))
        self.parts.append(tag("path", d=f"M{LEFT} {TOP}V{_n(bottom)}H{WIDTH - RIGHT}", class_="axis"))
        self.parts.append(svg_text(x_label, (LEFT + WIDTH - RIGHT) / 2, self.height - 6, "middle"))
        self.parts.append(
            tag("text", y_label, transform=f"translate(12 {_n((TOP + bottom) / 2)}) rotate(-90)", text_anchor="middle")
        )


def picture(fact: str, caption: str, parts: Sequence[Html], height: float = HEIGHT, legend: Html | str = "") -> Html:
    """Return a figure.

    Parameters
    ----------
    fact : str
        Main fact of the picture, its accessible name.
    caption : str
    parts : sequence of Html
        Elements of the SVG.
    height : float
        Height of the picture; its width is 400.
    legend : Html
    """
    drawing = tag("svg", *parts, viewBox=f"0 0 {WIDTH} {_n(height)}", role="img", aria_label=fact)
    return tag("figure", drawing, legend, tag("figcaption", caption))


def legend_of(names: Sequence[str], bars: bool = False) -> Html:
    """Return the legend of lines or bars, outside the picture; empty for bars of one kind."""
    if bars and len(names) < 2:
        return Html("")
    entries = []
    for number, name in enumerate(names):
        colour, dash = _stroke(number)
        if bars:
            sample = tag("rect", x=1, y=1, width=12, height=10, class_=f"bar{number % 3}")
        else:
            sample = tag(
                "line", x1=0, x2=24, y1=6, y2=6, stroke=colour, stroke_width=2.5, stroke_dasharray=dash or None
            )
        mark = tag("svg", sample, viewBox=f"0 0 {14 if bars else 24} 12", class_="key", aria_hidden="true")
        entries.append(tag("span", mark, f" {name}"))
    return tag("div", *entries, class_="legend")


def line_chart(
    fact: str,
    caption: str,
    x_label: str,
    y_label: str,
    lines: Sequence[Line],
    log_y: bool = False,
    zero: bool = False,
    whole_x: bool = True,
    mark: tuple[float, float, str] | None = None,
) -> Html:
    """Return a chart of lines.

    Parameters
    ----------
    fact, caption : str
        As for `picture`.
    x_label, y_label : str
    lines : sequence of Line
    log_y : bool
        Use a logarithmic scale if all values are positive.
    zero : bool
        Begin the values at 0.
    whole_x : bool
        The x values are integers.
    mark : (x, y, text), optional
        A point to emphasise.
    """
    plane = Plane(
        scale_of([x for line in lines for x in line.x], LEFT, WIDTH - RIGHT, whole=whole_x),
        scale_of([y for line in lines for y in line.y if y is not None], HEIGHT - BOTTOM, TOP, log_y, zero),
    )
    ticks = plane.x.ticks()
    plane.add_axes(x_label, y_label, [tick for tick in ticks if tick[0] == int(tick[0])] if whole_x else ticks)
    for number, line in enumerate(lines):
        plane.parts += _drawn_line(plane, line, number)
    if mark is not None and math.isfinite(mark[1]):
        plane.parts += _drawn_mark(plane, *mark)
    return picture(fact, caption, plane.parts, legend=legend_of([line.name for line in lines]))


def _drawn_line(plane: Plane, line: Line, number: int) -> list[Html]:
    colour, dash = _stroke(number)
    commands, before = [], False
    chosen = thinned(len(line.x), MOST_POINTS)
    for place in chosen:
        value = line.y[place]
        if value is None or not math.isfinite(value):
            before = False
            continue
        x, y = _n(plane.x(line.x[place])), _n(plane.y(value))
        if not before:
            commands.append(f"M{x} {y}")
        else:
            commands.append(f"H{x}V{y}" if line.steps else f"L{x} {y}")
        before = True
    style = {"stroke": colour, "stroke_width": 2, "stroke_dasharray": dash or None}
    parts = [tag("path", d="".join(commands), fill="none", **style)]
    if len(chosen) <= 25:
        parts.append(dots([(line.x[at], line.y[at]) for at in chosen], plane, colour, 2.5))
    return parts


def dots(points: Sequence[tuple[float, float | None]], plane: Plane, colour: str, size: float) -> Html:
    """Return points as one path; points at the same place are drawn once."""
    places = {
        (_n(plane.x(x)), _n(plane.y(y))): None
        for x, y in points
        if y is not None and math.isfinite(y) and math.isfinite(x)
    }
    path = "".join(f"M{x} {y}h0" for x, y in places)
    return tag("path", d=path, stroke=colour, stroke_width=_n(2 * size), stroke_linecap="round", fill="none")


def _stroke(number: int) -> tuple[str, str]:
    """Return colour and dashes of a line; no two of 36 lines have both in common."""
    return COLOURS[number % len(COLOURS)], DASHES[(number + number // len(COLOURS)) % len(DASHES)]


def _drawn_mark(plane: Plane, x: float, y: float, text: str) -> list[Html]:
    across, down = plane.x(x), plane.y(y)
    is_right, is_low = across > WIDTH * 0.6, down > plane.height * 0.45
    label = svg_text(
        text, across + (-9 if is_right else 9), down + (-9 if is_low else 17), "end" if is_right else "start"
    )
    return [tag("circle", cx=_n(across), cy=_n(down), r=5.5, class_="mark"), label]


def scatter(
    fact: str,
    caption: str,
    labels: tuple[str, str],
    points: Sequence[tuple[float, float]],
    mark: tuple[float, float, str],
    log_x: bool = False,
) -> Html:
    """Return a chart of points.

    Parameters
    ----------
    fact, caption : str
        As for `picture`.
    labels : (str, str)
        Of the axes.
    points : sequence of (x, y)
    mark : (x, y, text)
        A point to emphasise.
    log_x : bool
        Use a logarithmic scale if all x are positive.
    """
    plane = Plane(
        scale_of([x for x, _ in points], LEFT + 4, WIDTH - RIGHT, log_x),
        scale_of([y for _, y in points], HEIGHT - BOTTOM, TOP),
    )
    plane.add_axes(*labels)
    plane.parts.append(dots([points[at] for at in thinned(len(points), 2 * MOST_POINTS)], plane, COLOURS[0], 1.6))
    plane.parts += _drawn_mark(plane, *mark)
    return picture(fact, caption, plane.parts)


def bar_chart(fact: str, caption: str, label: str, names: Sequence[str], kinds: Sequence[Bars]) -> Html:
    """Return horizontal bars, one for each name, with the kinds stacked, and the total after each bar."""
    totals = [sum(values) for values in zip(*(kind.values for kind in kinds), strict=True)]
    names, left = names_beside(names)
    height = TOP + BAR * len(names) + BOTTOM
    scale = scale_of([*totals, 0.0], left, WIDTH - 50, zero=True)
    parts = []
    for place, name in enumerate(names):
        top, at = TOP + BAR * place, 0.0
        parts.append(svg_text(name, left - 6, top + BAR - 5, "end"))
        for number, kind in enumerate(kinds):
            start, end = scale(at), scale(at + kind.values[place])
            at += kind.values[place]
            if end > start:
                size = {"width": _n(end - start), "height": BAR - 4, "class_": f"bar{number % 3}"}
                parts.append(tag("rect", x=_n(start), y=top + 1, **size))
        parts.append(svg_text(f"{totals[place]:,.4g}" if totals[place] < 1000 else f"{totals[place]:,.0f}",
                              scale(at) + 4, top + BAR - 5, "start"))  # fmt: skip
    bottom = TOP + BAR * len(names)
    parts.append(tag("line", x1=left, x2=left, y1=TOP, y2=bottom, class_="axis"))
    parts.append(svg_text(label, (left + WIDTH) / 2, bottom + 16, "middle"))
    return picture(fact, caption, parts, height - 16, legend_of([kind.name for kind in kinds], bars=True))


def interval_chart(
    fact: str,
    caption: str,
    label: str,
    names: Sequence[str],
    intervals: Sequence[tuple[float, float, float]],
    limits: tuple[float, float] | None = None,
    points: Sequence[Sequence[float]] = (),
) -> Html:
    """Return a row for each name with a point and the interval around it.

    Parameters
    ----------
    fact, caption : str
        As for `picture`.
    label : str
        Of the axis.
    names : sequence of str
    intervals : sequence of (low, value, high)
    limits : (low, high), optional
        Limits of the axis; default: those of the intervals.
    points : sequence of sequence of float
        Single results of each name, drawn as small rings.
    """
    names, left = names_beside(names)
    bottom = TOP + BAR * len(names)
    shown = [*(x for one in intervals for x in one), *(x for some in points for x in some)]
    scale = Scale(*limits, left, WIDTH - 24) if limits else scale_of(shown, left, WIDTH - 24)
    parts = []
    for value, text in scale.ticks():
        parts.append(tag("line", x1=_n(scale(value)), x2=_n(scale(value)), y1=TOP, y2=bottom, class_="grid"))
        parts.append(svg_text(text, scale(value), bottom + 15, "middle"))
    for place, (name, (low, value, high)) in enumerate(zip(names, intervals, strict=True)):
        middle = TOP + BAR * place + BAR / 2
        parts.append(svg_text(name, left - 6, middle + 4, "end"))
        for single in points[place] if points else ():
            parts.append(tag("circle", cx=_n(scale(single)), cy=_n(middle), r=3, class_="ring"))
        if math.isfinite(low) and math.isfinite(high):
            ends = (_n(scale(low)), _n(scale(high)))
            parts.append(tag("line", x1=ends[0], x2=ends[1], y1=_n(middle), y2=_n(middle), class_="interval"))
        if math.isfinite(value):
            parts.append(tag("circle", cx=_n(scale(value)), cy=_n(middle), r=3.5, class_="point"))
    parts.append(svg_text(label, (left + WIDTH - 24) / 2, bottom + 31, "middle"))
    return picture(fact, caption, parts, bottom + 38)


def names_beside(names: Sequence[str]) -> tuple[list[str], float]:
    """Return names shortened for the left side of a picture, and the place where they end."""
    short = [shorten(plain_name(name), NAME_COLUMNS, "…") for name in names]
    return short, 12 + COLUMN * max([5, *map(display_width, short)])


def svg_text(text: str, x: float, y: float, anchor: str, class_: str | None = None) -> Html:
    """Return a text of a picture."""
    return tag("text", text, x=_n(x), y=_n(y), text_anchor=anchor, class_=class_)


def _n(value: float) -> str:
    """Return a coordinate, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")


def side_by_side(*figures: Html) -> Html:
    """Return figures next to each other, if the page is wide enough."""
    return tag("div", join(*figures), class_="figures")
