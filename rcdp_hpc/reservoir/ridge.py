"""The readout solved by ridge regression of standardised features, from sums over blocks of rows.

Features are standardised inside the solve: with m_j and d_j the mean and the standard deviation of feature j over the
n rows, X the standardised features and Yc the centred targets,

    V = (X'X + alpha · n · I)^-1 · X'Yc,    W_j = V_j / d_j,    b = mean(Y) - mean(x) · W,

so that a penalty alpha means the same for features of any size and any number of rows. X'X follows from the sums of
the raw features: it is their centred Gram matrix, divided by d_i · d_j. A feature that does not vary has the weight 0.
W and b read raw features: nothing has to be standardised when the readout is used. With weights of rows, n is their
sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.gram import ROWS_AT_ONCE, GramSums, upper_pieces

# A variance that is a smaller share of a feature's mean square is rounding of the sums, by their precision.
LEAST_VARIANCE = {"single": 1e-6, "double": 1e-12}


def one_hot(labels: Any, classes: int) -> NDArray[np.float32]:
    """Return the labels 0 .. classes - 1 as rows with a single 1, shape (N, classes), float32."""
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
        features = torch.as_tensor(features)
        weights = torch.from_numpy(self.weights).to(features.device, torch.float32)
        intercept = torch.from_numpy(self.intercept).to(features.device, torch.float32)
        with torch.inference_mode():
            blocks = [torch.addmm(intercept, rows.float(), weights) for rows in features.split(ROWS_AT_ONCE)]
            return torch.cat(blocks).cpu().numpy()


def solve(sums: GramSums, penalty: float) -> RidgeReadout:
    """Solve the ridge regression by Cholesky.

    Parameters
    ----------
    sums : GramSums
        At least one row; left as they are.
    penalty : float
        alpha of the module's formula, per row.

    Returns
    -------
    RidgeReadout

    Raises
    ------
    CandidateError
        If the sums are not finite, or not positive definite under this penalty.
    """
    gram, inverse = _standardised(sums)
    gram[np.diag_indices_from(gram)] += penalty * sums.count
    try:
        factor = scipy.linalg.cho_factor(gram, lower=False, overwrite_a=True)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise CandidateError(
            f"the ridge readout cannot be solved with a penalty of {penalty:g} per row ({error}): add a larger one to "
            "readout.ridge_penalties, and see that the states are finite"
        ) from None
    weights = inverse[:, None] * scipy.linalg.cho_solve(factor, inverse[:, None] * _crossed(sums))
    return RidgeReadout(weights, (sums.y - sums.x @ weights) / sums.count)


def scaled_error(fits: float, squares: float, targets: float) -> float:
    """Return the squared error that scores have after their best common scaling; see `scaling_sums`.

    Parameters
    ----------
    fits, squares : float
        Sums of d · t and of d².
    targets : float
        Sum of t².

    Returns
    -------
    float
        Sum of (k · d - t)², k the scaling >= 0 that makes it smallest.
    """
    return targets - max(fits, 0.0) ** 2 / squares if squares > 0 else targets


def scaling_sums(
    scores: NDArray[np.floating], targets: NDArray[np.floating], shares: NDArray[np.float64], weights: Any = None
) -> NDArray[np.float64]:
    """Return the weighted sums of d · t, d² and t², d and t the deviations of scores and targets from the class shares.

    Penalties shrink the scores of all rows towards the class shares, more or less. A penalty is judged by what its
    scores tell apart, and not by their size: over 19 series sets the penalty found so had an accuracy on test rows that
    was 1 point higher in the mean than by the plain squared error.

    Parameters
    ----------
    scores, targets : numpy.ndarray, shape (rows, classes)
    shares : numpy.ndarray, shape (classes,)
    weights : numpy.ndarray, shape (rows,), optional
    """
    d, t = scores.astype(np.float64) - shares, targets.astype(np.float64) - shares
    found = np.stack([(d * t).sum(1), np.square(d).sum(1), np.square(t).sum(1)])
    return np.asarray(found.sum(1) if weights is None else found @ weights)


def best_by(error_of: Callable[[float], float], penalties: Iterable[float]) -> tuple[float, dict[float, float]]:
    """Return the penalty with the smallest error next to which no smaller and no larger one is better.

    From the middle of the list it goes the way the error falls, and stops where it rises: the error over the penalties
    has one valley, and a penalty costs a factorisation. Of equal errors the larger penalty is taken.

    Parameters
    ----------
    error_of : callable
        Returns the error of a penalty; raises a `CandidateError` if there is no solution.
    penalties : iterable of float

    Returns
    -------
    penalty : float
    errors : dict of float to float
        Of the penalties that were tried; infinite for those without a solution.

    Raises
    ------
    CandidateError
        If no penalty that was tried has a solution.
    """
    ordered, errors = sorted(set(penalties)), {}
    reason: CandidateError | None = None

    def tried(place: int) -> float:
        nonlocal reason
        if not 0 <= place < len(ordered):
            return np.inf
        try:
            found = error_of(ordered[place])
        except CandidateError as error:
            reason, found = error, np.inf
        errors[ordered[place]] = found if np.isfinite(found) else np.inf
        return errors[ordered[place]]

    best = len(ordered) // 2
    least = tried(best)
    while not np.isfinite(least) and best + 1 < len(ordered):  # too small for rounding
        best += 1
        least = tried(best)
    start = best
    while (found := tried(best - 1)) < least:
        best, least = best - 1, found
    while best >= start and (found := tried(best + 1)) <= least and best + 1 < len(ordered):
        best, least = best + 1, found
    if not np.isfinite(least):
        raise reason or CandidateError("the error of the ridge readout is not finite: see that the states are")
    return ordered[best], errors


def score_moments(
    sums: GramSums, readout: RidgeReadout, penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the standard deviation of a readout's scores over the rows added, each of shape (K,).

    The readout is what `solve` found with this penalty. A fit with an intercept hits the mean, and with V the weights
    of standardised features V'X'X V = V'X'Yc - alpha · n · V'V, which needs no other product with X'X.
    """
    varies = readout.weights != 0
    deviations = np.sqrt(np.maximum(_variances(sums), 0))
    penalised = penalty * sums.count * np.square(varies * readout.weights * deviations[:, None]).sum(axis=0)
    squares = (readout.weights * _crossed(sums)).sum(axis=0) - penalised
    return sums.y / sums.count, np.sqrt(np.maximum(squares, 0) / sums.count)


