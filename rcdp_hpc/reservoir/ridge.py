"""The readout solved by ridge regression of standardised features, from sums over blocks of rows.

Features are standardised inside the solve: with m_j and d_j the mean and the standard deviation of feature j over the
n rows, X the standardised features and Yc the centred targets,

    V = (X'X + alpha · n · I)^-1 · X'Yc,    W_j = V_j / d_j,    b = mean(Y) - mean(x) · W,

so that a penalty alpha has the same effect for features of any scale and any number of rows. X'X follows from the sums
of the raw features: it is their centred Gram matrix, divided by d_i · d_j. A constant feature has weight 0. W and b
apply to raw features. With row weights, n is their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.device_ridge import scores_of, solve_on_device
from rcdp_hpc.reservoir.device_sums import DeviceSums
from rcdp_hpc.reservoir.gram import LEAST_VARIANCE, NOT_FINITE, GramSums, upper_blocks


def one_hot(labels: Any, classes: int) -> NDArray[np.float32]:
    """Return class numbers 0 .. classes - 1, shape (N,), as rows with a single 1, shape (N, classes), float32."""
    return np.eye(classes, dtype=np.float32)[np.asarray(labels, dtype=np.int64)]


@dataclass(frozen=True)
class RidgeReadout:
    """A linear readout.

    Attributes
    ----------
    weights : numpy.ndarray, shape (features, outputs), float64
    intercept : numpy.ndarray, shape (outputs,), float64
    """

    weights: NDArray[np.float64]
    intercept: NDArray[np.float64]

    def predict(self, features: Any) -> NDArray[np.float32]:
        """Return the scores of feature vectors, computed in float32.

        Parameters
        ----------
        features : torch.Tensor or numpy.ndarray, shape (N, features)

        Returns
        -------
        numpy.ndarray, shape (N, outputs), float32
        """
        return self.scores(torch.as_tensor(features)).cpu().numpy()

    def scores(self, features: Tensor) -> Tensor:
        """Return the scores of `predict` on the device of the features."""
        with torch.no_grad():
            return self.placed(features.device)(features)

    def placed(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Return `scores` for features on a device, to which the weights are copied once."""
        weights = torch.from_numpy(self.weights).to(device, torch.float32)
        intercept = torch.from_numpy(self.intercept).to(device, torch.float32)
        return lambda features: scores_of(features, weights, intercept)


def solve(sums: GramSums | DeviceSums, penalty: float) -> RidgeReadout:
    """Solve the ridge regression by Cholesky, on the device of the sums.

    Parameters
    ----------
    sums : GramSums or DeviceSums
        Sums of at least one row; they stay unchanged.
    penalty : float
        alpha of the formula at the top of this module, per row.

    Returns
    -------
    RidgeReadout

    Raises
    ------
    CandidateError
        If the sums are not finite, or not positive definite with this penalty.
    """
    if sums.rows == 0:
        raise ValueError("no rows were added")
    try:
        if isinstance(sums, DeviceSums):
            return RidgeReadout(*(one.cpu().numpy() for one in solve_on_device(sums, penalty)))
        return _solved(sums, penalty)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise CandidateError(
            f"the ridge readout cannot be solved with a penalty of {penalty:g} per row ({error}): add a larger one to "
            "readout.ridge_penalties, and check that the states are finite"
        ) from None


def _solved(sums: GramSums, penalty: float) -> RidgeReadout:
    gram, inverse = standardised_gram(sums)
    gram[np.diag_indices_from(gram)] += penalty * sums.count
    factor = scipy.linalg.cho_factor(gram, lower=False, overwrite_a=True)
    weights = inverse[:, None] * scipy.linalg.cho_solve(factor, inverse[:, None] * crossed_sums(sums))
    return RidgeReadout(weights, (sums.y - sums.x @ weights) / sums.count)


