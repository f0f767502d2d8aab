"""Ridge regression by torch on the device of the sums: the formulas of `rcdp_hpc.reservoir.ridge` for tensors.

Weights are within 1e-12 of those of BLAS, relative to the largest, if the sums are well conditioned.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.device_sums import DeviceSums
from rcdp_hpc.reservoir.gram import LEAST_VARIANCE, NOT_FINITE, ROWS_AT_ONCE


class Solved(NamedTuple):
    """A readout of raw features, on the device of the sums.

    Attributes
    ----------
    weights : torch.Tensor, shape (F, K), float64
    intercept : torch.Tensor, shape (K,), float64
    """

    weights: Tensor
    intercept: Tensor


def solve_on_device(sums: DeviceSums, penalty: float) -> Solved:
    """Solve the ridge regression of some sums, which stay unchanged, as `rcdp_hpc.reservoir.ridge.solve`.

    The host waits for two numbers: whether the sums are finite, and whether they are positive definite.

    Raises
    ------
    CandidateError
        If the sums are not finite.
    numpy.linalg.LinAlgError
        If they are not positive definite with this penalty, with the words of LAPACK.
    """
    sums.flush()
    x, y, count = sums.device_x, sums.device_y, sums.device_count
    means = x / count
    squares = sums.device_xx.diagonal() / count
    variances = squares - means.square()
    if not variances.isfinite().all():
        raise CandidateError(NOT_FINITE)
    varies = variances > LEAST_VARIANCE[sums.precision] * squares
    inverse = torch.where(varies, 1 / variances.sqrt(), 0.0)[:, None]
    gram = torch.addcmul(sums.device_xx, x[:, None], means, value=-1)
    gram *= inverse
    gram *= inverse.T
    gram.diagonal().add_(penalty * count)
    crossed = torch.addcmul(sums.device_xy, x[:, None], y / count, value=-1)
    weights = inverse * cholesky_solution(gram, inverse * crossed)
    return Solved(weights, (y - x @ weights) / count)


def cholesky_solution(gram: Tensor, right: Tensor) -> Tensor:
    """Return the solution (F, K) for the lower triangle of a positive definite matrix (F, F), and wait for it.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix is not positive definite, with the words of LAPACK.
    """
    factor, info = torch.linalg.cholesky_ex(gram)
    if minor := int(info):
        raise np.linalg.LinAlgError(f"{minor}-th leading minor of the array is not positive definite")
    return torch.cholesky_solve(right, factor)


def scores_of(features: Tensor, weights: Tensor, intercept: Tensor) -> Tensor:
    """Return float32 scores (N, K) of features (N, F) of any dtype by weights (F, K) and intercepts (K,)."""
    blocks = features.split(ROWS_AT_ONCE)
    return torch.cat([torch.addmm(intercept, rows.float(), weights) for rows in blocks])


def scaling_sums_of(scores: Tensor, targets: Tensor, shares: Tensor, weights: Tensor) -> Tensor:
    """Return `rcdp_hpc.reservoir.ridge.scaling_sums` for tensors, shape (3,), float64.

    Parameters
    ----------
    scores, targets : torch.Tensor, shape (rows, classes)
    shares : torch.Tensor, shape (classes,), float64
    weights : torch.Tensor, shape (rows,), float64
    """
    d, t = scores.double() - shares, targets.double() - shares
    return torch.stack([(d * t).sum(1), d.square().sum(1), t.square().sum(1)]) @ weights
