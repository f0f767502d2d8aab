"""The confusion matrix of a test in the report and in the log, for a few classes and for thousands."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.evaluation.score_record import score_record
from rcdp_hpc.model.criteria.confusion import Counts
from rcdp_hpc.model.criteria.measured import Measured, measure_confusion
from rcdp_hpc.model.criteria.paired import confusion_criteria
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.sealed_zip import open_sealed_zip, write_sealed_zip
from rcdp_hpc.runtime.text import display_width, pad, plain_name, shorten

# Up to this number of classes the summary has the whole matrix; of more classes its largest cells.
DENSE_CLASSES = 100
MOST_CELLS = 10_000
WORST = 20
# Up to this number of classes the log has a line for each; of more classes it lists the most frequent confusions.
LINES = 20
NAME_COLUMNS = 30
FILE = "confusion.npz"
CELLS = ("true", "predicted", "samples")


def result_of_test(
    confusion: NDArray[np.int64], classes: Sequence[str], measured: Measured | None = None
) -> dict[str, Any]:
    """Return the scores of a test for ``summary.json`` (docs/formats.md).

    Parameters
    ----------
    confusion : ndarray, shape (classes, classes)
        Rows are true classes.
    classes : sequence of str
        Class names.
    measured : Measured, optional
        Criteria of the same test, with those of scores and probabilities.

    Returns
    -------
    dict
        ``samples``, ``correct``; the criteria that `score_record` returns, by default those of the matrix; ``absent``,
        names of classes without test samples; ``worst_confusions``; ``confusion`` as `compact` returns it.
    """
    return {
        "samples": int(confusion.sum()),
        "correct": int(np.trace(confusion)),
        **score_record(measure_confusion(confusion, classes) if measured is None else measured),
        "absent": [classes[label] for label in np.flatnonzero(confusion.sum(1) == 0).tolist()],
        "worst_confusions": worst_confusions(confusion, classes),
        "confusion": compact(confusion),
    }


def baseline_scores(confusion: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Any]:
    """Return ``samples``, ``correct`` and the criteria of the confusion matrix of a baseline; None if undefined."""
    counts = Counts.of_matrix(confusion)
    values = {one.name: float(one.of_counts(counts)) for one in confusion_criteria(classes)}
    return {
        "samples": int(confusion.sum()),
        "correct": int(np.trace(confusion)),
        **{name: None if np.isnan(value) else value for name, value in values.items()},
    }


def worst_confusions(confusion: NDArray[np.int64], classes: Sequence[str], most: int = WORST) -> list[dict[str, Any]]:
    """Return the most frequent confusions of two classes, most frequent first.

    Returns
    -------
    list of dict
        ``true`` and ``predicted``, names of classes; ``samples``, their number; ``share`` of the true class's samples.
    """
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    rows, columns = _largest(wrong, most)
    totals = confusion.sum(1)
    return [
        {
            "true": classes[row],
            "predicted": classes[column],
            "samples": int(wrong[row, column]),
            "share": round(float(wrong[row, column] / totals[row]), 6),
        }
        for row, column in zip(rows, columns, strict=True)
    ]


def _largest(matrix: NDArray[np.int64], most: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns of the largest cells above 0, largest first; equal cells in the order of the rows."""
    rows, columns = np.nonzero(matrix)
    order = np.argsort(-matrix[rows, columns], kind="stable")[:most]
    return rows[order], columns[order]


def compact(confusion: NDArray[np.int64]) -> list[list[int]] | dict[str, Any]:
    """Return a confusion matrix for a JSON file: a list of rows, or for many classes a list of cells.

    Returns
    -------
    list of list of int, or dict
        The dict is for more than 100 classes: ``true``, ``predicted`` (class numbers) and ``samples`` of each cell, in
        the order of the rows: the diagonal and the 10,000 largest other cells; ``left_out``, the number of samples in
        other cells; ``file``, the file with all cells.
    """
    if len(confusion) <= DENSE_CLASSES:
        rows: list[list[int]] = confusion.tolist()
        return rows
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    largest = np.diag(np.diag(confusion))
    places = _largest(wrong, MOST_CELLS)
    largest[places] = wrong[places]
    true, predicted = np.nonzero(largest)
    return {
        "classes": len(confusion),
        "true": true.tolist(),
        "predicted": predicted.tolist(),
        "samples": largest[true, predicted].tolist(),
        "left_out": int(confusion.sum() - largest.sum()),
        "file": FILE,
    }