def _variances(sums: GramSums) -> NDArray[np.float64]:
    return np.asarray(np.diag(sums.xx) / sums.count - np.square(sums.x / sums.count))


def _standardised(sums: GramSums) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return X'X of the standardised features, upper triangle, and 1 / d, 0 for a feature that does not vary."""
    if sums.rows == 0:
        raise ValueError("no rows were added")
    sums.flush()
    variances, squares = _variances(sums), np.diag(sums.xx) / sums.count
    if not np.isfinite(variances).all():
        raise CandidateError("the ridge readout cannot be solved: the states are not finite")
    varies = variances > LEAST_VARIANCE[sums.precision] * squares
    inverse = np.zeros(len(variances))
    inverse[varies] = 1 / np.sqrt(variances[varies])
    gram = sums.xx.copy(order="F")
    for rows, columns in upper_pieces(len(gram)):
        gram[rows, columns] -= np.outer(sums.x[rows], sums.x[columns] / sums.count)
        gram[rows, columns] *= np.outer(inverse[rows], inverse[columns])
    return gram, inverse


def _crossed(sums: GramSums) -> NDArray[np.float64]:
    """Return Xc'Yc of the raw features; nothing may be held back (`GramSums.flush`)."""
    return sums.xy - np.outer(sums.x, sums.y / sums.count)