def scaled_error(fits: float, squares: float, targets: float) -> float:
    """Return the squared error of scores after the best common scaling; see `scaling_sums`.

    Parameters
    ----------
    fits, squares : float
        Sums of d · t and of d².
    targets : float
        Sum of t².

    Returns
    -------
    float
        Sum of (k · d - t)² for the k >= 0 that minimises it.
    """
    return targets - max(fits, 0.0) ** 2 / squares if squares > 0 else targets


def scaling_sums(
    scores: NDArray[np.floating], targets: NDArray[np.floating], shares: NDArray[np.float64], weights: Any = None
) -> NDArray[np.float64]:
    """Return the weighted sums of d · t, d² and t² for `scaled_error`.

    d and t are the deviations of scores and targets from the class shares. A larger penalty shrinks the scores of all
    rows towards the class shares. The scaling makes the choice of a penalty independent of this shrinkage: over 19 data
    sets of series the mean test accuracy was 1 point higher than with the plain squared error.

    Parameters
    ----------
    scores, targets : numpy.ndarray, shape (rows, classes)
    shares : numpy.ndarray, shape (classes,)
    weights : numpy.ndarray, shape (rows,), optional

    Returns
    -------
    numpy.ndarray, shape (3,), float64
    """
    d, t = scores.astype(np.float64) - shares, targets.astype(np.float64) - shares
    products = np.stack([(d * t).sum(1), np.square(d).sum(1), np.square(t).sum(1)])
    return np.asarray(products.sum(1) if weights is None else products @ weights)


def best_by(error_of: Callable[[float], float], penalties: Iterable[float]) -> tuple[float, dict[float, float]]:
    """Return the penalty at a local minimum of the error over the sorted penalties.

    The search starts in the middle of the list, follows the direction in which the error falls, and ends when it rises:
    the error over the penalties has one valley, and each penalty costs a factorisation. Of equal errors it returns the
    larger penalty.

    Parameters
    ----------
    error_of : callable
        Returns the error of a penalty; raises a `CandidateError` if there is no solution.
    penalties : iterable of float

    Returns
    -------
    penalty : float
    errors : dict of float to float
        Errors of the penalties that were evaluated; infinite for those without a solution.

    Raises
    ------
    CandidateError
        If no penalty that was evaluated has a solution.
    """
    errors: dict[float, float] = {}
    reason: CandidateError | None = None
    walk = penalty_walk(penalties)
    penalty = next(walk)
    while True:
        try:
            error = error_of(penalty)
        except CandidateError as refusal:
            reason, error = refusal, np.inf
        errors[penalty] = error if np.isfinite(error) else np.inf
        try:
            penalty = walk.send(errors[penalty])
        except StopIteration as end:
            best: float | None = end.value
            break
    if best is None:
        raise reason or CandidateError("the error of the ridge readout is not finite: check that the states are finite")
    return best, errors


def best_of_all(
    error_of: Callable[[float], float], worth_of: Callable[[float], float], penalties: Iterable[float]
) -> tuple[float, dict[float, float]]:
    """Return the penalty with the largest worth, which may have several maxima: every penalty is evaluated.

    Parameters
    ----------
    error_of : callable
        As of `best_by`. Of penalties of equal worth, the one with the least error is returned; of equal errors the
        larger penalty.
    worth_of : callable
        Returns the worth of a penalty; called after `error_of` for the same penalty, if that found a solution.
    penalties : iterable of float

    Returns
    -------
    penalty : float
    errors : dict of float to float
        As of `best_by`.

    Raises
    ------
    CandidateError
        If no penalty has a solution.
    """
    errors: dict[float, float] = {}
    worths: dict[float, float] = {}
    reason: CandidateError | None = None
    for penalty in sorted(set(penalties)):
        try:
            errors[penalty] = error_of(penalty)
            worths[penalty] = worth_of(penalty)
        except CandidateError as refusal:
            reason, errors[penalty] = refusal, np.inf
    sound = [penalty for penalty, error in errors.items() if np.isfinite(error)]
    if not sound:
        raise reason or CandidateError("the error of the ridge readout is not finite: check that the states are finite")
    return max(sound, key=lambda one: (comparable_worth(worths[one]), -errors[one], one)), errors


