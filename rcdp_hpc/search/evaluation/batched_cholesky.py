"""Inverses of the Cholesky factors of many matrices at once, almost all of it in batched products.

For M = [[A, B'], [B, C]] with factor L,

    X = A's inverse factor,  L21 = B · X',  Y = inverse factor of C - L21 · L21',
    L^-1 = [[X, 0], [-Y · L21 · X, Y]],

down to blocks that libraries factorise in batches. A GPU computes products of matrices of a thousand columns at its
full speed, and batched factorisations of that size at a small part of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Columns of the blocks that libraries factorise.
LEAF = 128


def inverse_factors(matrices: Tensor) -> Tensor:
    """Return the inverses of the lower Cholesky factors; nothing is read back.

    Parameters
    ----------
    matrices : torch.Tensor, shape (count, n, n), float64
        Symmetric; only the lower triangle is read.

    Returns
    -------
    torch.Tensor, shape (count, n, n), float64
        Lower triangular. A matrix that is not positive definite has NaN from the first such block on.
    """
    inverse = torch.zeros_like(matrices)
    _fill(inverse, matrices)
    return inverse


def _fill(inverse: Tensor, matrices: Tensor) -> None:
    size = matrices.shape[1]
    if size <= LEAF:
        factor, info = torch.linalg.cholesky_ex(matrices)
        identity = torch.eye(size, dtype=matrices.dtype, device=matrices.device).expand_as(matrices)
        inverse.copy_(torch.linalg.solve_triangular(factor, identity, upper=False))
        inverse.masked_fill_((info != 0)[:, None, None], torch.nan)
        return
    half = (size // 2 + 7) // 8 * 8
    first, second = inverse[:, :half, :half], inverse[:, half:, half:]
    _fill(first, matrices[:, :half, :half])
    below = torch.bmm(matrices[:, half:, :half], first.mT)
    _fill(second, torch.baddbmm(matrices[:, half:, half:], below, below.mT, alpha=-1))
    inverse[:, half:, :half] = torch.bmm(second, torch.bmm(below, first)).neg_()


def squared_lengths(rows: Tensor, inverse: Tensor) -> Tensor:
    """Return |L^-1 x|² of rows x, shape (count, rows), without most of the zeros of L^-1.

    Parameters
    ----------
    rows : torch.Tensor, shape (count, rows, n), float64
    inverse : torch.Tensor, shape (count, n, n), float64
        What `inverse_factors` returned.
    """
    size = inverse.shape[1]
    step = max(LEAF, -(-size // 4))
    total = torch.zeros_like(rows[:, :, 0])
    for start in range(0, size, step):
        part = slice(start, min(start + step, size))
        total += torch.bmm(rows[:, :, : part.stop], inverse[:, part, : part.stop].mT).square_().sum(2)
    return total
