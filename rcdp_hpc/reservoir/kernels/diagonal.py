"""States of a reservoir of kind "diagonal": damped oscillators, and a random layer that reads them.

Of the kernel that the configuration names only the number format counts here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.kernels.base import ProductKernel, padded_length

# Numbers in the states of a block, 64 MiB: with 100,000 nodes a large block needs gigabytes. The mixing weights are
# read once per block and step, so small blocks are slow.
BLOCK_NUMBERS = 1 << 24
LEAST_ROWS = 16


class DiagonalKernel(ProductKernel):
    """h_t = lambda ∘ h_(t-1) + W_in · u_t and the state in float32, W_mix · h_t in `dtype`.

    Parameters are those of `Kernel`, the matrices those of `rcdp_hpc.reservoir.diagonal`, and the number format:

    Parameters
    ----------
    dtype : torch.dtype
        Of the products with W_mix and of the states that are returned.
    """

    recordable = True

    def __init__(
        self,
        settings: ReservoirSection,
        matrices: ReservoirMatrices,
        rates: NDArray[np.float64] | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(settings, matrices, rates, device)
        if matrices.mixing is None:
            raise ValueError("the matrices have no mixing weights")
        self.dtype = dtype
        units = matrices.mixing.shape[1] // 2
        self.units = units
        if device.type == "cpu":
            self.most_rows = max(LEAST_ROWS, BLOCK_NUMBERS // self.nodes)
        rotation = matrices.recurrent.tocsr()
        self._along = self._tensor(rotation.diagonal()[:units])
        self._across = self._tensor(rotation.diagonal(-units))
        self._input = self._tensor(matrices.input[:units].T)
        self._mixing = torch.zeros(padded_length(2 * units + 1), self.nodes, dtype=dtype, device=device)
        self._mixing[: 2 * units] = torch.from_numpy(matrices.mixing.T).to(device)
        self._mixing[2 * units] = torch.from_numpy(matrices.bias).to(device)

    def _tensor(self, array: object) -> Tensor:
        return torch.as_tensor(array).to(self.device, torch.float32).contiguous()

    def begin(self, batch: int) -> None:
        """Allocate the buffers of a block and set h_0 = 0."""
        self._real = torch.zeros(batch, self.units, device=self.device)
        self._imaginary = torch.zeros_like(self._real)
        self._inputs = torch.zeros(batch, self.features, device=self.device)
        self._joined = torch.zeros(batch, len(self._mixing), dtype=self.dtype, device=self.device)
        self._joined[:, 2 * self.units] = 1
        self._state = torch.zeros(0 if self.forgets else batch, self.nodes, device=self.device)
        super().end()

    def step(self, u: Sequence[Tensor], noise: Tensor | None = None) -> Tensor:
        """Compute the next states of the first samples."""
        rows, units = len(u[0]), self.units
        self.write_input(self._inputs[:rows], u)
        real, imaginary, joined = self._real[:rows], self._imaginary[:rows], self._joined[:rows]
        driven = torch.mm(self._inputs[:rows], self._input)
        driven.addcmul_(real, self._along).addcmul_(imaginary, self._across, value=-1)
        imaginary.mul_(self._along).addcmul_(real, self._across)
        real.copy_(driven)
        joined[:, :units] = real
        joined[:, units : 2 * units] = imaginary
        moved = self._driven_by(joined, self._mixing, noise, len(self._joined))
        if self.forgets and self._driven is not None:
            return self._driven
        self._state[:rows].lerp_(moved, self.leak)
        return self._state
