"""Pictures of a search: convergence, fitness over each parameter, and the use of the ranks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rcdp_hpc.config import RangeSection
from rcdp_hpc.errors import InputError, RcdpError
from rcdp_hpc.evaluation.pictures import in_default_style, integer_ticks, legend_above, logarithmic, save_figure
from rcdp_hpc.evaluation.search_lines import Line, best_so_far, winner_of
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.search.records.efficiency import read_usage


@in_default_style
def draw_search(folder: Path) -> list[Path]:
    """Draw the pictures of a search and return their files.

    Parameters
    ----------
    folder : Path
        The folder of the search, which may still run. The function reads history.jsonl, generations.jsonl if it
        exists, and the scales of the parameters from the configuration of the run.

    Raises
    ------
    InputError
        If no generation is complete.
    """
    history = folder / "history.jsonl"
    lines = read_sealed_lines(history, growing=True)
    if not lines:
        raise InputError(f"{history}: no complete generation yet, so nothing can be drawn. Run `rcdp search` first.")
    complete = [line for line in lines if line.get("share", 1) == 1]  # fewer rows give fitness that is not comparable
    names = ("convergence.png", "parameters.png", "ranks.png")
    paths = [folder / name for name in names]
    scales = _scales(folder)
    figures = (_convergence(complete), _parameters(complete, list(lines[0]["values"]), scales), _ranks(folder, lines))
    for path, figure in zip(paths, figures, strict=True):
        save_figure(figure, path)
    return paths


def _scales(folder: Path) -> dict[str, RangeSection]:
    """Return the search space of the run's configuration, by parameter; empty if there is no configuration."""
    try:
        space = RunDirectory(folder.parent).config().search.space
    except RcdpError:
        return {}
    sections = {name: getattr(space, name) for name in type(space).model_fields}
    return {name: section for name, section in sections.items() if section is not None}


def _convergence(lines: list[Line]) -> Figure:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    generations, best, mean = best_so_far(lines)
    axes.plot(generations, best, "o-", markersize=3, label="best so far")
    axes.plot(generations, mean, ".-", alpha=0.7, label="mean of the generation")
    winner = winner_of(lines)
    if winner is not None:
        _mark(axes, winner["generation"], winner["fitness"])
    failed = sum(line["fitness"] is None for line in lines)
    axes.set(xlabel="generation", ylabel="fitness", title=f"{len(lines)} candidates, {failed} failed")
    integer_ticks(axes.xaxis, generations.tolist())
    legend_above(figure, axes)
    return figure


def _mark(axes: Axes, place: Any, fitness: float) -> None:
    axes.plot([place], [fitness], "*", color="C3", markersize=13, zorder=5, clip_on=False, label="winner")


def _parameters(lines: list[Line], names: list[str], scales: dict[str, RangeSection]) -> Figure:
    sound = [line for line in lines if line["fitness"] is not None]
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(max(4.5, 4.2 * columns), 3.2 * rows + 0.4), layout="constrained")
    grid: NDArray[Any] = np.atleast_1d(figure.subplots(rows, columns, sharey=True)).ravel()
    for axes, name in zip(grid, names, strict=False):
        _against_fitness(axes, name, sound, scales.get(name))
    for axes in grid[::columns]:
        axes.set_ylabel("fitness")
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    legend_above(figure, grid[0])
    return figure


def _against_fitness(axes: Axes, name: str, lines: list[Line], scale: RangeSection | None) -> None:
    values = [line["values"][name] for line in lines]
    axes.set(xlabel=name)
    if not values:
        return
    winner = max(lines, key=lambda line: line["fitness"])["values"][name]
    choices = _choices(values, scale)
    if choices is not None:
        values, winner = [choices.index(value) for value in values], choices.index(winner)
        axes.set_xticks(range(len(choices)), [f"{choice:g}" if _is_number(choice) else choice for choice in choices])
        axes.set_xlim(-0.5, len(choices) - 0.5)
    generation = [line["generation"] for line in lines]
    fitness = [line["fitness"] for line in lines]
    axes.scatter(values, fitness, c=generation, s=9, cmap="viridis", label="candidate (dark: early)")
    _mark(axes, winner, max(fitness))
    if choices is None:
        _scale(axes, values, scale)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _choices(values: list[Any], scale: RangeSection | None) -> list[Any] | None:
    """Return the choices of a parameter; None if it has bounds."""
    if scale is not None and scale.choices is not None and set(values) <= set(scale.choices):
        return list(scale.choices)
    return None if all(map(_is_number, values)) else sorted(set(values), key=str)


def _scale(axes: Axes, values: list[Any], scale: RangeSection | None) -> None:
    """Give the axis of a parameter the scale that it was searched on."""
    if scale is None:
        is_logarithmic = min(values) > 0 and max(values) > 30 * min(values)
    else:
        is_logarithmic = scale.log and min(values) > 0
    if is_logarithmic:
        logarithmic(axes.xaxis, values)
    elif all(isinstance(value, int) for value in values):
        integer_ticks(axes.xaxis, values)


def _ranks(folder: Path, lines: list[Line]) -> Figure:
    busy: dict[int, float] = {}
    for line in lines:
        rank = line["timing"]["rank"]
        if rank is not None:
            busy[rank] = busy.get(rank, 0.0) + line["timing"]["seconds"]
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.bar(list(busy), list(busy.values()))
    left.set(xlabel="rank (leader of its group)", ylabel="seconds evaluating", title="over all generations")
    integer_ticks(left.xaxis, list(busy))
    usages = read_usage(folder)
    right.plot([u.generation for u in usages], [100 * u.efficiency for u in usages], "o", markersize=3,
               label="efficiency")  # fmt: skip
    right.plot([u.generation for u in usages], [100 * u.overhead for u in usages], "o", markersize=3,
               label="no rank evaluating")  # fmt: skip
    right.set(xlabel="generation", ylabel="% of wall time", ylim=(0, 105), title="use of the ranks")
    integer_ticks(right.xaxis, [u.generation for u in usages])
    if usages:
        legend_above(figure, right)
    return figure
