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
from rcdp_hpc.reservoir.kernels.slots import Slots


class DenseKernel(ProductKernel):
    """[s_t, u_t, 1] times [C, W_in, b_in] transposed in one dense product; activation and leak in float32.

    The product is written into the next step's input (`rcdp_hpc.reservoir.kernels.slots`). With leak 1 f is computed
    there, in place: a step is two operations. A product of 16 bits is rounded to 16 bits again by f, as it would be for
    the next product, so that the states of the last step are the same as those of f in float32. Means and other
    reductions see these states, at most half a unit of 16 bits (2^-9 of a state in bfloat16) from float32 ones. With
    noise, or an activation that is not `Activation.native`, f is computed in float32.

    With other leaks the states of 16-bit kernels are float32, since a small step would be lost in 16 bits.

    Parameters as of `Kernel`.

    Attributes
    ----------
    weights : torch.Tensor, shape (nodes + features + 1, rounded up, nodes)
        [C, W_in, b_in, 0] transposed.
    """

    recordable = True

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
        self._input_weights = self.weights[self.nodes :]

    def begin(self, batch: int) -> None:
        """Allocate the buffers of a block and set s_0 = 0."""
        self._start(batch, Slots(batch, self.nodes, self.features, len(self.weights), self.weights))

    def begin_sequences(self, u: Tensor, window: int) -> bool:
        """Allocate the buffers of a block, set s_0 = 0 and return True, unless a class computes a step otherwise."""
        if type(self).step is not DenseKernel.step:
            return False
        self._start(u.shape[1], Slots.of_sequences(u, window, self.nodes, len(self.weights)))
        return True

    def _start(self, batch: int, slots: Slots) -> None:
        self._slots = slots
        super().end()
        self._kept: Tensor | None = None
        if not self.forgets and self.dtype != torch.float32:
            self._kept = torch.zeros(batch, self.nodes, device=self.device)
        elif not self.forgets:
            slots.states.zero_()

    def end(self) -> None:
        """Free the buffers of a block."""
        super().end()
        self._kept = None
        del self._slots

    def step(self, u: Sequence[Tensor], noise: Tensor | None = None) -> Tensor:
        """Compute the next states of the first samples."""
        rows = len(u[0])
        self.write_input(self._slots.input(rows), u)
        return self.advance(rows, noise)

    def advance(self, rows: int, noise: Tensor | None = None) -> Tensor:
        """Compute the next states of the first samples, whose inputs are in the slot."""
        weights = self.weights if self._slots.step else self._input_weights  # s_0 = 0: C contributes nothing yet
        joined, before, after = self._slots.move(rows)
        if self.forgets and self.activation.native and (noise is None or self.dtype == torch.float32):
            torch.mm(joined, weights, out=after)
            if noise is not None:
                after.add_(noise)
            self.activation.apply_(after)
            return self._slots.states
        driven = self._driven_by(joined, weights, noise, self._slots.batch)
        if self.forgets:
            after.copy_(driven)
        elif self._kept is None:
            torch.lerp(before, driven, self.leak, out=after)
        else:
            after.copy_(self._kept[:rows].lerp_(driven, self.leak))
            return self._kept
        return self._slots.states

    def stacked_weights(self) -> Tensor | None:
        """Return the weights, None for a class that computes a step in another way."""
        cls = type(self)
        is_own = (cls.step, cls.advance) == (DenseKernel.step, DenseKernel.advance)
        return self.weights if is_own else None


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
