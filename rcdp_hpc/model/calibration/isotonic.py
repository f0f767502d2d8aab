"""Isotonic regression of each class against the rest (Zadrozny and Elkan, 2002)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rcdp_hpc.model.calibration.scores import Floats, HeldOutScores


@dataclass(frozen=True, eq=False)
class IsotonicScores:
    """A non-decreasing function of the score of each class, scaled to the sum 1 over the classes.

    Attributes
    ----------
    places, values : list of ndarray of float64, one pair for each class
        The function is linear between the places, and constant before the first and after the last.
    """

    places: list[Floats]
    values: list[Floats]
    method: str = "isotonic"

    def probabilities(self, scores: Floats) -> Floats:
        """Return calibrated probabilities, shape (rows, classes), of scores."""
        columns = [
            np.interp(scores[:, number], places, values)
            for number, (places, values) in enumerate(zip(self.places, self.values, strict=True))
        ]
        each = np.stack(columns, axis=1)
        return np.asarray(each / each.sum(1, keepdims=True))

    def stored(self) -> dict[str, Any]:
        """Return the parameters as plain values."""
        return {"places": [one.tolist() for one in self.places], "values": [one.tolist() for one in self.values]}

    def describe(self) -> str:
        """Return the parameters as text."""
        return f"{sum(map(len, self.places))} places"


def fit_isotonic(rows: HeldOutScores, near: IsotonicScores | None = None) -> IsotonicScores:
    """Return isotonic regressions, fitted to held-out rows; `near` is not used.

    Values are at least 1 / (n + 2) over the number of classes for n rows, so that no class has the probability 0.
    """
    from sklearn.isotonic import IsotonicRegression

    count, classes = rows.scores.shape
    least = 1 / ((count + 2) * classes)
    places, values = [], []
    for number in range(classes):
        fitted = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
        fitted.fit(rows.scores[:, number], (rows.labels == number).astype(np.float64), sample_weight=rows.row_weights)
        places.append(np.asarray(fitted.X_thresholds_, np.float64))
        values.append(np.asarray(fitted.y_thresholds_, np.float64))
    return IsotonicScores(places, values)
