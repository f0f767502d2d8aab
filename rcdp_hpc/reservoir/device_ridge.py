"""Ridge regression by torch on the device of the sums: the formulas of `rcdp_hpc.reservoir.ridge` for tensors.

Every function takes any number of leading dimensions, for several regressions at once. Results are within 1e-12 of
those of BLAS, relative to the largest weight, if the sums are those of a well-conditioned problem. Nothing is read from
the device here, so that the caller decides when to wait for it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.device_sums import DeviceSums
from rcdp_hpc.reservoir.gram import LEAST_VARIANCE, NOT_FINITE, ROWS_AT_ONCE


class Standardised(NamedTuple):
    """The sums of standardised features.

    Attributes
    ----------
    gram : torch.Tensor, shape (..., F, F), float64
        Lower triangle of X'X.
    inverse : torch.Tensor, shape (..., F)
        1 / standard deviation, 0 for a constant feature.
    finite : torch.Tensor, shape (...), bool
        Whether the sums are finite.
    """

    gram: Tensor
    inverse: Tensor
    finite: Tensor


class Solved(NamedTuple):
    """Readouts of raw features.

    Attributes
    ----------
    weights : torch.Tensor, shape (..., F, K), float64
    intercept : torch.Tensor, shape (..., K), float64
    info : torch.Tensor, shape (...), int32
        0, or the order of the leading minor that is not positive definite: there is no solution then.
    """

    weights: Tensor
    intercept: Tensor
    info: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """Return the scores (..., N, K) of features (..., N, F), computed in float32, as `RidgeReadout.predict`."""
        return scores_of(features, self.weights.float(), self.intercept.float())


def standardised(lower: Tensor, x: Tensor, count: Tensor, precision: Literal["double", "single"]) -> Standardised:
    """Return X'X of the standardised features, as `rcdp_hpc.reservoir.ridge.standardised_gram`.

    Parameters
    ----------
    lower : torch.Tensor, shape (..., F, F), float64
        Lower triangle of the sums X'X; it stays unchanged.
    x : torch.Tensor, shape (..., F), float64
        Sums of the features.
    count : torch.Tensor, shape (...), float64
        Sum of the row weights.
    precision : {"double", "single"}
        Of the products in the sums.
    """
    means = x / count[..., None]
    squares = lower.diagonal(dim1=-2, dim2=-1) / count[..., None]
    variances = squares - means.square()
    varies = variances > LEAST_VARIANCE[precision] * squares
    inverse = torch.where(varies, 1 / variances.sqrt(), 0.0)
    gram = torch.addcmul(lower, x[..., :, None], means[..., None, :], value=-1)
    gram *= inverse[..., :, None]
    gram *= inverse[..., None, :]
    return Standardised(gram, inverse, variances.isfinite().all(-1))


def solved(problem: Standardised, xy: Tensor, x: Tensor, y: Tensor, count: Tensor, penalty: float | Tensor) -> Solved:
    """Solve by Cholesky, as `rcdp_hpc.reservoir.ridge.solve`.

    Parameters
    ----------
    problem : Standardised
        Its matrix is overwritten.
    xy : torch.Tensor, shape (..., F, K), float64
        Sums X'Y.
    x : torch.Tensor, shape (..., F), float64
    y : torch.Tensor, shape (..., K), float64
    count : torch.Tensor, shape (...), float64
    penalty : float or torch.Tensor, shape (...)
        alpha, per row.
    """
    gram, inverse, _ = problem
    gram.diagonal(dim1=-2, dim2=-1).add_((penalty * count)[..., None])
    factor, info = torch.linalg.cholesky_ex(gram)
    crossed = xy - x[..., :, None] * (y / count[..., None])[..., None, :]
    weights = inverse[..., None] * torch.cholesky_solve(inverse[..., None] * crossed, factor)
    intercept = (y - (x[..., None, :] @ weights).squeeze(-2)) / count[..., None]
    return Solved(weights, intercept, info)


def cholesky_solution(gram: Tensor, right: Tensor) -> Tensor:
    """Return the solution (F, K) for the lower triangle of a positive definite matrix (F, F), and wait for it.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is not positive definite, with the words of LAPACK.
    """
    factor, info = torch.linalg.cholesky_ex(gram)
    if minor := int(info):
        raise np.linalg.LinAlgError(not_definite(minor))
    return torch.cholesky_solve(right, factor)


def not_definite(minor: int) -> str:
    """Return why a Cholesky factorisation failed at a leading minor."""
    return f"{minor}-th leading minor of the array is not positive definite"


def scores_of(features: Tensor, weights: Tensor, intercept: Tensor) -> Tensor:
    """Return float32 scores (..., N, K) of features (..., N, F) by weights (..., F, K) and intercepts (..., K)."""
    blocks = features.split(ROWS_AT_ONCE, dim=-2)
    if features.ndim == 2:
        return torch.cat([torch.addmm(intercept, rows.float(), weights) for rows in blocks])
    return torch.cat([rows.float() @ weights + intercept[..., None, :] for rows in blocks], dim=-2)


def scaling_sums_of(scores: Tensor, targets: Tensor, shares: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return `rcdp_hpc.reservoir.ridge.scaling_sums` for tensors, shape (..., 3), float64.

    Parameters
    ----------
    scores : torch.Tensor, shape (..., rows, classes)
    targets : torch.Tensor, shape (rows, classes)
    shares : torch.Tensor, shape (classes,), float64
    weights : torch.Tensor, shape (rows,), optional
    """
    d, t = scores.double() - shares, targets.double() - shares
    products = torch.stack([(d * t).sum(-1), d.square().sum(-1), t.square().sum(-1).expand(d.shape[:-1])], dim=-2)
    return products.sum(-1) if weights is None else products @ weights


def solve_on_device(sums: DeviceSums, penalty: float) -> Solved:
    """Solve the readout of some sums, which stay unchanged.

    Raises
    ------
    CandidateError
        If the sums are not finite.
    """
    if sums.rows == 0:
        raise ValueError("no rows were added")
    sums.flush()
    x, count = sums.lower[sums.last, : sums.features], sums.lower[sums.last, sums.last]
    problem = standardised(sums.device_xx, x, count, sums.precision)
    if not problem.finite:
        raise CandidateError(NOT_FINITE)
    return solved(problem, sums.device_xy, x, sums.device_y, count, penalty)
