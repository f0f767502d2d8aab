"""Exact leave-one-out errors of ridge regression, for many penalties from one eigendecomposition.

Features are standardised first: x -> (x - m) / d with the mean m and the standard deviation d of each feature over the
rows. With row weights w (sum W), sqrt(w)-scaled standardised features X, centred targets Y scaled alike, and lambda =
alpha · W, the fit is (X'X + lambda · I)^-1 X'Y, with an intercept that is not penalised. The leverage of a row is

    h_i = w_i / W + x_i' (X'X + lambda · I)^-1 x_i,

and its residual in a fit without the row, with the scale of the features and lambda unchanged, is exactly e_i / (1 -
h_i). For every lambda both follow from one eigendecomposition: of X'X if there are at most as many features as rows, of
XX' otherwise. Everything is computed in float64: with thousands of features, the rounding errors of float32 products
are as large as a small penalty.
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

# Columns that are standardised at a time if there are more features than rows: avoids a float64 copy of all columns.
BLOCK_COLUMNS = 1024
# A standard deviation below this share of the mean is float32 rounding: the feature counts as constant.
LEAST_VARIATION = 1e-6
# Lower bound of 1 - h_i: a row that alone determines the fit has no left-out score.
LEAST_FREEDOM = 1e-12


@dataclass(frozen=True)
class LeftOut:
    """The best of several ridge readouts by leave-one-out.

    Attributes
    ----------
    penalty : float
        The penalty with the smallest left-out error after the best common scaling of the scores
        (`rcdp_hpc.reservoir.ridge.scaled_error`); of equal errors the larger penalty.
    scores : numpy.ndarray, shape (rows, classes), float64
        Left-out scores: those of every row by the readout that is fitted without it.
    error : float
        Weighted mean over rows and classes of the squared difference between left-out scores and one-hot targets.
    accuracy : float
        Share of the rows whose largest left-out score is that of their class, without weights.
    readout : RidgeReadout
        Fitted to all rows, for raw features.
    errors : dict of float to float
        For every penalty, the mean error after scaling.
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
    """Fit ridge readouts with several penalties and return the best one by exact leave-one-out.

    Parameters
    ----------
    features : torch.Tensor or numpy.ndarray, shape (rows, F)
        Any float dtype.
    labels : array_like, shape (rows,)
        Class numbers.
    classes : int
    penalties : sequence of float
        Values of alpha > 0, per row and per standardised feature: alpha · n is added to the sum of squares of a
        feature, which is n over n rows.
    weights : array_like, shape (rows,), optional
        Weight of each row in the fit and in the error, above 0; default 1. Their sum replaces the number of rows.
    factors : array_like, shape (F,), optional
        Factor on each standardised feature, default 1: the penalty shrinks a feature with a larger factor less.

    Returns
    -------
    LeftOut

    Raises
    ------
    CandidateError
        If features are not finite, or there is only one row.

    Notes
    -----
    Time grows with rows · F · min(rows, F) + 10 · min(rows, F)³, and for every penalty with rows · min(rows, F) ·
    classes. The result depends only on the arguments and the number of threads.
    """
    problem = _Problem.of(features, labels, classes, weights, factors)
    scores, best, errors = problem.targets, (np.inf, 0.0), {}
    for penalty in sorted(penalties, reverse=True):
        left_out_scores = problem.left_out_scores(penalty)
        errors[penalty] = problem.scaled_error(left_out_scores)
        if errors[penalty] < best[0]:
            scores, best = left_out_scores, (errors[penalty], penalty)
    if not errors or not np.isfinite(best[0]):
        raise CandidateError(
            "the left-out error is not finite: check that the states are finite, and raise the penalties"
        )
    accuracy = float(np.mean(scores.argmax(axis=1) == problem.labels))
    return LeftOut(best[1], scores, problem.error(scores), accuracy, problem.readout(best[1]), errors)


