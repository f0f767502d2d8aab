"""The weights of all reservoirs of a batch, built on their device from random numbers that are drawn once.

Bit for bit those of the single candidates: the masks are comparisons with the score of the last connection, and the
scaling is the same product in float64. Only the spectral radius is another algorithm where the device computes it
(`rcdp_hpc.reservoir.gelfand`), rounded to the same digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.connection import biases, leak_rates, scaled_input_weights
from rcdp_hpc.reservoir.gelfand import spectral_radii
from rcdp_hpc.reservoir.kernels import make_kernel
from rcdp_hpc.reservoir.kernels.base import padded_length
from rcdp_hpc.reservoir.shared_draws import SharedDraws
from rcdp_hpc.reservoir.spectral_radius import rounded
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.search.evaluation.matrix_cache import MatrixCache
from rcdp_hpc.search.evaluation.rank_group import attempt

# With more connections per neuron a random matrix has at most a few neurons outside of its largest block.
SURE_DEGREE = 16
# Radii that are remembered.
REMEMBERED = 100_000
SIGN = np.uint64(1 << 63)


class BatchedMatrices:
    """Builds the weights of random reservoirs with one seed and size.

    Parameters
    ----------
    settings : ReservoirSection
        Uses seed and nodes.
    features : int
        Inputs per step.
    dtype : torch.dtype
        Number format of the weights.
    device : torch.device
    cache : MatrixCache
    radius_on_device : bool, optional
        Whether the device computes spectral radii; default: unless it is the CPU, where ARPACK is faster.
    """

    def __init__(
        self,
        settings: ReservoirSection,
        features: int,
        dtype: torch.dtype,
        device: torch.device,
        cache: MatrixCache,
        radius_on_device: bool | None = None,
    ) -> None:
        self.nodes = settings.nodes
        self.features = features
        self.dtype = dtype
        self.device = device
        self.cache = cache
        self.radius_on_device = device.type != "cpu" if radius_on_device is None else radius_on_device
        self.draws: SharedDraws = cache.draws(settings)
        shape = (self.nodes, self.nodes)
        # Signed integers in the order of the unsigned ones.
        self._scores = torch.from_numpy((self.draws.scores ^ SIGN).view(np.int64)).to(device).view(shape)
        self._weights = torch.from_numpy(self.draws.weights).to(device).view(shape)
        self._radii: dict[int, float] = {}

    def connections(self, settings: ReservoirSection) -> int:
        """Return the number of connections; 0 if this class cannot build the matrix: without any, or equal scores."""
        count = round(settings.density * self.nodes**2)
        return count if count and self.draws.bound(count) is not None else 0

    def weights(self, candidates: Sequence[ReservoirSection]) -> tuple[Tensor, list[bool]]:
        """Return the weights of candidates that have connections.

        Parameters
        ----------
        candidates : sequence of ReservoirSection

        Returns
        -------
        weights : torch.Tensor, shape (candidates, inputs of a product, nodes)
            As `Kernel.stacked_weights`.
        built : list of bool
            False for a candidate whose matrix has no spectral radius to scale it by; its weights are 0.
        """
        counts = [self.connections(one) for one in candidates]
        matrices = self._unscaled(counts)
        factors = self._factors(candidates, counts, matrices)
        scaling = torch.tensor([factor or 0.0 for factor in factors], dtype=torch.float64, device=self.device)
        matrices.mul_(scaling[:, None, None])
        inner = self.nodes + self.features
        shape = (len(candidates), padded_length(inner + 1), self.nodes)
        weights = torch.zeros(shape, dtype=self.dtype, device=self.device)
        weights[:, : self.nodes] = matrices.float().transpose(1, 2)
        inputs = np.stack([self._inputs(one) for one in candidates])
        weights[:, self.nodes : inner + 1] = torch.from_numpy(inputs).to(self.device)
        return weights, [factor is not None for factor in factors]

    def _unscaled(self, counts: Sequence[int]) -> Tensor:
        """Return the matrices with weights uniform in [-1, 1), shape (candidates, nodes, nodes), float64."""
        bounds = np.array([self.draws.bound(count) for count in counts], dtype=np.uint64)
        signed = torch.from_numpy((bounds ^ SIGN).view(np.int64)).to(self.device)
        return torch.where(self._scores <= signed[:, None, None], self._weights, 0.0)

    def _inputs(self, settings: ReservoirSection) -> NDArray[np.float32]:
        """Return W_in and b_in, shape (features + 1, nodes), float32."""
        inputs = scaled_input_weights(settings, self.features)
        bias = biases(self.nodes, settings.bias_scaling, settings.seed)
        return np.concatenate([inputs.T, bias[None]]).astype(np.float32)

    def _factors(
        self, candidates: Sequence[ReservoirSection], counts: Sequence[int], matrices: Tensor
    ) -> list[float | None]:
        """Return the factor on each matrix; None for a matrix without a spectral radius."""
        if candidates[0].scaling == "weight_scale":
            return [one.weight_scale for one in candidates]
        if self.radius_on_device:
            radii = self._radii_of(counts, matrices)
        else:
            radii = [self._host_radius(one) for one in candidates]
        return [one.spectral_radius / radius if radius else None for one, radius in zip(candidates, radii, strict=True)]

    def _host_radius(self, settings: ReservoirSection) -> float:
        """Return the radius, 0 if it could not be computed."""
        unscaled, _ = attempt(lambda: self.cache.unscaled(settings))
        return 0.0 if unscaled is None else unscaled[1] or 0.0

    def _radii_of(self, counts: Sequence[int], matrices: Tensor) -> list[float]:
        """Return the rounded radii, computed on the device unless all are known."""
        if not set(counts) <= self._radii.keys():
            if len(self._radii) > REMEMBERED:
                self._radii.clear()
            computed = spectral_radii(matrices, self._labels(counts)).tolist()
            self._radii |= {count: rounded(one, self.nodes) for count, one in zip(counts, computed, strict=True)}
        return [self._radii[count] for count in counts]

    def _labels(self, counts: Sequence[int]) -> Tensor | None:
        """Return the strongly connected blocks, shape (candidates, nodes), for sparse matrices; None without any."""
        if min(counts) >= SURE_DEGREE * self.nodes:
            return None
        labels = np.zeros((len(counts), self.nodes), dtype=np.int64)
        for row, count in zip(labels, counts, strict=True):
            if count < SURE_DEGREE * self.nodes:
                row[:] = connected_components(self.draws.matrix(count), directed=True, connection="strong")[1]
        return torch.from_numpy(labels).to(self.device)


class KernelWeights:
    """Takes the weights of reservoirs from their own kernels, one after the other, for kernels of the user's own.

    Parameters
    ----------
    like : Reservoir
        A reservoir of any candidate.
    cache : MatrixCache
    """

    def __init__(self, like: Reservoir, cache: MatrixCache) -> None:
        self.like = like
        self.cache = cache

    def connections(self, settings: ReservoirSection) -> int:
        """Return the number of connections."""
        return round(settings.density * settings.nodes**2)

    def weights(self, candidates: Sequence[ReservoirSection]) -> tuple[Tensor, list[bool]]:
        """Return the weights of candidates, as `BatchedMatrices.weights`."""
        found = [attempt(partial(self._weights, one))[0] for one in candidates]
        form = self.like.only_kernel.stacked_weights()
        if form is None:
            raise AssertionError(f"{self.like.kernel} has no weights to stack: check_stacked refuses it")
        weights = [torch.zeros_like(form) if one is None else one for one in found]
        return torch.stack(weights), [one is not None for one in found]

    def _weights(self, settings: ReservoirSection) -> Tensor | None:
        like = self.like
        matrices = self.cache.matrices(settings, like.inputs)
        return make_kernel(like.kernel, settings, matrices, leak_rates(settings), like.device).stacked_weights()
