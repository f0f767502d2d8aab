"""Pictures of a search: convergence, each parameter against fitness, and how the ranks were used."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rcdp_hpc.errors import InputError
from rcdp_hpc.evaluation.pictures import save_figure
from rcdp_hpc.runtime.files import read_lines_if_any
from rcdp_hpc.search.efficiency import read_usage

Line = dict[str, Any]


def draw_search(folder: Path) -> list[Path]:
    """Draw the pictures of a search and return their files.

    Parameters
    ----------
    folder : Path
        Of the search, which may go on meanwhile: its history.jsonl is read, and generations.jsonl where there is one.

    Raises
    ------
    InputError
        If nothing was searched yet.
    """
    history = folder / "history.jsonl"
    lines = read_lines_if_any(history, growing=True)
    if not lines:
        raise InputError(f"{history}: no complete generation yet, so there is nothing to draw; run `rcdp search` first")
    whole = [line for line in lines if line.get("share", 1) == 1]  # what is judged by fewer rows is not comparable
    names = ("convergence.png", "parameters.png", "ranks.png")
    paths = [folder / name for name in names]
    figures = (_convergence(whole), _parameters(whole, list(lines[0]["values"])), _ranks(folder, lines))
    for path, figure in zip(paths, figures, strict=True):
        save_figure(figure, path)
    return paths


def best_so_far(lines: list[Line]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return generations, the best fitness up to each, and the mean fitness in each; NaN where all failed."""
    generations = np.unique([line["generation"] for line in lines])
    fitness = {int(generation): [math.nan] for generation in generations}
    for line in lines:
        if line["fitness"] is not None:
            fitness[line["generation"]].append(line["fitness"])
    best = np.array([np.max(fitness[g][1:], initial=-np.inf) for g in generations])
    mean = np.array([np.mean(fitness[g][1:]) if len(fitness[g]) > 1 else np.nan for g in generations])
    best = np.maximum.accumulate(best)
    return generations, np.where(np.isfinite(best), best, np.nan), mean


def _convergence(lines: list[Line]) -> Figure:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    generations, best, mean = best_so_far(lines)
    axes.plot(generations, best, "o-", markersize=3, label="best so far")
    axes.plot(generations, mean, "-", alpha=0.7, label="mean of the generation")
    failed = sum(line["fitness"] is None for line in lines)
    axes.set(xlabel="generation", ylabel="fitness", title=f"{len(lines)} candidates, {failed} failed")
    axes.legend()
    return figure


def _parameters(lines: list[Line], names: list[str]) -> Figure:
    sound = [line for line in lines if line["fitness"] is not None]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout="constrained")
    grid: NDArray[Any] = np.atleast_1d(figure.subplots(rows, columns, sharey=True)).ravel()
    for axes, name in zip(grid, names, strict=False):
        _against_fitness(axes, name, sound)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    return figure


def _against_fitness(axes: Axes, name: str, lines: list[Line]) -> None:
    values = [line["values"][name] for line in lines]
    generation = [line["generation"] for line in lines]
    axes.scatter(values, [line["fitness"] for line in lines], c=generation, s=9, cmap="viridis")
    numbers = [value for value in values if not isinstance(value, str)]
    if numbers and min(numbers) > 0 and max(numbers) > 30 * min(numbers):
        axes.set_xscale("log")
    axes.set(xlabel=name, ylabel="fitness (dark: early)")


def _ranks(folder: Path, lines: list[Line]) -> Figure:
    busy: dict[int, float] = {}
    for line in lines:
        rank = line["timing"]["rank"]
        if rank is not None:
            busy[rank] = busy.get(rank, 0.0) + line["timing"]["seconds"]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.bar(list(busy), list(busy.values()))
    left.set(xlabel="rank (leader of its group)", ylabel="seconds evaluating", title="over all generations")
    usages = read_usage(folder)
    right.plot([u.generation for u in usages], [100 * u.efficiency for u in usages], ".", label="efficiency")
    right.plot([u.generation for u in usages], [100 * u.overhead for u in usages], ".", label="no rank evaluating")
    right.set(xlabel="generation", ylabel="% of wall time", ylim=(0, 105), title="use of the ranks")
    if usages:
        right.legend()
    return figure