def write_cells(confusion: NDArray[np.int64], folder: Path) -> None:
    """Write all cells that are not 0 to ``confusion.npz``; up to 100 classes, only remove an earlier file."""
    path = folder / FILE
    if len(confusion) <= DENSE_CLASSES:
        with os_errors_explained(path):
            path.unlink(missing_ok=True)
        return
    true, predicted = np.nonzero(confusion)
    samples = confusion[true, predicted]
    buffer = io.BytesIO()
    np.savez(buffer, true=true, predicted=predicted, samples=samples)
    write_sealed_zip(path, lambda file: file.write(buffer.getbuffer()))


def read_confusion(content: Any, folder: Path) -> NDArray[np.int64]:
    """Return the whole confusion matrix of a report.

    Parameters
    ----------
    content : list or dict
        As `compact` returns it.
    folder : Path
        The folder in which `write_cells` wrote its file.

    Returns
    -------
    ndarray of int64, shape (classes, classes)

    Raises
    ------
    DataDamagedError
        If the file of cells is damaged, or does not fit the number of classes.
    """
    if isinstance(content, list):
        return np.array(content, np.int64)
    confusion = np.zeros((content["classes"], content["classes"]), np.int64)
    cells = _cells(folder / FILE, len(confusion)) if content["left_out"] else content
    confusion[cells["true"], cells["predicted"]] = cells["samples"]
    return confusion


def _cells(path: Path, classes: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file of `write_cells`, checked for this number of classes."""
    with open_sealed_zip(path) as file:
        try:
            with np.load(file, allow_pickle=False) as content:
                cells = {name: content[name].astype(np.int64, casting="safe") for name in CELLS}
        except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise DataDamagedError(f"{path}: not the cells of a confusion matrix ({error}). Evaluate again.") from None
    sizes = {values.shape for values in cells.values()}
    inside = all(values.min(initial=0) >= 0 for values in cells.values())
    if len(sizes) != 1 or not inside or any(cells[name].max(initial=0) >= classes for name in CELLS[:2]):
        raise DataDamagedError(f"{path}: its cells do not fit a matrix of {classes} classes. Evaluate again.")
    return cells


def class_lines(result: dict[str, Any], confusion: NDArray[np.int64], classes: Sequence[str]) -> list[str]:
    """Return lines for the log: a table of the scores of each class, or for many classes the worst confusions."""
    if len(classes) > LINES:
        return _confusion_lines(result["worst_confusions"])
    names = [plain_name(name) for name in classes]
    width = min(NAME_COLUMNS, max(5, *map(display_width, names)))
    lines = [f"  {'class':<{width}}  precision  recall      F1  samples"]
    counts = confusion.sum(1).tolist()
    columns = (result["precision"], result["recall"], result["f1"], counts)
    for name, precision, recall, f1, count in zip(names, *columns, strict=True):
        lines.append(f"  {pad(name, width)}  {_score(precision):>9}  {_score(recall):>6}  {_score(f1):>6}  {count:>7}")
    return lines


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _confusion_lines(worst: list[dict[str, Any]]) -> list[str]:
    if not worst:
        return []
    width = 26
    lines = ["  confused most often:", f"  {'true class':<{width}}  {'predicted':<{width}}  samples  share"]
    for one in worst[:10]:
        true, predicted = (pad(plain_name(one[name]), width) for name in ("true", "predicted"))
        lines.append(f"  {true}  {predicted}  {one['samples']:>7}  {100 * one['share']:3.0f} %")
    return lines


def named(classes: Sequence[str], most: int = 10) -> list[str]:
    """Return class names for a message; for many classes the first `most` and the number of others."""
    names = [shorten(plain_name(name), NAME_COLUMNS) for name in classes[:most]]
    return [*names, f"and {len(classes) - most} more"] if len(classes) > most else names
