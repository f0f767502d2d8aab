"""The choice of a calibration: by the log loss of held-out rows, cross-validated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import InputError
from rcdp_hpc.model.calibration.isotonic import IsotonicScores, fit_isotonic
from rcdp_hpc.model.calibration.scaling import ScaledScores, fit_temperature, fit_vector
from rcdp_hpc.model.calibration.scores import Floats, HeldOutScores, calibration_error, log_loss, row_losses
from rcdp_hpc.runtime.threads import limit_threads

Calibrator = ScaledScores | IsotonicScores

# The least rows in all, and of each class, that a method is fitted to.
FEWEST: dict[str, tuple[int, int]] = {"temperature": (50, 0), "vector": (50, 5), "isotonic": (1000, 50)}
# Returns the calibration of rows; with a second argument, the search starts from that of almost the same rows.
Fit = Callable[..., Calibrator]
FITS: dict[str, Fit] = {
    "temperature": fit_temperature,
    "vector": fit_vector,
    "isotonic": fit_isotonic,
}
# "auto" tries these. Isotonic regression has to be asked for: it makes rows alike that the model tells apart, and no
# export format can hold it.
AUTO = ("temperature", "vector")
# Vector scaling of more classes has to be asked for: its fit takes minutes on one rank while the others wait.
MOST_AUTO_CLASSES = 100
FOLDS = 5
# More rows than these are thinned evenly: the parameters are few.
MOST_ROWS = 200_000
# Of each class a fit reads at most this number of rows, for a number of rows times classes, and no fewer than these.
MOST_NUMBERS, CLASS_ROWS = 250_000, 200
# Of many classes these are fewer, because a fit would take many minutes: at most this number of rows times classes.
LARGEST_FIT, FEWEST_CLASS_ROWS = 500_000, 5


@dataclass(frozen=True, eq=False)
class Calibration:
    """A fitted calibration.

    Attributes
    ----------
    calibrator : ScaledScores or IsotonicScores
    kind : str
        The rows: "validation" or "left-out".
    class_rows : list of int
        Rows of each class.
    before, after : dict of str to float
        ``log_loss`` and ``ece`` of the model itself, and calibrated, both of rows that were left out
        (`FOLDS` folds).
    """

    calibrator: Calibrator
    kind: str
    class_rows: list[int]
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.calibrator.method

    def probabilities(self, scores: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return calibrated probabilities of scores, shape (rows, classes)."""
        return self.calibrator.probabilities(np.asarray(scores, np.float64)).astype(np.float32)

    def describe(self) -> str:
        """Return the method, the rows and what it changed as text."""
        rows = f"{sum(self.class_rows)} {self.kind} rows"
        changes = [f"{name} {self.before[key]:.4f} -> {self.after[key]:.4f}" for key, name in MEASURES.items()]
        return f"{self.method} scaling on {rows} ({self.calibrator.describe()}): {', '.join(changes)}".replace(
            "isotonic scaling", "isotonic regression"
        )


MEASURES = {"log_loss": "log loss", "ece": "ECE"}


def refusal(method: str, class_rows: NDArray[np.integer[Any]], classes: list[str]) -> str:
    """Return why a method cannot be fitted to these rows; empty if it can be.

    Parameters
    ----------
    method : str
        A key of `FITS`.
    class_rows : ndarray of int, shape (classes,)
    classes : list of str
        Names of the classes.
    """
    total, each = FEWEST[method]
    if class_rows.sum() < total:
        return f"{class_rows.sum()} rows to calibrate by; {method!r} needs at least {total}"
    if np.count_nonzero(class_rows) < 2:
        return "the rows to calibrate by are all of one class"
    if class_rows.min() < each:
        name = classes[int(np.argmin(class_rows))]
        return f"{class_rows.min()} rows of class {name} to calibrate by; {method!r} needs at least {each} of each"
    return ""


