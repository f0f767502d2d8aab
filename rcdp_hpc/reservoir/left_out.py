"""Ridge regression judged by exact leave-one-out, for many penalties from one eigendecomposition.

Features are standardised first: x -> (x - m) / d with the mean m and the standard deviation d of each feature over the
rows. With row weights w (sum W), sqrt(w)-scaled standardised features X, centred targets Y scaled alike, and lambda =
alpha · W, the fit is (X'X + lambda · I)^-1 X'Y, with an intercept that is not penalised. The leverage of a row is

    h_i = w_i / W + x_i' (X'X + lambda · I)^-1 x_i,

and the residual that the row would have if everything but the scale of the features and lambda were fitted without
it is e_i / (1 - h_i), exactly. Both follow for every lambda from one eigendecomposition: of X'X if there are no more
features than rows, of XX' otherwise. All of it is in float64: with thousands of features a float32 product has rounding
errors as large as a small penalty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.ridge import RidgeReadout, one_hot, scaled_error, scaling_sums

# Columns that are standardised at once where features exceed rows: a copy of all of them in float64 is not needed.
COLUMNS_AT_ONCE = 1024
# A feature whose deviation is a smaller share of its mean does not vary beyond float32 rounding.
LEAST_VARIATION = 1e-6
# 1 - h_i is never taken to be less: a row that alone determines the fit has no left-out score.
LEAST_FREEDOM = 1e-12


@dataclass(frozen=True)
class LeftOut:
    """The best of several ridge readouts by leave-one-out.

    Attributes
    ----------
    penalty : float
        The one with the smallest left-out error after the best common scaling of the scores
        (`rcdp_hpc.reservoir.ridge.scaled_error`); of equals the larger.
    scores : numpy.ndarray, shape (rows, classes), float64
        Of every row, by the readout that is fitted without it.
    error : float
        Mean over rows (weighted) and classes of the squared difference between left-out scores and one-hot targets.
    accuracy : float
        Share of the rows whose largest left-out score is that of their class, not weighted.
    readout : RidgeReadout
        Fitted to all the rows, for features that are not standardised.
    errors : dict of float to float
        The error after scaling, a mean like `error`, for every penalty.
    """

    penalty: float
    scores: NDArray[np.float64]
    error: float
    accuracy: float
    readout: RidgeReadout
    errors: dict[float, float]


def left_out(
    features: Any,
    labels: Any,
    classes: int,
    penalties: Sequence[float],
    weights: Any = None,
    factors: Any = None,
) -> LeftOut:
    """Fit ridge readouts with several penalties and judge each by exact leave-one-out.

    Parameters
    ----------
    features : torch.Tensor or numpy.ndarray, shape (rows, F)
        Of any float dtype.
    labels : array_like, shape (rows,)
        Class numbers.
    classes : int
    penalties : sequence of float
        Values of alpha > 0, per row and per standardised feature: a feature of deviation 1 over n rows has the sum of
        squares n, next to which alpha · n is added.
    weights : array_like, shape (rows,), optional
        Weight of each row in the fit and in the error, above 0; default 1. Their sum stands for the number of rows.
    factors : array_like, shape (F,), optional
        What each standardised feature is multiplied by, default 1: the penalty holds a feature of a larger factor less.

    Returns
    -------
    LeftOut

    Raises
    ------
    CandidateError
        If features are not finite, or there is only one row.

    Notes
    -----
    Time grows with rows · F · min(rows, F) + 10 · min(rows, F)³, and for every penalty only with
    rows · min(rows, F) · classes. The result depends on the arguments and the thread count alone.
    """
    problem = _Problem.of(features, labels, classes, weights, factors)
    scores, best, errors = problem.targets, (np.inf, 0.0), {}
    for penalty in sorted(penalties, reverse=True):
        found = problem.left_out_scores(penalty)
        errors[penalty] = problem.scaled_error(found)
        if errors[penalty] < best[0]:
            scores, best = found, (errors[penalty], penalty)
    if not errors or not np.isfinite(best[0]):
        raise CandidateError("the left-out error is not finite: see that the states are, and raise the penalties")
    accuracy = float(np.mean(scores.argmax(axis=1) == problem.labels))
    return LeftOut(best[1], scores, problem.error(scores), accuracy, problem.readout(best[1]), errors)


def solve_rows(
    features: Any, labels: Any, classes: int, penalty: float, weights: Any = None, factors: Any = None
) -> RidgeReadout:
    """Fit the ridge readout that `left_out` fits to all rows, for one penalty and by Cholesky.

    Parameters
    ----------
    features, labels, classes, weights, factors
        As for `left_out`.
    penalty : float
        alpha, per row.

    Raises
    ------
    CandidateError
        If features are not finite, or the penalty is too small for rounding.
    """
    rows = _Rows.of(features, labels, classes, weights, factors)
    gram, dual = rows.gram()
    gram[np.diag_indices_from(gram)] += penalty * rows.total
    right = rows.centred_targets if dual else rows.times_transposed(rows.centred_targets)
    try:
        solved = scipy.linalg.solve(gram, right, assume_a="pos", overwrite_a=True)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise CandidateError(f"the ridge readout cannot be solved with a penalty of {penalty:g} ({error})") from None
    return rows.in_raw_features(rows.times_transposed(solved) if dual else solved)


@dataclass(frozen=True)
class _Rows:
    """Rows, standardised and scaled by sqrt(weights) whenever they are used.

    Attributes
    ----------
    features : torch.Tensor, shape (rows, F)
        As they came.
    labels : numpy.ndarray, shape (rows,)
    targets : numpy.ndarray, shape (rows, classes), float64
    weights, roots : numpy.ndarray, shape (rows,)
        The weights and their square roots.
    means, inverse : numpy.ndarray, shape (F,)
        Weighted mean, and the factor over the deviation, 0 for a feature that does not vary.
    """

    features: torch.Tensor
    labels: NDArray[np.int64]
    targets: NDArray[np.float64]
    weights: NDArray[np.float64]
    roots: NDArray[np.float64]
    means: NDArray[np.float64]
    inverse: NDArray[np.float64]

    @staticmethod
    def of(features: Any, labels: Any, classes: int, weights: Any, factors: Any = None) -> _Rows:
        features = torch.as_tensor(features).detach().cpu()
        labels = np.asarray(labels, dtype=np.int64)
        if features.ndim != 2 or len(labels) != len(features):
            raise ValueError(f"features {tuple(features.shape)} and labels {labels.shape} do not fit")
        if len(features) < 2:
            raise CandidateError(f"{len(features)} row: leave-one-out needs two at least")
        weights = np.ones(len(features)) if weights is None else np.asarray(weights, dtype=np.float64)
        if weights.shape != labels.shape or not (weights > 0).all():
            raise ValueError("every row needs a weight above 0")
        means, inverse = _moments(features, weights / weights.sum())
        if factors is not None:
            inverse = inverse * np.asarray(factors, dtype=np.float64)
        targets = one_hot(labels, classes).astype(np.float64)
        return _Rows(features, labels, targets, weights, np.sqrt(weights), means, inverse)

    @property
    def total(self) -> float:
        return float(self.weights.sum())

    @property
    def target_means(self) -> NDArray[np.float64]:
        return np.asarray(self.weights @ self.targets / self.total)

    @property
    def centred_targets(self) -> NDArray[np.float64]:
        return self.roots[:, None] * (self.targets - self.target_means)

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Yield the standardised features scaled by sqrt(weights), some columns at a time."""
        for columns in _columns(self.features.shape[1]):
            block = self.features[:, columns].double().numpy() - self.means[columns]
            block *= self.inverse[columns]
            block *= self.roots[:, None]
            yield columns, block

    def gram(self) -> tuple[NDArray[np.float64], bool]:
        """Return X'X, or XX' if that is smaller, and whether it is XX' (the dual form)."""
        count, width = self.features.shape
        if width <= count:
            x = self.all()
            return x.T @ x, False
        gram = np.zeros((count, count))
        for _, block in self.blocks():
            gram += block @ block.T
        return gram, True

    def all(self) -> NDArray[np.float64]:
        return np.concatenate([block for _, block in self.blocks()], axis=1)

    def times_transposed(self, right: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return X' · right."""
        product = np.empty((self.features.shape[1], right.shape[1]))
        for columns, block in self.blocks():
            product[columns] = block.T @ right
        return product

    def in_raw_features(self, solution: NDArray[np.float64]) -> RidgeReadout:
        """Return weights for standardised features as a readout of the features as they came."""
        weights = solution * self.inverse[:, None]
        return RidgeReadout(weights, self.target_means - self.means @ weights)


@dataclass(frozen=True)
class _Problem:
    """An eigendecomposition, and what follows from it for every penalty.

    Attributes
    ----------
    rows : _Rows
    values : numpy.ndarray, shape (r,)
        Eigenvalues l of X'X or XX', r = min(rows, F).
    vectors : numpy.ndarray
        The eigenvectors.
    dual : bool
        Whether they are of XX'.
    turned : numpy.ndarray, shape (rows, r)
        X · V, which is U · sqrt(l).
    squares : numpy.ndarray, shape (rows, r)
        Its squares.
    crossed : numpy.ndarray, shape (r, classes)
        turned' · Y.
    """

    rows: _Rows
    values: NDArray[np.float64]
    vectors: NDArray[np.float64]
    dual: bool
    turned: NDArray[np.float64]
    squares: NDArray[np.float64]
    crossed: NDArray[np.float64]

    @staticmethod
    def of(features: Any, labels: Any, classes: int, weights: Any, factors: Any = None) -> _Problem:
        rows = _Rows.of(features, labels, classes, weights, factors)
        gram, dual = rows.gram()
        try:
            values, vectors = scipy.linalg.eigh(gram, driver="evd", overwrite_a=True)
        except (np.linalg.LinAlgError, ValueError) as error:
            raise CandidateError(
                f"the ridge readout cannot be solved ({error}): see that the states are finite"
            ) from None
        values = np.maximum(values, 0)
        turned = vectors * np.sqrt(values) if dual else rows.all() @ vectors
        crossed = turned.T @ rows.centred_targets
        return _Problem(rows, values, vectors, dual, turned, np.square(turned), crossed)

    @property
    def targets(self) -> NDArray[np.float64]:
        return self.rows.targets

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.rows.labels

    def left_out_scores(self, penalty: float) -> NDArray[np.float64]:
        """Return the scores of every row by the readout fitted without it, shape (rows, classes)."""
        rows, shrunk = self.rows, 1 / (self.values + penalty * self.rows.total)
        residuals = rows.centred_targets - self.turned @ (self.crossed * shrunk[:, None])
        leverage = rows.weights / rows.total + self.squares @ shrunk
        freedom = np.maximum(1 - leverage, LEAST_FREEDOM) * rows.roots
        return np.asarray(rows.targets - residuals / freedom[:, None])

    def error(self, scores: NDArray[np.float64]) -> float:
        squared = np.square(scores - self.rows.targets).mean(axis=1)
        return float(self.rows.weights @ squared / self.rows.total)

    def scaled_error(self, scores: NDArray[np.float64]) -> float:
        rows = self.rows
        sums = scaling_sums(scores, rows.targets, rows.target_means, rows.weights)
        return scaled_error(*sums.tolist()) / (rows.total * scores.shape[1])

    def readout(self, penalty: float) -> RidgeReadout:
        """Return the readout that is fitted to all rows."""
        shrunk = 1 / (self.values + penalty * self.rows.total)
        if not self.dual:
            return self.rows.in_raw_features(self.vectors @ (self.crossed * shrunk[:, None]))
        targets = self.vectors.T @ self.rows.centred_targets
        return self.rows.in_raw_features(self.rows.times_transposed(self.vectors @ (targets * shrunk[:, None])))


def _moments(features: torch.Tensor, shares: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each feature's weighted mean, and 1 / its weighted deviation or 0 if it does not vary."""
    width = features.shape[1]
    means, deviations = np.empty(width), np.empty(width)
    for columns in _columns(width):
        block = features[:, columns].double().numpy()
        means[columns] = shares @ block
        with np.errstate(invalid="ignore"):  # what is not finite is refused below
            deviations[columns] = np.sqrt(shares @ np.square(block - means[columns]))
    if not np.isfinite(deviations).all():
        raise CandidateError("the states are not finite")
    varies = deviations > LEAST_VARIATION * np.abs(means)
    return means, np.divide(1.0, deviations, out=np.zeros(width), where=varies)


def _columns(width: int) -> Iterator[slice]:
    for start in range(0, width, COLUMNS_AT_ONCE):
        yield slice(start, min(start + COLUMNS_AT_ONCE, width))
