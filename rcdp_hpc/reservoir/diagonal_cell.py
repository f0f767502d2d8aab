"""The cell of a reservoir of kind "diagonal": damped oscillators, and a random layer that reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.cells import MULTIPLE, ProductCell
from rcdp_hpc.reservoir.connection import ReservoirMatrices

# Values of a block's states, 64 MiB: the mixing weights are read once for every block and step, so few samples at once
# are slow, and with 100,000 nodes many of them need gigabytes.
VALUES_AT_ONCE = 1 << 24
LEAST_ROWS = 16


class DiagonalCell(ProductCell):
    """h_t = lambda ∘ h_(t-1) + W_in · u_t and the running state in float32, W_mix · h_t in the kernel's precision.

    The parameters are those of `rcdp_hpc.reservoir.diagonal`.
    """

    def __init__(
        self,
        settings: ReservoirSection,
        matrices: ReservoirMatrices,
        rates: NDArray[np.float64] | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__(settings, matrices, rates, dtype, device)
        if matrices.mixing is None:
            raise ValueError("the matrices have no mixing weights")
        units = matrices.mixing.shape[1] // 2
        self.units = units
        if device.type == "cpu":
            self.most_rows = max(LEAST_ROWS, VALUES_AT_ONCE // self.nodes)
        rotation = matrices.recurrent.tocsr()
        self._along = self._tensor(rotation.diagonal()[:units])
        self._across = self._tensor(rotation.diagonal(-units))
        self._input = self._tensor(matrices.input[:units].T)
        length = math.ceil((2 * units + 1) / MULTIPLE) * MULTIPLE
        self._mixing = torch.zeros(length, self.nodes, dtype=dtype, device=device)
        self._mixing[: 2 * units] = torch.from_numpy(matrices.mixing.T).to(device)
        self._mixing[2 * units] = torch.from_numpy(matrices.bias).to(device)

    def _tensor(self, array: object) -> Tensor:
        return torch.as_tensor(array).to(self.device, torch.float32).contiguous()

    def begin(self, batch: int) -> None:
        """Allocate the buffers of a block and set h_0 = 0."""
        self._real = torch.zeros(batch, self.units, device=self.device)
        self._imaginary = torch.zeros_like(self._real)
        self._fed = torch.zeros(batch, self.features, device=self.device)
        self._allocate(batch, len(self._mixing), 2 * self.units)

    def step(self, u: Sequence[Tensor], noise: Tensor | None = None) -> Tensor:
        """Move the first rows on by one step."""
        rows, units = len(u[0]), self.units
        self._feed(self._fed[:rows], u)
        real, imaginary, joined = self._real[:rows], self._imaginary[:rows], self._joined[:rows]
        driven = torch.mm(self._fed[:rows], self._input)
        driven.addcmul_(real, self._along).addcmul_(imaginary, self._across, value=-1)
        imaginary.mul_(self._along).addcmul_(real, self._across)
        real.copy_(driven)
        joined[:, :units] = real
        joined[:, units : 2 * units] = imaginary
        torch.mm(joined, self._mixing, out=self._product[:rows])
        return self._updated(rows, noise)
