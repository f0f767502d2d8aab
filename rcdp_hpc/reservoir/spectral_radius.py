"""The spectral radius of a sparse matrix, to the same bits on any machine."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackError, eigs
from threadpoolctl import threadpool_limits

from rcdp_hpc.errors import CandidateError

# Blocks of fewer neurons are solved as dense matrices, and up to the second number if ARPACK does not converge.
DENSE_BELOW = 200
DENSE_AT_MOST = 2000
RADIUS_DIGITS = 9
# Above DENSE_AT_MOST neurons the search is looser and faster, and reliable to this number of digits.
LARGE_DIGITS = 7
# Number of radii that are remembered: training and evaluation draw the same matrix, and so do fits in a loop.
REMEMBERED = 256
_radii: dict[bytes, float] = {}


def spectral_radius(matrix: scipy.sparse.csr_array) -> float:
    """Return the largest eigenvalue modulus of a square matrix, rounded to 9 significant digits (7 above 2000 rows).

    The eigenvalues of a matrix are those of its strongly connected blocks, so each block is solved separately: the
    connections between blocks are nilpotent and would only reduce the accuracy. A matrix without a cycle has radius 0
    exactly. The rounding removes the digits in which BLAS libraries and thread counts differ.

    Parameters
    ----------
    matrix : scipy.sparse.csr_array, shape (n, n)

    Returns
    -------
    float

    Raises
    ------
    CandidateError
        If ARPACK does not converge on a block of more than 2000 neurons.
    """
    key = _digest(matrix)
    if key not in _radii:
        if len(_radii) >= REMEMBERED:
            _radii.clear()
        _radii[key] = _rounded_radius(matrix)
    return _radii[key]


def _digest(matrix: scipy.sparse.csr_array) -> bytes:
    digest = hashlib.blake2b(repr(matrix.shape).encode(), digest_size=32)
    for part in (matrix.indptr, matrix.indices, matrix.data):
        digest.update(np.ascontiguousarray(part).data)
    return digest.digest()


def _rounded_radius(matrix: scipy.sparse.csr_array) -> float:
    with threadpool_limits(1):  # threads slow down products this small, and round in another order
        return rounded(_largest_radius(matrix), matrix.shape[0])


def rounded(radius: float, size: int) -> float:
    """Return the radius of a matrix with this many rows, rounded to the digits that `spectral_radius` promises."""
    digits = RADIUS_DIGITS if size <= DENSE_AT_MOST else LARGE_DIGITS
    return float(f"{radius:.{digits - 1}e}")


def _largest_radius(matrix: scipy.sparse.csr_array) -> float:
    """Return the largest radius of the strongly connected blocks."""
    _, labels = connected_components(matrix, directed=True, connection="strong")
    sizes = np.bincount(labels)
    loops = np.abs(matrix.diagonal())
    radius = float(loops[sizes[labels] == 1].max(initial=0.0))
    for block in np.flatnonzero(sizes > 1):
        inside = np.flatnonzero(labels == block)
        part = matrix if inside.size == matrix.shape[0] else matrix[inside][:, inside]
        radius = max(radius, _block_radius(part))
    return radius


def _block_radius(block: scipy.sparse.csr_array) -> float:
    """Return the largest eigenvalue modulus of a strongly connected block."""
    size = block.shape[0]
    if block.nnz == size:  # one cycle: its eigenvalues are on a circle, and ARPACK never converges
        return float(np.exp(np.log(np.abs(block.data)).mean())) if np.all(block.data) else 0.0
    if size < DENSE_BELOW:
        return _dense_radius(block)
    # The eigenvalues of a random matrix fill a disc: moduli so close need several eigenvalues and a wide basis.
    start = np.random.Generator(np.random.PCG64(0)).uniform(0.5, 1.5, size)
    options: dict[str, Any] = {"k": 6, "ncv": 150, "maxiter": 1000, "tol": 1e-11}
    if size > DENSE_AT_MOST:
        options = {"k": 8, "ncv": 100, "maxiter": 1000, "tol": 1e-6}  # fewer eigenvalues missed the largest one
    try:
        values = eigs(block, v0=start, return_eigenvectors=False, **options)
    except ArpackError as error:
        if size <= DENSE_AT_MOST:
            return _dense_radius(block)
        raise CandidateError(
            f"the spectral radius of {size} connected neurons could not be computed ({error}): change "
            "reservoir.density or reservoir.seed, or set reservoir.scaling = 'weight_scale'"
        ) from None
    return float(np.abs(values).max())


def _dense_radius(block: scipy.sparse.csr_array) -> float:
    return float(np.abs(np.linalg.eigvals(block.toarray())).max())
