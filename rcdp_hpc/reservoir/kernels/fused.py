"""The kernel ``fused-bf16``: oneDNN's bfloat16 product with the activation included."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.kernels.base import Kernel, joined_matrices, padded_length
from rcdp_hpc.reservoir.kernels.dense import DenseBfloat16


class FusedBfloat16(Kernel):
    """oneDNN's bfloat16 product with the activation included, its weights packed once per block size.

    An activation that oneDNN does not have is computed after the product, in float32.

    With leak 1 the product has as many columns as its input, [s, u, 1, 0], those after the neurons being 0: the output
    becomes the next step's input when u and 1 are written into it, and the states have the precision of bfloat16.
    With other leaks the states are float32.

    Parameters as of `Kernel`.
    """

    dtype = torch.bfloat16

    def __init__(
        self,
        settings: ReservoirSection,
        matrices: ReservoirMatrices,
        rates: NDArray[np.float64] | None,
        device: torch.device,
    ) -> None:
        super().__init__(settings, matrices, rates, device)
        self._length = padded_length(self.nodes + self.features + 1)
        self._weights = torch.zeros(self._length if self.forgets else self.nodes, self._length, dtype=self.dtype)
        self._weights[: self.nodes] = joined_matrices(matrices, self.nodes, self._length).to(self.dtype)
        self._packed_for = 0

    @classmethod
    def for_device(cls, device: torch.device) -> type[Kernel]:
        """Return `DenseBfloat16` for a device without oneDNN: the same precision, other last digits."""
        return cls if fused_available(device) else DenseBfloat16

    @classmethod
    def is_measured(cls, nodes: int, density: float, device: torch.device) -> bool:
        """Return whether the device has oneDNN's product."""
        return fused_available(device)

    def begin(self, batch: int) -> None:
        """Allocate the buffers of a block and set s_0 = 0."""
        self._joined = torch.zeros(batch, self._length, dtype=self.dtype)
        if batch != self._packed_for:
            pack = torch.ops.mkldnn._reorder_linear_weight
            self._packed = pack(self._weights, batch)
            self._packed_input = pack(self._weights[:, self.nodes :].contiguous(), batch)
            self._packed_for = batch
        if not self.forgets:
            self._state = torch.zeros(batch, self.nodes)
            self._driven = torch.empty(batch, self.nodes)
        self._started = False

    def step(self, u: Sequence[Tensor], noise: Tensor | None = None) -> Tensor:
        """Compute the next states of the first samples."""
        rows, batch, nodes = len(u[0]), len(self._joined), self.nodes
        joined = self._joined if rows == batch else self._joined[:rows].contiguous()
        self.write_input(joined[:, nodes : nodes + self.features], u)
        joined[:, nodes + self.features] = 1
        out = self._activated_product(joined, noise)
        if self.forgets:
            if rows == batch:
                self._joined = out
            else:
                self._joined[:rows] = out
            return self._joined[:, :nodes]
        driven = self._driven[:rows].copy_(out)
        self._state[:rows].lerp_(driven, self.leak)
        self._joined[:rows, :nodes].copy_(self._state[:rows])
        return self._state

    def _activated_product(self, joined: Tensor, noise: Tensor | None) -> Tensor:
        """Return f of the product. An f with f(0) != 0 also changes the padding, whose weights are 0."""
        if noise is None and self.activation.onednn:
            return self._product(joined, self.activation.onednn)
        out = self._product(joined, "none")
        driven = out[:, : self.nodes].float()
        if noise is not None:
            driven.add_(noise)
        out[:, : self.nodes] = self.activation.apply_(driven)
        return out

    def _product(self, joined: Tensor, activation: str) -> Tensor:
        weights = self._packed
        if not self._started:  # s_0 = 0: C contributes nothing yet
            joined, weights = joined[:, self.nodes :].contiguous(), self._packed_input
        self._started = True
        out: Tensor = torch.ops.mkldnn._linear_pointwise(joined, weights, None, activation, [], "")
        return out


def fused_available(device: torch.device) -> bool:
    """Return whether the device is a CPU and this torch has oneDNN's product with an activation."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
