"""Exact leave-one-out errors of ridge regression, for many penalties from one eigendecomposition.

Features are standardised first: x -> (x - m) / d with the mean m and the standard deviation d of each feature over the
rows. With row weights w (sum W), sqrt(w)-scaled standardised features X, centred targets Y scaled alike, and lambda =
alpha · W, the fit is (X'X + lambda · I)^-1 X'Y, with an intercept that is not penalised. The leverage of a row is

    h_i = w_i / W + x_i' (X'X + lambda · I)^-1 x_i,

and its residual in a fit without the row, with the scale of the features and lambda unchanged, is exactly e_i / (1 -
h_i). For every lambda both follow from one eigendecomposition: of X'X if there are at most as many features as rows, of
XX' otherwise. Everything is computed in float64: with thousands of features, the rounding errors of float32 products
are as large as a small penalty. Features on a GPU stay there, and so do the scores of all penalties but the best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.array_library import Array, ArrayLibrary, library_for
from rcdp_hpc.reservoir.device_sums import sums_device
from rcdp_hpc.reservoir.fold_residuals import fold_residuals, rows_of_folds
from rcdp_hpc.reservoir.ridge import RidgeReadout, comparable_worth, one_hot, scaled_error

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
        (`rcdp_hpc.reservoir.ridge.scaled_error`), or of the largest worth; of equal errors the larger penalty.
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
    fold_scores : numpy.ndarray, shape (rows, classes), float64, or None
        With folds: the scores of every row by the readout that is fitted without its fold, with the same penalty.
    worth : float or None
        Largest worth; None if the error alone decides.
    """

    penalty: float
    scores: NDArray[np.float64]
    error: float
    accuracy: float
    readout: RidgeReadout
    errors: dict[float, float]
    fold_scores: NDArray[np.float64] | None = None
    worth: float | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """What is largest for the best of several: worth, then minus the error after scaling."""
        return self.worth or 0.0, -self.errors[self.penalty]


