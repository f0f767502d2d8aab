"""Pictures of a run: confusion matrix, training curves, folds, class counts. Only this package imports matplotlib."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from rcdp_hpc.evaluation.confusion import WORST, worst_confusions
from rcdp_hpc.evaluation.epochs import best_epoch
from rcdp_hpc.evaluation.fonts import Labels, labels_of
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.runtime.files import write_atomic
from rcdp_hpc.runtime.text import display_width

# Up to this number of classes, each has its name on an axis; of more, only some are named next to the picture.
MOST_LABELS = 30
NAMED = 10
CELL = 0.45  # inches per class in the confusion matrix
COLUMN = 0.085  # inches per character of a label
DIGIT = 0.64  # width of a digit, in font sizes
SMALLEST_TEXT, LARGEST_TEXT = 5.5, 9.0
MOST_PIXELS = 250
FORMATS = ("png", "pdf", "svg")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_default_style(draw: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate a function so that it draws in matplotlib's default style and ignores the user's matplotlibrc."""

    @functools.wraps(draw)
    def styled(*arguments: Arguments.args, **keywords: Arguments.kwargs) -> Result:
        with matplotlib.style.context("default"), warnings.catch_warnings():
            # labels_of reports characters that fonts do not have.
            warnings.filterwarnings("ignore", message=".*(Glyph|natively)", category=UserWarning)
            return draw(*arguments, **keywords)

    return styled


@in_default_style
def draw_confusion(confusion: NDArray[np.int64], classes: list[str], path: Path) -> None:
    """Draw a confusion matrix, shaded by the share of each true class.

    Up to 30 classes have their names on the axes, and counts in cells that are large enough. For more classes, the most
    frequent confusions are listed next to the matrix.

    Parameters
    ----------
    confusion : ndarray, shape (classes, classes)
        Rows are true classes.
    classes : list of str
        Class names.
    path : Path
        The file to write.
    """
    accuracy = 100 * np.trace(confusion) / max(confusion.sum(), 1)
    title = f"Test accuracy {accuracy:.2f} % of {confusion.sum():,} samples"
    figure = _few_classes(confusion, classes, title) if len(classes) <= MOST_LABELS else None
    save_figure(figure or _many_classes(confusion, classes, title), path)


def _few_classes(confusion: NDArray[np.int64], classes: list[str], title: str) -> Figure:
    labels = labels_of(classes)
    label_inches = COLUMN * max(map(display_width, labels.texts))
    slanted = label_inches > CELL
    side = max(1.8, CELL * len(classes))
    height = side + (0.75 * label_inches if slanted else 0.2) + 1.1
    figure = Figure(figsize=(max(4.2, side + label_inches + 1.0), height), layout="constrained")
    axes = figure.subplots()
    share = _shares(confusion)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.suptitle(title, fontsize=11)
    _name_axis(axes, labels, slanted)
    axes.set_yticks(range(len(classes)), labels.texts, **labels.style)
    figure.draw_without_rendering()
    cell = 72 * axes.get_window_extent().width / figure.dpi / len(classes)
    for row, column in np.argwhere(confusion):
        count = str(confusion[row, column])
        size = min(LARGEST_TEXT, 0.9 * cell / (DIGIT * len(count)))
        if size >= SMALLEST_TEXT:
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=size)
    return figure


def _name_axis(axes: Axes, labels: Labels, slanted: bool) -> None:
    """Put names below an axis of classes."""
    rotation: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    axes.set_xticks(range(len(labels.texts)), labels.texts, **rotation, **labels.style)