def comparable_worth(worth: float) -> float:
    """Return a worth, or minus infinity for one that is undefined (NaN)."""
    return -np.inf if np.isnan(worth) else worth


def penalty_walk(penalties: Iterable[float]) -> Generator[float, float, float | None]:
    """Walk over the sorted penalties to a local minimum of the error, as `best_by` describes it.

    Parameters
    ----------
    penalties : iterable of float

    Yields
    ------
    float
        The penalty whose error is sent next: a number, infinite without a solution.

    Returns
    -------
    float or None
        The best penalty; None if no error was finite.
    """
    ordered = sorted(set(penalties))
    best = len(ordered) // 2
    least = yield ordered[best]
    while not np.isfinite(least) and best + 1 < len(ordered):  # rounding errors exceed the penalty
        best += 1
        least = yield ordered[best]
    start = best
    while best > 0 and (error := (yield ordered[best - 1])) < least:
        best, least = best - 1, error
    while best >= start and best + 1 < len(ordered) and (error := (yield ordered[best + 1])) <= least:
        best, least = best + 1, error
    return ordered[best] if np.isfinite(least) else None


def score_moments(
    sums: GramSums | DeviceSums, readout: RidgeReadout, penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the standard deviation of a readout's scores over the added rows, each of shape (K,).

    The mean of a fit with an intercept is the mean of the targets. With the weights V of standardised features, V'X'X V
    = V'X'Yc - alpha · n · V'V needs no other product with X'X.

    Parameters
    ----------
    sums : GramSums or DeviceSums
    readout : RidgeReadout
        The result of `solve` with this penalty.
    penalty : float

    Returns
    -------
    means : numpy.ndarray, shape (K,), float64
    deviations : numpy.ndarray, shape (K,), float64
    """
    varies = readout.weights != 0
    deviations = np.sqrt(np.maximum(_variances(sums), 0))
    penalised = penalty * sums.count * np.square(varies * readout.weights * deviations[:, None]).sum(axis=0)
    squares = (readout.weights * crossed_sums(sums)).sum(axis=0) - penalised
    return sums.y / sums.count, np.sqrt(np.maximum(squares, 0) / sums.count)


def _variances(sums: GramSums | DeviceSums) -> NDArray[np.float64]:
    return np.asarray(sums.diagonal() / sums.count - np.square(sums.x / sums.count))


def standardised_gram(sums: GramSums) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the upper triangle of X'X of the standardised features, and 1 / d, which is 0 for a constant feature.

    The rest of the matrix is not defined.

    Raises
    ------
    CandidateError
        If the sums are not finite.
    """
    if sums.rows == 0:
        raise ValueError("no rows were added")
    sums.flush()
    variances, squares = _variances(sums), np.diag(sums.xx) / sums.count
    if not np.isfinite(variances).all():
        raise CandidateError(NOT_FINITE)
    varies = variances > LEAST_VARIANCE[sums.precision] * squares
    inverse = np.zeros(len(variances))
    inverse[varies] = 1 / np.sqrt(variances[varies])
    gram = sums.xx.copy(order="F")
    for rows, columns in upper_blocks(len(gram)):
        gram[rows, columns] -= np.outer(sums.x[rows], sums.x[columns] / sums.count)
        gram[rows, columns] *= np.outer(inverse[rows], inverse[columns])
    return gram, inverse


def crossed_sums(sums: GramSums | DeviceSums) -> NDArray[np.float64]:
    """Return Xc'Yc of the raw features, for sums that are flushed (`GramSums.flush`)."""
    return sums.xy - np.outer(sums.x, sums.y / sums.count)
