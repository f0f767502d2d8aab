"""Exact residuals of held-out folds from one decomposition: what `rcdp_hpc.reservoir.left_out` does for single rows.

With sqrt(w)-scaled standardised features X and an intercept, the fit of all rows has the hat matrix

    H = U · S · U',   U = [R, sqrt(w)],   S^-1 = diag(values + lambda, W),

with R = X · V, V and `values` the eigenvectors and eigenvalues of X'X. The residuals e_f of a fold f in a fit without
its rows, with the scale of the features and lambda unchanged, are exactly (I - H_ff)^-1 e_f. By Woodbury's identity
they are e_f + U_f (S^-1 - U_f' U_f)^-1 U_f' e_f, too, which is less work if the fold has more rows than U has columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def fold_residuals(
    rotated: Tensor, inverse: Tensor, roots: Tensor, total: Tensor | float, residuals: Tensor, folds: Iterable[Tensor]
) -> Tensor:
    """Return the residuals of every fold in the fit without it, for several fits at once.

    Parameters
    ----------
    rotated : torch.Tensor, shape (fits, rows, r), float64
        R of the formula at the top of this module.
    inverse : torch.Tensor, shape (fits, r), float64
        values + lambda; above 0.
    roots : torch.Tensor, shape (rows,), float64
        Square roots of the row weights.
    total : torch.Tensor or float
        Sum of the row weights.
    residuals : torch.Tensor, shape (fits, rows, classes), float64
        Of the fit of all rows, each times the root of its weight.
    folds : iterable of torch.Tensor
        Indices of the rows of each fold.

    Returns
    -------
    torch.Tensor, shape (fits, rows, classes), float64
        Times the roots; NaN for a fold that leaves nothing to fit to.
    """
    found = torch.full_like(residuals, torch.nan)
    ends = torch.as_tensor(total, dtype=inverse.dtype, device=inverse.device).expand(len(inverse), 1)
    diagonal = torch.cat([inverse, ends], dim=1)
    for rows in folds:
        column = roots[rows, None].expand(len(inverse), -1, 1)
        u, e = torch.cat([rotated[:, rows], column], dim=2), residuals[:, rows]
        if u.shape[1] <= u.shape[2]:
            freedom = -(u / diagonal[:, None]) @ u.mT
            freedom.diagonal(dim1=1, dim2=2).add_(1)
            found[:, rows] = solved(freedom, e)
        else:
            inner = torch.diag_embed(diagonal) - u.mT @ u
            found[:, rows] = e + u @ solved(inner, u.mT @ e)
    return found


def solved(matrices: Tensor, right: Tensor) -> Tensor:
    """Solve for positive definite matrices, shape (fits, n, n); NaN where one is not, and nothing is read back."""
    factors, info = torch.linalg.cholesky_ex(matrices)
    return torch.cholesky_solve(right, factors).masked_fill((info != 0)[:, None, None], torch.nan)


def rows_of_folds(folds: NDArray[np.integer], device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """Yield the indices of the rows of each fold that has rows, on a device; `folds`: the fold of each row, from 0."""
    for fold in range(int(folds.max()) + 1):
        rows = np.flatnonzero(folds == fold)
        if len(rows):
            yield torch.from_numpy(rows).to(device)