def left_out(
    features: Any,
    labels: Any,
    classes: int,
    penalties: Sequence[float],
    weights: Any = None,
    factors: Any = None,
    device: torch.device | None = None,
    folds: NDArray[np.integer] | None = None,
    worth: Callable[[NDArray[np.float64]], float] | None = None,
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
    device : torch.device, optional
        Where torch computes; by default the GPU of the features. Features on the CPU are solved by LAPACK.
    folds : numpy.ndarray, shape (rows,), optional
        Fold of each row, from 0; the result then has `fold_scores`, at little more cost.
    worth : callable, optional
        Returns a number for left-out scores, shape (rows, classes), on the host; the penalty with the largest number is
        the best. By default it is the one with the least error after scaling, which also decides between equal numbers.

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
    problem = _Problem.of(_Rows.of(features, labels, classes, weights, factors, device))
    rows = problem.rows
    scores, best, chosen = rows.targets, (-np.inf, -np.inf), 0.0
    errors: dict[float, float] = {}
    for penalty in sorted(penalties, reverse=True):
        left_out_scores = problem.left_out_scores(penalty)
        errors[penalty] = problem.scaled_error(left_out_scores)
        value = 0.0 if worth is None else comparable_worth(worth(rows.library.host(left_out_scores)))
        if np.isfinite(errors[penalty]) and (value, -errors[penalty]) > best:
            scores, best, chosen = left_out_scores, (value, -errors[penalty]), penalty
    if not np.isfinite(best[1]):
        raise CandidateError(
            "the left-out error is not finite: check that the states are finite, and raise the penalties"
        )
    accuracy = float(np.mean(rows.library.host(scores.argmax(axis=1)) == rows.labels))
    found = rows.library.host(scores)
    of_folds = None if folds is None else problem.fold_scores(chosen, folds)
    largest = None if worth is None else best[0]
    readout = problem.readout(chosen)
    return LeftOut(chosen, found, problem.error(scores), accuracy, readout, errors, of_folds, largest)


def left_out_bytes(rows: int, features: int) -> int:
    """Return the bytes that `left_out` needs on a device besides the features."""
    smaller = min(rows, features)
    # X, its product with the eigenvectors and the squares of that, or blocks of X; X'X or XX', and what `eigh` needs.
    wide = 3 * rows * smaller + (rows * features if features <= rows else rows * BLOCK_COLUMNS)
    return 8 * (wide + 6 * smaller**2)


def solve_rows(
    features: Any,
    labels: Any,
    classes: int,
    penalty: float,
    weights: Any = None,
    factors: Any = None,
    device: torch.device | None = None,
) -> RidgeReadout:
    """Fit the ridge readout that `left_out` fits to all rows, for one penalty, by Cholesky.

    Parameters
    ----------
    features, labels, classes, weights, factors, device
        As of `left_out`.
    penalty : float
        alpha, per row.

    Raises
    ------
    CandidateError
        If features are not finite, or rounding errors exceed the penalty.
    """
    rows = _Rows.of(features, labels, classes, weights, factors, device)
    gram, dual = rows.gram()
    diagonal = rows.library.diagonal(gram)
    diagonal += penalty * rows.total
    right = rows.centred_targets if dual else rows.times_transposed(rows.centred_targets)
    try:
        solved = rows.library.solve(gram, right)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise CandidateError(f"the ridge readout cannot be solved with a penalty of {penalty:g} ({error})") from None
    return rows.in_raw_features(rows.times_transposed(solved) if dual else solved)


def products_of_rows(
    features: Any, labels: NDArray[np.integer], classes: int, weights: Any = None
) -> NDArray[np.float64]:
    """Return XX' of standardised features, each row times the root of its weight, for fewer rows than features.

    Parameters
    ----------
    features, labels, classes, weights
        As of `left_out`.

    Returns
    -------
    numpy.ndarray, shape (rows, rows), float64

    Raises
    ------
    CandidateError
        If features are not finite.
    """
    rows = _Rows.of(features, labels, classes, weights, None, None)
    products, dual = rows.gram()
    if not dual:
        raise ValueError("there are as many rows as features, or more")
    return rows.library.host(products)


@dataclass(frozen=True)
class _Rows:
    """Rows that are standardised and scaled by sqrt(weights) at each use.

    Attributes
    ----------
    library : ArrayLibrary
        Of all arrays below except the features and the labels.
    features : torch.Tensor, shape (rows, F)
        Raw features.
    labels : numpy.ndarray, shape (rows,)
    targets : array, shape (rows, classes)
    weights : array, shape (rows,)
    total : float
        Sum of the weights.
    roots : array, shape (rows,)
        Square roots of the weights.
    means : array, shape (F,)
        Weighted means.
    inverse : array, shape (F,)
        Factor divided by the weighted standard deviation, 0 for a constant feature.
    """

    library: ArrayLibrary
    features: torch.Tensor
    labels: NDArray[np.int64]
    targets: Array
    weights: Array
    total: float
    roots: Array
    means: Array
    inverse: Array

    @staticmethod
    def of(features: Any, labels: Any, classes: int, weights: Any, factors: Any, device: torch.device | None) -> _Rows:
        features = torch.as_tensor(features).detach()
        library = library_for(device or sums_device(features.device))
        features = features.to(library.device)
        labels = np.asarray(labels, dtype=np.int64)
        if features.ndim != 2 or len(labels) != len(features):
            raise ValueError(f"features {tuple(features.shape)} and labels {labels.shape} do not fit")
        if len(features) < 2:
            raise CandidateError(f"{len(features)} row: leave-one-out needs at least two")
        weights = np.ones(len(features)) if weights is None else np.asarray(weights, dtype=np.float64)
        if weights.shape != labels.shape or not (weights > 0).all():
            raise ValueError("every row needs a weight above 0")
        means, inverse = _moments(library, features, library.array(weights / weights.sum()))
        if factors is not None:
            inverse = inverse * library.array(factors)
        targets = library.array(one_hot(labels, classes))
        roots = library.array(np.sqrt(weights))
        total = float(weights.sum())
        return _Rows(library, features, labels, targets, library.array(weights), total, roots, means, inverse)

    @property
    def target_means(self) -> Array:
        return self.weights @ self.targets / self.total

    @property
    def centred_targets(self) -> Array:
        return self.roots[:, None] * (self.targets - self.target_means)

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yield blocks of columns of the standardised features, scaled by sqrt(weights)."""
        for columns in _columns(self.features.shape[1]):
            block = self.library.array(self.features[:, columns]) - self.means[columns]
            block *= self.inverse[columns]
            block *= self.roots[:, None]
            yield columns, block

    def gram(self) -> tuple[Array, bool]:
        """Return X'X, or XX' if that is smaller, and whether it is XX' (the dual form)."""
        count, width = self.features.shape
        if width <= count:
            x = self.all()
            return x.T @ x, False
        gram = self.library.zeros(count, count)
        for _, block in self.blocks():
            gram += block @ block.T
        return gram, True

    def all(self) -> Array:
        return self.library.concatenate([block for _, block in self.blocks()], axis=1)

    def times_transposed(self, right: Array) -> Array:
        """Return X' · right."""
        product = self.library.zeros(self.features.shape[1], right.shape[1])
        for columns, block in self.blocks():
            product[columns] = block.T @ right
        return product

    def in_raw_features(self, solution: Array) -> RidgeReadout:
        """Return weights for standardised features as a readout of raw features."""
        weights = solution * self.inverse[:, None]
        intercept = self.target_means - self.means @ weights
        return RidgeReadout(self.library.host(weights), self.library.host(intercept))


@dataclass(frozen=True)
class _Problem:
    """An eigendecomposition, from which the fit with every penalty follows.

    Attributes
    ----------
    rows : _Rows
    values : array, shape (r,)
        Eigenvalues l of X'X or XX', r = min(rows, F).
    vectors : array
        The eigenvectors.
    dual : bool
        Whether they are those of XX'.
    rotated : array, shape (rows, r)
        X · V = U · sqrt(l).
    squares : array, shape (rows, r)
        Squares of `rotated`.
    crossed : array, shape (r, classes)
        rotated' · Y.
    """

    rows: _Rows
    values: Array
    vectors: Array
    dual: bool
    rotated: Array
    squares: Array
    crossed: Array

    @staticmethod
    def of(rows: _Rows) -> _Problem:
        library = rows.library
        gram, dual = rows.gram()
        try:
            values, vectors = library.eigh(gram)
        except (np.linalg.LinAlgError, ValueError) as error:
            raise CandidateError(
                f"the ridge readout cannot be solved ({error}): check that the states are finite"
            ) from None
        values = library.at_least(values, 0.0)
        rotated = vectors * library.sqrt(values) if dual else rows.all() @ vectors
        crossed = rotated.T @ rows.centred_targets
        return _Problem(rows, values, vectors, dual, rotated, rotated * rotated, crossed)

    def left_out_scores(self, penalty: float) -> Array:
        """Return the scores of every row by the readout fitted without it, shape (rows, classes)."""
        rows, shrunk = self.rows, 1 / (self.values + penalty * self.rows.total)
        residuals = rows.centred_targets - self.rotated @ (self.crossed * shrunk[:, None])
        leverage = rows.weights / rows.total + self.squares @ shrunk
        freedom = rows.library.at_least(1 - leverage, LEAST_FREEDOM) * rows.roots
        return rows.targets - residuals / freedom[:, None]

    def fold_scores(self, penalty: float, folds: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the scores of every row by the readout fitted without its fold, shape (rows, classes).

        The penalty per row is that of the training parts, which have fewer rows.
        """
        rows = self.rows
        shifted = self.values + penalty * rows.total * (1 - 1 / (int(folds.max()) + 1))
        residuals = rows.centred_targets - self.rotated @ (self.crossed / shifted[:, None])
        rotated, inverse, roots, fitted = map(torch.as_tensor, (self.rotated, shifted, rows.roots, residuals))
        places = rows_of_folds(folds, rows.library.device)
        left = fold_residuals(rotated[None], inverse[None], roots, rows.total, fitted[None], places)[0]
        scores = torch.as_tensor(rows.targets) - left / roots[:, None]
        if not scores.isfinite().all():
            raise CandidateError(f"the ridge readout cannot be solved without a fold with a penalty of {penalty:g}")
        return scores.cpu().numpy()

    def error(self, scores: Array) -> float:
        difference = scores - self.rows.targets
        return float(self.rows.weights @ (difference * difference).mean(axis=1) / self.rows.total)

    def scaled_error(self, scores: Array) -> float:
        rows = self.rows
        sums = rows.library.scaling_sums(scores, rows.targets, rows.target_means, rows.weights)
        return scaled_error(*sums) / (rows.total * scores.shape[1])

    def readout(self, penalty: float) -> RidgeReadout:
        """Return the readout that is fitted to all rows with this penalty."""
        shrunk = 1 / (self.values + penalty * self.rows.total)
        if not self.dual:
            return self.rows.in_raw_features(self.vectors @ (self.crossed * shrunk[:, None]))
        targets = self.vectors.T @ self.rows.centred_targets
        return self.rows.in_raw_features(self.rows.times_transposed(self.vectors @ (targets * shrunk[:, None])))


def _moments(library: ArrayLibrary, features: torch.Tensor, shares: Array) -> tuple[Array, Array]:
    """Return the weighted mean of each feature, and 1 / its weighted standard deviation, 0 for a constant feature."""
    width = features.shape[1]
    means, deviations = library.zeros(width), library.zeros(width)
    with np.errstate(invalid="ignore"):  # values that are not finite are refused below
        for columns in _columns(width):
            block = library.array(features[:, columns])
            means[columns] = shares @ block
            block = block - means[columns]
            block *= block
            deviations[columns] = library.sqrt(shares @ block)
    if not np.isfinite(library.host(deviations)).all():
        raise CandidateError("the states are not finite")
    return means, library.inverse(deviations, deviations > LEAST_VARIATION * abs(means))


def _columns(width: int) -> Iterator[slice]:
    for start in range(0, width, BLOCK_COLUMNS):
        yield slice(start, min(start + BLOCK_COLUMNS, width))
