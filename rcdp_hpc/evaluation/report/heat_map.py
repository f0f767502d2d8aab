"""A confusion matrix as SVG, legible from two classes to thousands."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.evaluation.report.axes import Scale
from rcdp_hpc.evaluation.report.charts import COLUMN, WIDTH, picture, svg_text
from rcdp_hpc.evaluation.report.html import Html, tag
from rcdp_hpc.runtime.text import display_width, plain_name, shorten

# Up to this number of classes the axes have names, and cells have counts.
NAMED_CLASSES = 20
# More rows than this are pooled: each point then is the largest of several cells.
MOST_ROWS = 150
SHADES = 24
NAME_COLUMNS = 14
# White to dark blue; in grey, a darker cell is still a larger share.
LIGHT, DARK = (247, 251, 255), (8, 48, 107)


def heat_map(fact: str, confusion: NDArray[np.int64], classes: Sequence[str]) -> Html:
    """Return a confusion matrix, each row shaded by the share of the samples of its true class.

    The shade follows the square root of the share, so that a few wrong samples are visible.
    """
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    pooled, block = pooled_by_maximum(shares)
    has_names = len(classes) <= NAMED_CLASSES
    names = [shorten(plain_name(name), NAME_COLUMNS, "…") for name in classes] if has_names else []
    margin = 30 + max([COLUMN * display_width(name) for name in names], default=24.0)
    side = WIDTH - margin - 8
    cell = side * block / len(classes)
    parts = [tag("rect", x=margin, y=8, width=side, height=side, fill=_colour(0.0))]
    parts += _cells(pooled, margin, cell, side)
    if has_names:
        parts += _names_and_counts(confusion, shares, names, margin, cell)
    else:
        parts += _numbers(len(classes), margin, side)
    height = 8 + side + (margin if has_names else 24) + 12
    parts.append(svg_text("predicted class", margin + side / 2, height - 3, "middle"))
    across = f"translate(11 {8 + side / 2:.0f}) rotate(-90)"
    parts.append(tag("text", "true class", transform=across, text_anchor="middle"))
    parts.append(tag("rect", x=margin, y=8, width=side, height=side, fill="none", class_="axis"))
    caption = (
        "Confusion matrix. The darker a cell, the larger its share of the samples of the true class (square root)."
    )
    if not has_names:
        caption += " The axes show the numbers of the classes, from 0, in the order of the data."
    if block > 1:
        caption += f" Each point is the largest of {block} x {block} cells."
    return tag("div", picture(fact, caption, parts, height), class_="square")


def pooled_by_maximum(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Return the maximum of each square block of cells, so that single cells stay visible, and the side of a block."""
    block = math.ceil(len(values) / MOST_ROWS)
    size = math.ceil(len(values) / block)
    padded = np.zeros((size * block, size * block))
    padded[: len(values), : len(values)] = values
    pooled: NDArray[np.float64] = padded.reshape(size, block, size, block).max(axis=(1, 3))
    return pooled, block


def _cells(shares: NDArray[np.float64], margin: float, cell: float, side: float) -> list[Html]:
    """Return a path for each shade; cells of one shade next to each other are one rectangle."""
    shades = np.ceil(np.sqrt(shares) * SHADES).astype(int)
    paths: dict[int, list[str]] = {}
    for row, line in enumerate(shades):
        edges = np.flatnonzero(np.diff(line, prepend=-1, append=-1))
        for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            if line[start]:
                paths.setdefault(int(line[start]), []).append(f"M{start} {row}h{stop - start}v1h-{stop - start}z")
    across = f"translate({margin} 8) scale({cell:.5g})"
    return [
        tag("path", d="".join(path), fill=_colour(shade / SHADES), transform=across, shape_rendering="crispEdges")
        for shade, path in sorted(paths.items())
    ]


def _colour(share: float) -> str:
    red, green, blue = (round(light + share * (dark - light)) for light, dark in zip(LIGHT, DARK, strict=True))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _names_and_counts(
    confusion: NDArray[np.int64], shares: NDArray[np.float64], names: Sequence[str], margin: float, cell: float
) -> list[Html]:
    side = cell * len(names)
    parts = []
    for place, name in enumerate(names):
        middle = (place + 0.5) * cell
        parts.append(svg_text(name, margin - 5, 8 + middle + 4, "end"))
        if max(map(display_width, names)) * COLUMN > cell:
            across = f"translate({margin + middle + 4:.1f} {8 + side + 8:.1f}) rotate(-60)"
            parts.append(tag("text", name, transform=across, text_anchor="end"))
        else:
            parts.append(svg_text(name, margin + middle, 8 + side + 13, "middle"))
    for row, column in np.argwhere(confusion).tolist():
        text = str(confusion[row, column])
        size = min(12.0, 1.5 * cell / len(text))
        if size < 5:
            continue
        colour = "#fff" if math.sqrt(shares[row, column]) > 0.55 else "#111"
        at = {"x": f"{margin + (column + 0.5) * cell:.1f}", "y": f"{8 + (row + 0.5) * cell + size / 3:.1f}"}
        parts.append(tag("text", text, **at, text_anchor="middle", style=f"font-size:{size:.3g}px;fill:{colour}"))
    return parts


def _numbers(count: int, margin: float, side: float) -> list[Html]:
    parts = []
    for value, text in Scale(0, count - 1, 0, side, False).ticks():
        at = (value + 0.5) * side / count
        parts.append(svg_text(text, margin + at, 8 + side + 14, "middle"))
        parts.append(svg_text(text, margin - 5, 8 + at + 4, "end"))
    return parts
