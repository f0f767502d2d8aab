"""The few functions in which NumPy on the CPU and torch on a device differ, for algorithms that run on both.

Operators, `@`, slices, `.T`, `.sum(axis)`, `.mean(axis)` and `.argmax(axis)` are the same for both kinds of arrays. On
the CPU LAPACK is called by SciPy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.reservoir.device_ridge import cholesky_solution, scaling_sums_of
from rcdp_hpc.reservoir.ridge import scaling_sums

# An array of the library: numpy.ndarray or torch.Tensor.
Array = Any


class ArrayLibrary(ABC):
    """Float64 arrays on one device.

    Attributes
    ----------
    device : torch.device
    """

    device: torch.device

    @abstractmethod
    def array(self, values: Any) -> Array:
        """Return a tensor of any device, or a NumPy array, as a float64 array of this library."""

    @abstractmethod
    def host(self, values: Array) -> NDArray[Any]:
        """Return an array in main memory."""

    @abstractmethod
    def zeros(self, *shape: int) -> Array:
        """Return zeros."""

    @abstractmethod
    def concatenate(self, parts: Sequence[Array], axis: int) -> Array:
        """Return arrays next to each other."""

    @abstractmethod
    def sqrt(self, values: Array) -> Array:
        """Return square roots."""

    @abstractmethod
    def at_least(self, values: Array, bound: float) -> Array:
        """Return the values, or the bound where it is larger."""

    @abstractmethod
    def inverse(self, values: Array, where: Array) -> Array:
        """Return 1 / values, and 0 where the mask is False."""

    @abstractmethod
    def diagonal(self, matrix: Array) -> Array:
        """Return the diagonal of a matrix, as a view that can be written to."""

    @abstractmethod
    def eigh(self, matrix: Array) -> tuple[Array, Array]:
        """Return eigenvalues, ascending, and eigenvectors of a symmetric matrix, which may be overwritten.

        Raises
        ------
        ValueError, numpy.linalg.LinAlgError
            If the matrix is not finite, or the iteration does not converge.
        """

    @abstractmethod
    def solve(self, matrix: Array, right: Array) -> Array:
        """Solve for a symmetric, positive definite matrix, which may be overwritten; errors as of `eigh`."""

    @abstractmethod
    def scaling_sums(self, scores: Array, targets: Array, shares: Array, weights: Array) -> list[float]:
        """Return `rcdp_hpc.reservoir.ridge.scaling_sums`."""


class NumpyArrays(ArrayLibrary):
    """NumPy arrays in main memory."""

    device = torch.device("cpu")

    def array(self, values: Any) -> Array:
        """See `ArrayLibrary`."""
        if isinstance(values, Tensor):
            return values.detach().cpu().double().numpy()
        return np.asarray(values, dtype=np.float64)

    def host(self, values: Array) -> NDArray[Any]:
        """See `ArrayLibrary`."""
        return np.asarray(values)

    def zeros(self, *shape: int) -> Array:
        """See `ArrayLibrary`."""
        return np.zeros(shape)

    def concatenate(self, parts: Sequence[Array], axis: int) -> Array:
        """See `ArrayLibrary`."""
        return np.concatenate(parts, axis=axis)

    def sqrt(self, values: Array) -> Array:
        """See `ArrayLibrary`."""
        return np.sqrt(values)

    def at_least(self, values: Array, bound: float) -> Array:
        """See `ArrayLibrary`."""
        return np.maximum(values, bound)

    def inverse(self, values: Array, where: Array) -> Array:
        """See `ArrayLibrary`."""
        return np.divide(1.0, values, out=np.zeros(values.shape), where=where)

    def diagonal(self, matrix: Array) -> Array:
        """See `ArrayLibrary`."""
        return np.einsum("ii->i", matrix)

    def eigh(self, matrix: Array) -> tuple[Array, Array]:
        """See `ArrayLibrary`."""
        values, vectors = scipy.linalg.eigh(matrix, driver="evd", overwrite_a=True)
        return values, vectors

    def solve(self, matrix: Array, right: Array) -> Array:
        """See `ArrayLibrary`."""
        return scipy.linalg.solve(matrix, right, assume_a="pos", overwrite_a=True)

    def scaling_sums(self, scores: Array, targets: Array, shares: Array, weights: Array) -> list[float]:
        """See `ArrayLibrary`."""
        return scaling_sums(scores, targets, shares, weights).tolist()


class TorchArrays(ArrayLibrary):
    """Tensors on a device.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def array(self, values: Any) -> Array:
        """See `ArrayLibrary`."""
        tensor = values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.array(values, dtype=np.float64))
        return tensor.to(self.device, torch.float64)

    def host(self, values: Array) -> NDArray[Any]:
        """See `ArrayLibrary`."""
        return np.asarray(values.cpu().numpy())

    def zeros(self, *shape: int) -> Array:
        """See `ArrayLibrary`."""
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    def concatenate(self, parts: Sequence[Array], axis: int) -> Array:
        """See `ArrayLibrary`."""
        return torch.cat(list(parts), dim=axis)

    def sqrt(self, values: Array) -> Array:
        """See `ArrayLibrary`."""
        return values.sqrt()

    def at_least(self, values: Array, bound: float) -> Array:
        """See `ArrayLibrary`."""
        return values.clamp_min(bound)

    def inverse(self, values: Array, where: Array) -> Array:
        """See `ArrayLibrary`."""
        return torch.where(where, 1 / values, 0.0)

    def diagonal(self, matrix: Array) -> Array:
        """See `ArrayLibrary`."""
        return matrix.diagonal()

    def eigh(self, matrix: Array) -> tuple[Array, Array]:
        """See `ArrayLibrary`."""
        if not matrix.isfinite().all():
            raise ValueError("array must not contain infs or NaNs")
        try:
            values, vectors = torch.linalg.eigh(matrix)
        except torch.linalg.LinAlgError as error:
            raise np.linalg.LinAlgError(str(error)) from None
        return values, vectors

    def solve(self, matrix: Array, right: Array) -> Array:
        """See `ArrayLibrary`."""
        return cholesky_solution(matrix, right)

    def scaling_sums(self, scores: Array, targets: Array, shares: Array, weights: Array) -> list[float]:
        """See `ArrayLibrary`."""
        return [float(one) for one in scaling_sums_of(scores, targets, shares, weights).cpu()]


def library_for(device: torch.device | None) -> ArrayLibrary:
    """Return torch's arrays on a device; those of NumPy for None."""
    return NumpyArrays() if device is None else TorchArrays(device)
