"""Temperature and vector scaling: the softmax of scores that are scaled and shifted by class.

With scores x, factors a > 0 and offsets b, p = softmax(a x + b). Temperature scaling has one factor for all classes and
no offsets, vector scaling a factor and an offset for each class (Guo et al., "On calibration of modern neural
networks", 2017). For x = log p of a network, vector scaling is a Dirichlet calibration with a diagonal matrix (Kull et
al., "Beyond temperature scaling", 2019).

The parameters minimise the log loss plus a penalty that counts like a fixed number of rows, so that few rows of a class
change its factor and offset little. The targets are 1 - e for the true class and e in all, with e = 1 / (n + 2) for n
rows (as Platt, 1999): without them, rows that all are correct would have the factor infinity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from rcdp_hpc.model.calibration.scores import Floats, HeldOutScores

# Penalty of the squared logarithm of a class factor relative to the common one, and of a squared offset, in rows.
FACTOR_PENALTY = 1.0
OFFSET_PENALTY = 0.05
# Common factors that the fit starts from; the best of them begins.
STARTS = np.exp(np.linspace(-3.0, 5.0, 17))
LARGEST_LOG = 12.0


@dataclass(frozen=True, eq=False)
class ScaledScores:
    """The softmax of scaled and shifted scores.

    Attributes
    ----------
    method : {"temperature", "vector"}
    factors, offsets : ndarray of float64, shape (classes,)
    """

    method: str
    factors: Floats
    offsets: Floats

    def probabilities(self, scores: Floats) -> Floats:
        """Return calibrated probabilities, shape (rows, classes), of scores."""
        return softmax(scores * self.factors + self.offsets)

    def stored(self) -> dict[str, Any]:
        """Return the parameters as plain values."""
        return {"factors": self.factors.tolist(), "offsets": self.offsets.tolist()}

    def describe(self) -> str:
        """Return the parameters as text."""
        if self.method == "temperature":
            return f"temperature {1 / self.factors[0]:.4g}"
        low, high = self.offsets.min(), self.offsets.max()
        return f"factors {self.factors.min():.3g} to {self.factors.max():.3g}, offsets {low:.3g} to {high:.3g}"


def softmax(scores: Floats) -> Floats:
    """Return the softmax of each row."""
    values = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(values / values.sum(1, keepdims=True))


def fit_temperature(rows: HeldOutScores, near: ScaledScores | None = None) -> ScaledScores:
    """Return temperature scaling, fitted to held-out rows.

    Parameters
    ----------
    rows : HeldOutScores
    near : ScaledScores, optional
        The fit to rows that are almost the same, from which the search starts.
    """
    objective = _Objective(rows)
    zeros = np.zeros(objective.classes)

    def value(theta: Floats) -> tuple[float, Floats]:
        loss, gradient = objective.loss(np.exp(theta[0]), zeros, zeros)
        return loss, gradient[:1]

    start = objective.best_start() if near is None else float(near.factors[0])
    theta = _minimised(value, np.array([np.log(start)]))
    return ScaledScores("temperature", np.full(objective.classes, np.exp(theta[0])), zeros)


def fit_vector(rows: HeldOutScores, near: ScaledScores | None = None) -> ScaledScores:
    """Return vector scaling, fitted to held-out rows; parameters as `fit_temperature`."""
    objective = _Objective(rows)
    classes, count = objective.classes, len(rows.labels)
    penalties = np.repeat([0.0, FACTOR_PENALTY / count, OFFSET_PENALTY / count], [1, classes, classes])

    def value(theta: Floats) -> tuple[float, Floats]:
        loss, gradient = objective.loss(np.exp(theta[0]), theta[1 : 1 + classes], theta[1 + classes :])
        return loss + 0.5 * float(penalties @ theta**2), gradient + penalties * theta

    start = np.zeros(1 + 2 * classes)
    if near is None:
        start[0] = np.log(objective.best_start())
    else:
        start[0] = np.log(near.factors).mean()
        start[1:] = np.concatenate([np.log(near.factors) - start[0], near.offsets])
    theta = _minimised(value, start)
    return ScaledScores("vector", np.exp(theta[0] + theta[1 : 1 + classes]), theta[1 + classes :])


class _Objective:
    """The mean log loss of held-out rows, and its gradient."""

    def __init__(self, rows: HeldOutScores) -> None:
        count, self.classes = rows.scores.shape
        smoothing = 1 / (count + 2)
        self.scores = rows.scores
        self.targets = np.full((count, self.classes), smoothing / self.classes)
        self.targets[np.arange(count), rows.labels] += 1 - smoothing
        self.weights = rows.row_weights / count

    def loss(self, common: float, logs: Floats, offsets: Floats) -> tuple[float, Floats]:
        """Return the loss and its gradient by log(common), `logs` and `offsets`."""
        factors = common * np.exp(logs)
        values = self.scores * factors + offsets
        values -= values.max(1, keepdims=True)
        exponentials = np.exp(values)
        sums = exponentials.sum(1, keepdims=True)
        loss = float(self.weights @ (np.log(sums[:, 0]) - (self.targets * values).sum(1)))
        residuals = self.weights[:, None] * (exponentials / sums - self.targets)
        by_factor = (residuals * self.scores).sum(0) * factors
        return loss, np.concatenate([[by_factor.sum()], by_factor, residuals.sum(0)])

    def best_start(self) -> float:
        zeros = np.zeros(self.classes)
        losses = [self.loss(float(start), zeros, zeros)[0] for start in STARTS]
        return float(STARTS[int(np.argmin(losses))])


def _minimised(value: Any, start: NDArray[np.float64]) -> Floats:
    bounds = [(-LARGEST_LOG, LARGEST_LOG)] * len(start)
    options = {"maxiter": 300, "ftol": 1e-10, "gtol": 1e-6}
    return np.asarray(minimize(value, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x)
