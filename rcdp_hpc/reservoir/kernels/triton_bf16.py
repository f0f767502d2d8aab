"""The kernel ``triton-bf16``: a bfloat16 product with noise, activation and leak included, for GPUs with Triton."""

from __future__ import annotations

import importlib.util
import logging
from functools import cache

import torch
from torch import Tensor

from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.kernels.base import Kernel
from rcdp_hpc.reservoir.kernels.dense import DenseBfloat16
from rcdp_hpc.reservoir.kernels.trial import check_kernel
from rcdp_hpc.runtime.logs import warn_once

log = logging.getLogger(__name__)

# The activations that the program computes. Others are computed as by the kernel dense-bf16.
ACTIVATIONS = ("tanh", "sigmoid", "relu", "identity")


class TritonBfloat16(DenseBfloat16):
    """A step in one program: the product stays in float32 until f and the leak are computed.

    With leak 1 the states have the precision of bfloat16, with other leaks they are float32. Triton comes with torch
    for GPUs and is never required: without it `DenseBfloat16` computes the states.

    Parameters as of `Kernel`.
    """

    @classmethod
    def for_device(cls, device: torch.device) -> type[Kernel]:
        """Return `DenseBfloat16` for a device without Triton: the same precision, other last digits."""
        return cls if triton_computes(device) else DenseBfloat16

    @classmethod
    def is_measured(cls, nodes: int, density: float, device: torch.device) -> bool:
        """Return whether the device is a GPU for which Triton works."""
        return triton_computes(device)

    def advance(self, rows: int, noise: Tensor | None = None) -> Tensor:
        """Compute the next states of the first samples, whose inputs are in the slot."""
        if self.activation_name not in ACTIVATIONS:
            return super().advance(rows, noise)
        from rcdp_hpc.reservoir.kernels.triton_step import step

        weights = self.weights if self._slots.step else self._input_weights
        joined, _, after = self._slots.move(rows)
        kept = None if self._kept is None else self._kept[:rows]
        step(joined, weights.T, after, self.activation_name, self.leak, kept, noise)
        return self._slots.states if self._kept is None else self._kept

    def stacked_weights(self) -> Tensor | None:
        """Return the weights: several reservoirs at once are computed as by `DenseBfloat16`."""
        return self.weights if type(self).advance is TritonBfloat16.advance else None


@cache
def triton_computes(device: torch.device) -> bool:
    """Return whether the device is a GPU on which a small reservoir is computed correctly by Triton."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    try:
        check_kernel("triton-bf16", TritonBfloat16, device)
    except InputError as error:  # no compiler, or a GPU that Triton does not know
        warn_once(log, "triton", f"Triton cannot be used, dense-bf16 replaces triton-bf16: {error}")
        return False
    return True