def solve_rows(
    features: Any, labels: Any, classes: int, penalty: float, weights: Any = None, factors: Any = None
) -> RidgeReadout:
    """Fit the ridge readout that `left_out` fits to all rows, for one penalty, by Cholesky.

    Parameters
    ----------
    features, labels, classes, weights, factors
        As of `left_out`.
    penalty : float
        alpha, per row.

    Raises
    ------
    CandidateError
        If features are not finite, or rounding errors exceed the penalty.
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
    """Rows that are standardised and scaled by sqrt(weights) at each use.

    Attributes
    ----------
    features : torch.Tensor, shape (rows, F)
        Raw features.
    labels : numpy.ndarray, shape (rows,)
    targets : numpy.ndarray, shape (rows, classes), float64
    weights : numpy.ndarray, shape (rows,)
    roots : numpy.ndarray, shape (rows,)
        Square roots of the weights.
    means : numpy.ndarray, shape (F,)
        Weighted means.
    inverse : numpy.ndarray, shape (F,)
        Factor divided by the weighted standard deviation, 0 for a constant feature.
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
            raise CandidateError(f"{len(features)} row: leave-one-out needs at least two")
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
        """Yield blocks of columns of the standardised features, scaled by sqrt(weights)."""
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
        """Return weights for standardised features as a readout of raw features."""
        weights = solution * self.inverse[:, None]
        return RidgeReadout(weights, self.target_means - self.means @ weights)


@dataclass(frozen=True)
class _Problem:
    """An eigendecomposition, from which the fit with every penalty follows.

    Attributes
    ----------
    rows : _Rows
    values : numpy.ndarray, shape (r,)
        Eigenvalues l of X'X or XX', r = min(rows, F).
    vectors : numpy.ndarray
        The eigenvectors.
    dual : bool
        Whether they are those of XX'.
    rotated : numpy.ndarray, shape (rows, r)
        X · V = U · sqrt(l).
    squares : numpy.ndarray, shape (rows, r)
        Squares of `rotated`.
    crossed : numpy.ndarray, shape (r, classes)
        rotated' · Y.
    """

    rows: _Rows
    values: NDArray[np.float64]
    vectors: NDArray[np.float64]
    dual: bool
    rotated: NDArray[np.float64]
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
                f"the ridge readout cannot be solved ({error}): check that the states are finite"
            ) from None
        values = np.maximum(values, 0)
        rotated = vectors * np.sqrt(values) if dual else rows.all() @ vectors
        crossed = rotated.T @ rows.centred_targets
        return _Problem(rows, values, vectors, dual, rotated, np.square(rotated), crossed)

    @property
    def targets(self) -> NDArray[np.float64]:
        return self.rows.targets

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.rows.labels

    def left_out_scores(self, penalty: float) -> NDArray[np.float64]:
        """Return the scores of every row by the readout fitted without it, shape (rows, classes)."""
        rows, shrunk = self.rows, 1 / (self.values + penalty * self.rows.total)
        residuals = rows.centred_targets - self.rotated @ (self.crossed * shrunk[:, None])
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
        """Return the readout that is fitted to all rows with this penalty."""
        shrunk = 1 / (self.values + penalty * self.rows.total)
        if not self.dual:
            return self.rows.in_raw_features(self.vectors @ (self.crossed * shrunk[:, None]))
        targets = self.vectors.T @ self.rows.centred_targets
        return self.rows.in_raw_features(self.rows.times_transposed(self.vectors @ (targets * shrunk[:, None])))


def _moments(features: torch.Tensor, shares: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weighted mean of each feature, and 1 / its weighted standard deviation, 0 for a constant feature."""
    width = features.shape[1]
    means, deviations = np.empty(width), np.empty(width)
    for columns in _columns(width):
        block = features[:, columns].double().numpy()
        means[columns] = shares @ block
        with np.errstate(invalid="ignore"):  # values that are not finite are refused below
            deviations[columns] = np.sqrt(shares @ np.square(block - means[columns]))
    if not np.isfinite(deviations).all():
        raise CandidateError("the states are not finite")
    varies = deviations > LEAST_VARIATION * np.abs(means)
    return means, np.divide(1.0, deviations, out=np.zeros(width), where=varies)


def _columns(width: int) -> Iterator[slice]:
    for start in range(0, width, BLOCK_COLUMNS):
        yield slice(start, min(start + BLOCK_COLUMNS, width))
