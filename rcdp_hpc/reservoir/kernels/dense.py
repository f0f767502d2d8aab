"""The kernels ``dense-fp32``, ``dense-bf16`` and ``dense-fp16``: one dense product per step, by torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.kernels.base import ProductKernel, joined_matrices, padded_length


class DenseKernel(ProductKernel):
    """[s_t, u_t, 1] times [C, W_in, b_in] transposed in one dense product; activation and leak in float32.

    Parameters as of `Kernel`.

    Attributes
    ----------
    weights : torch.Tensor, shape (nodes + features + 1, rounded up, nodes)
        [C, W_in, b_in, 0] transposed.
    """

    def __init__(
        self,
        settings: ReservoirSection,
        matrices: ReservoirMatrices,
        rates: NDArray[np.float64] | None,
        device: torch.device,
    ) -> None:
        super().__init__(settings, matrices, rates, device)
        length = padded_length(self.nodes + self.features + 1)
        self.weights = joined_matrices(matrices, self.nodes, length).to(device, self.dtype).T

    def begin(self, batch: int) -> None:
        """Allocate the buffers of a block and set s_0 = 0."""
        self._allocate(batch, self.weights.shape[0], self.nodes + self.features)
        self._started = False

    def step(self, u: Sequence[Tensor], noise: Tensor | None = None) -> Tensor:
        """Compute the next states of the first samples."""
        rows = len(u[0])
        joined = self._joined[:rows]
        if self._started:
            joined[:, : self.nodes].copy_(self._state[:rows])
        self.write_input(joined[:, self.nodes : self.nodes + self.features], u)
        first = 0 if self._started else self.nodes  # s_0 = 0: C contributes nothing yet
        self._started = True
        torch.mm(joined[:, first:], self.weights[first:], out=self._product[:rows])
        return self._updated(rows, noise)

    def stacked_weights(self) -> Tensor | None:
        """Return the weights, None for a class that computes a step in another way."""
        cls = type(self)
        return self.weights if (cls.step, cls._updated) == (DenseKernel.step, ProductKernel._updated) else None


class DenseFloat32(DenseKernel):
    """Products in float32, on any machine."""

    dtype = torch.float32

    @classmethod
    def is_measured(cls, nodes: int, density: float, device: torch.device) -> bool:
        """Return True."""
        return True


class DenseBfloat16(DenseKernel):
    """Products in bfloat16, for processors and GPUs that multiply bfloat16."""

    dtype = torch.bfloat16

    @classmethod
    def is_measured(cls, nodes: int, density: float, device: torch.device) -> bool:
        """Return True."""
        return True


class DenseFloat16(DenseKernel):
    """Products in float16, for GPUs."""

    dtype = torch.float16

    @classmethod
    def is_measured(cls, nodes: int, density: float, device: torch.device) -> bool:
        """Return whether the device is a GPU: processors are slow in float16."""
        return device.type == "cuda"