def _many_classes(confusion: NDArray[np.int64], classes: list[str], title: str) -> Figure:
    worst = worst_confusions(confusion, classes, WORST)
    names = labels_of(list(classes)) if worst else Labels([], [])
    text_of = dict(zip(classes, names.texts, strict=False))
    figure = Figure(figsize=(12.5, 5.6), layout="constrained")
    matrix, bars = figure.subplots(1, 2, width_ratios=(5, 3))
    share, block = _pooled(_shares(confusion))
    count = len(classes)
    edges = (-0.5, share.shape[0] * block - 0.5, share.shape[0] * block - 0.5, -0.5)
    # The square root of the share makes a few wrong samples visible among a thousand classes.
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    matrix.imshow(share, cmap="Blues", norm=norm, extent=edges, interpolation="nearest")
    note = f"\neach point is the largest of {block} x {block} cells" if block > 1 else ""
    matrix.set(xlabel=f"number of the predicted class{note}", ylabel="number of the true class",
               xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5))  # fmt: skip
    for axis in (matrix.xaxis, matrix.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(title, fontsize=11)
    texts = [f"{text_of[one['true']]} → {text_of[one['predicted']]}" for one in worst]
    _bars(bars, texts, {"samples": [one["samples"] for one in worst]}, names)
    bars.set_title("confused most often: true → predicted" if worst else "no confusions", fontsize=10)
    return figure


def _shares(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    return shares


def _pooled(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Return the maximum of each square block of cells, so that single cells stay visible, and the side of a block."""
    block = math.ceil(len(values) / MOST_PIXELS)
    if block == 1:
        return values, 1
    size = math.ceil(len(values) / block)
    padded = np.zeros((size * block, size * block))
    padded[: len(values), : len(values)] = values
    pooled: NDArray[np.float64] = padded.reshape(size, block, size, block).max(axis=(1, 3))
    return pooled, block


def _bars(axes: Axes, texts: Sequence[str], measures: dict[str, list[int]], labels: Labels) -> None:
    """Draw named horizontal bars, the first at the top, with the values of `measures` next to each other."""
    places = np.arange(len(texts))
    width = 0.8 / len(measures)
    for number, (name, values) in enumerate(measures.items()):
        axes.barh(places + (number - (len(measures) - 1) / 2) * width, values, width, label=name, color=f"C{number}")
    axes.set_yticks(places, texts, fontsize=8, **labels.style)
    axes.set_ylim(max(len(texts), 1) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(next(iter(measures)) if len(measures) == 1 else "training rows")


@in_default_style
def draw_training(metrics: Path, path: Path) -> None:
    """Draw loss and accuracy over the epochs of a ``metrics.jsonl``, and mark the epoch of the best model."""
    epochs: list[dict[str, Any]] = read_sealed_lines(metrics)
    numbers = [entry["epoch"] + 1 for entry in epochs]
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    marker = "o" if len(epochs) < 20 else ""
    for split, label in (("train", "training"), ("validation", "validation")):
        shares = [100 * entry[f"{split}_accuracy"] for entry in epochs]
        loss.plot(numbers, [entry[f"{split}_loss"] for entry in epochs], label=label, marker=marker, markersize=3)
        accuracy.plot(numbers, shares, marker=marker, markersize=3)
    losses = [entry[name] for entry in epochs for name in ("train_loss", "validation_loss")]
    loss.set(xlabel="epoch", ylabel="loss")
    if losses and min(losses) > 0:
        logarithmic(loss.yaxis, losses)
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)")
    best = best_epoch(epochs)
    if best is not None:
        for axes, value in ((loss, best["validation_loss"]), (accuracy, 100 * best["validation_accuracy"])):
            axes.axvline(best["epoch"] + 1, color="grey", linestyle=":", linewidth=1, zorder=0)
            axes.plot([best["epoch"] + 1], [value], "*", color="C3", markersize=11, zorder=5, clip_on=False,
                      label=f"best model, epoch {best['epoch'] + 1}" if axes is loss else None)  # fmt: skip
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
        integer_ticks(axes.xaxis, numbers)
    legend_above(figure, loss)
    save_figure(figure, path)


def integer_ticks(axis: Any, values: Sequence[int]) -> None:
    """Put the ticks of an axis at integers only, also if all values are equal."""
    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if values and min(values) == max(values):
        limits = {"x": axis.axes.set_xlim, "y": axis.axes.set_ylim}[axis.axis_name]
        limits(min(values) - 1, max(values) + 1)
        axis.set_ticks([min(values)])


def logarithmic(axis: Any, values: Sequence[float]) -> None:
    """Give an axis of positive values a logarithmic scale, with ticks labelled 0.01 rather than 10^-2."""
    {"x": axis.axes.set_xscale, "y": axis.axes.set_yscale}[axis.axis_name]("log")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axis.set_major_formatter(plain)
    span = max(values) / min(values)
    # Less than two decades contain too few powers of ten to read a value.
    if span < 3:
        axis.set_major_locator(MaxNLocator(5))
    elif span < 100:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator() if span < 100 else LogLocator(subs="auto"))
    axis.set_minor_formatter(NullFormatter())


def legend_above(figure: Figure, axes: Axes) -> None:
    """Put the legend of `axes` above all axes of the figure, so that it covers no data."""
    handles, texts = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, texts, loc="outside upper center", ncols=len(handles), frameon=False)


@in_default_style
def draw_folds(measures: dict[str, list[float]], path: Path) -> None:
    """Draw the results of the folds of a cross-validation in %: a box and a point per fold for each measure.

    A box spans the quartiles, with a line at the median. The whiskers reach to the last fold within 1.5 times the
    interquartile range (Tukey). The triangle is the mean.
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
    """Write a figure atomically: as PDF or SVG if the file name ends so, otherwise as PNG."""
    suffix = path.suffix.lower().removeprefix(".")
    kind = suffix if suffix in FORMATS else "png"
    write_atomic(path, lambda file: figure.savefig(file, format=kind, dpi=120))


@in_default_style
def draw_class_counts(classes: list[str], counts: dict[str, list[int]], path: Path) -> None:
    """Draw the number of rows of each class as bars, one colour for each of `counts`.

    For more than 30 classes the counts are drawn as curves over the classes, sorted by the first of `counts`; the ten
    largest and the ten smallest classes are named.

    Parameters
    ----------
    classes : list of str
        Class names.
    counts : dict of str to list of int
        Rows of each class, by the name of the count ("before", "after").
    path : Path
        The file to write.
    """
    if len(classes) <= MOST_LABELS:
        save_figure(_few_counts(classes, counts), path)
    else:
        save_figure(_many_counts(classes, counts), path)


def _few_counts(classes: list[str], counts: dict[str, list[int]]) -> Figure:
    labels = labels_of(classes)
    label_inches = COLUMN * max(map(display_width, labels.texts))
    slanted = label_inches > CELL
    figure = Figure(
        figsize=(max(4.2, 1.5 + 0.5 * len(classes)), 3.8 + 0.75 * label_inches * slanted), layout="constrained"
    )
    axes = figure.subplots()
    width = 0.8 / len(counts)
    for number, (name, values) in enumerate(counts.items()):
        axes.bar(np.arange(len(classes)) + (number - (len(counts) - 1) / 2) * width, values, width, label=name)
    axes.set(xlabel="class", ylabel="training rows", xlim=(-0.6, len(classes) - 0.4))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _name_axis(axes, labels, slanted)
    legend_above(figure, axes)
    return figure


def _many_counts(classes: list[str], counts: dict[str, list[int]]) -> Figure:
    labels = labels_of(classes)
    first = np.array(next(iter(counts.values())))
    order = np.argsort(-first, kind="stable")
    figure = Figure(figsize=(12, 5.6), layout="constrained")
    curves, bars = figure.subplots(1, 2, width_ratios=(5, 3))
    for number, (name, values) in enumerate(counts.items()):
        curves.stairs(np.array(values)[order], baseline=0 if number == 0 else None, label=name,
                      color=f"C{number}", fill=number == 0, alpha=0.8)  # fmt: skip
    curves.set(xlabel=f"classes, sorted by their rows {next(iter(counts))} balancing", ylabel="training rows",
               xlim=(0, len(classes)), ylim=(0, None))  # fmt: skip
    for axis in (curves.xaxis, curves.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    named = [*order[:NAMED], *order[-NAMED:]]
    measures = {name: [values[label] for label in named] for name, values in counts.items()}
    _bars(bars, [labels.texts[label] for label in named], measures, labels)
    bars.axhline(NAMED - 0.5, color="grey", linestyle=":")
    bars.set_title(f"the {NAMED} largest and the {NAMED} smallest", fontsize=10)
    legend_above(figure, curves)
    return figure
