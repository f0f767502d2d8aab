"""The figures of the experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rcdp_hpc.comparison.results import Comparison, Timings
from rcdp_hpc.evaluation.pictures import in_default_style, integer_ticks, save_figure

# Loss of each epoch, by what the curve is of.
Curves = Mapping[str, Sequence[float]]


@in_default_style
def draw_losses(curves: Mapping[str, Curves], path: Path) -> None:
    """Draw Fig. 3: the training loss over the epochs, one panel for each data set.

    Parameters
    ----------
    curves : mapping
        By the title of the data set; its curves by their names.
    path : Path
        The file to write.
    """
    figure = Figure(figsize=(4.4 * len(curves), 3.4), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (title, named) in zip(panels, curves.items(), strict=True):
        for name, losses in named.items():
            axes.plot(np.arange(1, len(losses) + 1), losses, marker=".", label=name)
        axes.set(title=title, xlabel="epoch", ylabel="training loss")
        integer_ticks(axes.xaxis, [len(losses) for losses in named.values()])
        axes.legend(frameon=False)
    save_figure(figure, path)


@in_default_style
def draw_folds_by_method(comparison: Comparison, path: Path) -> None:
    """Draw Fig. 4: macro F1 of each fold, by method, with the mean over the folds."""
    methods = [one.name for one in comparison.methods if _values(comparison, one.name)]
    figure = Figure(figsize=(max(4.4, 0.8 * len(methods) + 1.5), 3.6), layout="constrained")
    axes = figure.subplots()
    for place, method in enumerate(methods):
        values = _values(comparison, method)
        axes.plot([place] * len(values), values, "o", color="tab:blue", alpha=0.6)
        axes.plot([place - 0.3, place + 0.3], [np.mean(values)] * 2, color="black")
    axes.set_xticks(range(len(methods)), methods, rotation=30, ha="right")
    axes.set(ylabel="macro F1 of a fold", title="Each fold, and the mean of the folds")
    save_figure(figure, path)


@in_default_style
def draw_utilisation(panels: Mapping[str, tuple[Comparison, Timings]], path: Path) -> None:
    """Draw how busy the processors were over the time of each method's first cell, one panel for each data set.

    Parameters
    ----------
    panels : mapping
        By the title of the data set.
    path : Path
        The file to write.
    """
    figure = Figure(figsize=(9.0, 2.9 * len(panels)), layout="constrained")
    for axes, (title, (comparison, timings)) in zip(
        figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True
    ):
        for method in comparison.methods:
            cells = [cell for cell in comparison.cells if cell.method == method.name and cell.name in timings.cells]
            use = timings.cells[cells[0].name].utilisation if cells else {}
            if len(use.get("over_time", ())) > 1:
                times = (np.arange(len(use["over_time"])) + 0.5) * use["every"]
                axes.plot(times, use["over_time"], label=method.name)
        axes.set(title=title, xlabel="seconds", ylabel="processors busy [%]", ylim=(0, None))
        axes.legend(frameon=False, ncols=2, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def _values(comparison: Comparison, method: str) -> list[float]:
    return [cell.measures["macro_f1"] for cell in comparison.cells if cell.done and cell.method == method]
