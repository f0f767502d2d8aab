"""Pictures of a run: the confusion matrix, the training curve, the folds. The one door to matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.runtime.files import read_lines, write_atomic

matplotlib.use("Agg")

from matplotlib.figure import Figure

MOST_LABELS = 30


def draw_confusion(confusion: NDArray[np.int64], classes: list[str], path: Path) -> None:
    """Draw a confusion matrix, shaded by the share of each true class, counts in the cells.

    Parameters
    ----------
    confusion : ndarray, shape (classes, classes)
        Rows are true classes.
    classes : list of str
        Class names.
    path : Path
        The PNG file to write.
    """
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    size = min(12.0, 2.5 + 0.45 * len(classes))
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    accuracy = np.trace(confusion) / max(confusion.sum(), 1)
    axes.set(xlabel="predicted class", ylabel="true class", title=f"Test accuracy {100 * accuracy:.2f} %")
    if len(classes) <= MOST_LABELS:
        axes.set_xticks(range(len(classes)), classes, rotation=45 if max(map(len, classes)) > 3 else 0)
        axes.set_yticks(range(len(classes)), classes)
        for row, column in np.argwhere(confusion):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", color=colour, fontsize=8)
    save_figure(figure, path)


def draw_training(metrics: Path, path: Path) -> None:
    """Draw loss and accuracy over the epochs of a ``metrics.jsonl``."""
    epochs: list[dict[str, Any]] = read_lines(metrics)
    numbers = [entry["epoch"] + 1 for entry in epochs]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for split, label in (("train", "training"), ("validation", "validation")):
        loss.plot(numbers, [entry[f"{split}_loss"] for entry in epochs], label=label)
        accuracy.plot(numbers, [100 * entry[f"{split}_accuracy"] for entry in epochs], label=label)
    loss.set(xlabel="epoch", ylabel="loss", yscale="log")
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)")
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, path)


def draw_folds(measures: dict[str, list[float]], path: Path) -> None:
    """Draw what the folds of a cross-validation reached, a box and the folds themselves for each measure, in %.

    A box spans the quartiles with a line at the median; its whiskers reach to the last fold within 1.5 times the
    quartiles' distance (Tukey), and the triangle is the mean.
    """
    figure = Figure(figsize=(2.2 + 1.4 * len(measures), 3.6), layout="constrained")
    axes = figure.subplots()
    values = [100 * np.array(folds) for folds in measures.values()]
    axes.boxplot(values, widths=0.4, showmeans=True, showfliers=False)
    for place, folds in enumerate(values, 1):
        axes.plot(np.full(len(folds), place), folds, "o", markersize=4, alpha=0.6)
    axes.set_xticks(range(1, len(measures) + 1), list(measures))
    axes.set(ylabel="%", title=f"{len(values[0])} folds")
    axes.grid(axis="y", alpha=0.3)
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    write_atomic(path, lambda file: figure.savefig(file, format="png", dpi=120))


def draw_class_counts(classes: list[str], counts: dict[str, list[int]], path: Path) -> None:
    """Draw the rows of each class as bars side by side, one colour for each of `counts`."""
    figure = Figure(figsize=(min(14.0, 3 + 0.5 * len(classes)), 3.6), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(counts)
    for number, (name, values) in enumerate(counts.items()):
        axes.bar(np.arange(len(classes)) + (number - (len(counts) - 1) / 2) * width, values, width, label=name)
    axes.set(xlabel="class", ylabel="training rows", title="Before and after balancing")
    if len(classes) <= MOST_LABELS:
        axes.set_xticks(range(len(classes)), classes, rotation=45 if max(map(len, classes)) > 3 else 0)
    axes.legend()
    save_figure(figure, path)
