"""The spectral radii of many dense matrices at once, on any device, by repeated squaring.

For any norm, |A^m|^(1/m) tends to the spectral radius (Gelfand 1941). With m = 2^k it takes k products of matrices,
which a GPU computes in batches, and no decision that the host would have to wait for. The norm is taken out of each
power, so that none overflows:

    B_0 = A / |A|,    B_(i+1) = B_i² / |B_i²|,    log r = log |A| + sum over i of log |B_i²| / 2^(i+1).

The relative error of the formula is log(c) / 2^k, for the norm c of the projection onto the largest eigenvalues, and
that of rounding a few units of float64 times their condition. A product keeps zeros that follow from the connections,
so that powers of a matrix without a cycle become 0 exactly, and the radius is 0.

The result, rounded as `rcdp_hpc.reservoir.spectral_radius.spectral_radius` rounds, is the number of that function
except where the number before rounding is within about 1e-12 of the middle between two rounded ones; then the last
digit may differ.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from rcdp_hpc.reservoir.spectral_radius import DENSE_AT_MOST, rounded, spectral_radius

# log(c) is 1 to 20, for 9 and for 7 digits: errors near 1e-12 and 1e-10.
SQUARINGS, LARGE_SQUARINGS = 44, 36
# Numbers of a product, so that the powers of large matrices fit into memory.
NUMBERS_AT_ONCE = 1 << 27
LEAST = torch.finfo(torch.float64).tiny
# Nodes of a matrix whose powers take 24 bytes for each pair of neurons on a device.
LARGEST_ON_DEVICE = 8192


@torch.no_grad()
def spectral_radii(matrices: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return the largest eigenvalue modulus of each matrix, without reading anything back.

    Parameters
    ----------
    matrices : torch.Tensor, shape (count, n, n), float64
    labels : torch.Tensor, shape (count, n), int64, optional
        The strongly connected block of each neuron. Connections between blocks have no part in the eigenvalues, and
        would add rounding errors; they are left out.

    Returns
    -------
    torch.Tensor, shape (count,), float64
        Not rounded; exactly 0 for a matrix without a cycle, NaN for one with values that are not finite.
    """
    size = matrices.shape[1]
    at_once = max(1, NUMBERS_AT_ONCE // size**2)
    parts = [None] * len(matrices) if labels is None else labels.split(at_once)
    blocks = zip(matrices.split(at_once), parts, strict=False)
    return torch.cat([_radii(_within_blocks(block, part), squarings(size)) for block, part in blocks])


def rounded_radius(matrix: scipy.sparse.csr_array, device: str | torch.device) -> float:
    """Return the radius of a sparse matrix, computed on a device and rounded as by `spectral_radius`."""
    _, labels = connected_components(matrix, directed=True, connection="strong")
    dense = torch.from_numpy(matrix.toarray()).to(device)[None]
    blocks = torch.from_numpy(labels.astype(np.int64)).to(device)[None]
    return rounded(float(spectral_radii(dense, blocks)), matrix.shape[0])


def radius_on(device: torch.device) -> Callable[[scipy.sparse.csr_array], float]:
    """Return what computes spectral radii where states are computed on a device: squaring on a GPU, ARPACK on a CPU."""

    def radius(matrix: scipy.sparse.csr_array) -> float:
        on_device = device.type == "cuda" and matrix.shape[0] <= LARGEST_ON_DEVICE
        return rounded_radius(matrix, device) if on_device else spectral_radius(matrix)

    return radius


def squarings(size: int) -> int:
    """Return the number of products for matrices of this size, for the digits that a radius is rounded to."""
    return SQUARINGS if size <= DENSE_AT_MOST else LARGE_SQUARINGS


def _within_blocks(matrices: Tensor, labels: Tensor | None) -> Tensor:
    """Return a copy of the matrices without connections between blocks."""
    return matrices.clone() if labels is None else matrices * (labels[:, :, None] == labels[:, None, :])


def _radii(power: Tensor, count: int) -> Tensor:
    """Return the radii of matrices, which are overwritten, by this number of products."""
    square = torch.empty_like(power)
    norms = power.new_empty(count + 1, len(power), 1, 1)
    for number in range(count + 1):
        if number:
            torch.bmm(power, power, out=square)
            power, square = square, power
        norm = torch.linalg.vector_norm(power, dim=(1, 2), keepdim=True, out=norms[number])
        power.div_(norm.clamp_min(LEAST))
    shares = torch.pow(2.0, -torch.arange(count + 1, dtype=torch.float64, device=power.device))
    return (norms.flatten(1).log() * shares[:, None]).sum(0).exp()