def calibrate(method: str, rows: HeldOutScores, classes: list[str]) -> Calibration | None:
    """Fit a calibration to held-out rows.

    Parameters
    ----------
    method : str
        A key of `FITS`, or "auto": of those of `AUTO` that the rows allow, a later one is preferred to an earlier one,
        and the first to none, if its log loss of left-out rows is less by more than the standard error of the
        difference. Vector scaling is left out for more than `MOST_AUTO_CLASSES` classes.
    rows : HeldOutScores
    classes : list of str
        Names of the classes.

    Returns
    -------
    Calibration or None
        None if "auto" leaves the probabilities as they are.

    Raises
    ------
    InputError
        If there are too few rows for a method that is asked for by name.
    """
    if method != "auto" and (why := refusal(method, rows.class_rows, classes)):
        raise InputError(
            f"prediction.calibration = {method!r}: {why}. Choose prediction.calibration = 'auto', or a larger "
            "data.validation_fraction."
        )
    counts = rows.class_rows
    rows = thinned(rows)
    tried = AUTO if len(classes) <= MOST_AUTO_CLASSES else AUTO[:1]
    names = [name for name in (tried if method == "auto" else (method,)) if not refusal(name, counts, classes)]
    with limit_threads(1):  # so that the bits depend on the rows alone
        best: Calibrator | None = None
        measured = rows.raw
        for name in names:
            fitted = FITS[name](rows)
            left_out = _left_out(FITS[name], rows, fitted)
            if method != "auto" or _is_better(left_out, measured, rows):
                best, measured = fitted, left_out
    if best is None:
        return None
    return Calibration(best, rows.kind, counts.tolist(), _measured(rows.raw, rows), _measured(measured, rows))


def _is_better(found: Floats, before: Floats, rows: HeldOutScores) -> bool:
    """Return whether the log loss is less by more than the standard error of the mean difference."""
    weights = rows.row_weights
    gains = row_losses(before, rows.labels) - row_losses(found, rows.labels)
    mean = float(weights @ gains / weights.sum())
    error = float(np.sqrt(weights**2 @ (gains - mean) ** 2)) / weights.sum()
    return mean > error


def thinned(rows: HeldOutScores) -> HeldOutScores:
    """Return at most some rows of each class, at equal distances, with weights that keep the shares of the classes."""
    counts = rows.class_rows
    each = min(CLASS_ROWS, max(FEWEST_CLASS_ROWS, LARGEST_FIT // len(counts) ** 2))
    most = max(each, MOST_NUMBERS // len(counts) ** 2)
    if counts.max() <= most:
        return rows
    chosen = np.zeros(len(rows.labels), bool)
    for label in range(len(counts)):
        places = np.flatnonzero(rows.labels == label)
        chosen[places[np.linspace(0, len(places) - 1, min(most, len(places))).astype(np.int64)]] = True
    factors = np.maximum(counts, 1) / np.maximum(np.minimum(counts, most), 1)
    return replace(rows, weights=rows.row_weights * factors[rows.labels]).part(chosen)


def folds_of(labels: NDArray[np.int64], count: int = FOLDS) -> NDArray[np.int64]:
    """Return the fold of each row: the rows of each class are dealt to the folds in turn."""
    order = np.argsort(labels, kind="stable")
    sorted_labels = labels[order]
    places = np.arange(len(labels)) - np.searchsorted(sorted_labels, sorted_labels)
    folds = np.empty(len(labels), np.int64)
    folds[order] = (places + sorted_labels) % count
    return folds


def _left_out(fit: Fit, rows: HeldOutScores, near: Calibrator) -> Floats:
    """Return the probabilities of each row by the calibration that is fitted without its fold."""
    folds = folds_of(rows.labels)
    found = np.empty_like(rows.scores)
    for fold in range(FOLDS):
        held_out = folds == fold
        if held_out.any():
            found[held_out] = fit(rows.part(~held_out), near).probabilities(rows.scores[held_out])
    return found


def _measured(probabilities: Floats, rows: HeldOutScores) -> dict[str, float]:
    weights = rows.row_weights
    return {
        "log_loss": log_loss(probabilities, rows.labels, weights),
        "ece": calibration_error(probabilities, rows.labels, weights),
    }
