"""Several reservoirs driven by the same samples, one step of all of them in one product.

A GPU computes a step of one reservoir over a block of samples faster than the next step can be launched, so a sequence
of small products leaves it idle. The candidates of a search differ only in weights, leak and activation, so their
states can be computed in one batched product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.inputs import prepare_inputs
from rcdp_hpc.reservoir.kernels import Kernel
from rcdp_hpc.reservoir.reductions import JoinedReductions
from rcdp_hpc.reservoir.sequence_checks import check_input
from rcdp_hpc.reservoir.states import Reservoir


class StackedReservoirs:
    """Single reservoirs of one shape over the same sequences, which have one length and no noise.

    The number of reservoirs in a product is fixed, and free places hold copies of the first one: the bits of a batched
    product may depend on the number of its matrices, but not on the other matrices.

    Parameters
    ----------
    reservoirs : sequence of Reservoir
        Equal except for weights, leaks and activations.
    places : int
        Number of reservoirs in a product.

    Raises
    ------
    InputError
        If their kernel cannot compute several reservoirs at once (`Kernel.stacked_weights`).
    """

    def __init__(self, reservoirs: Sequence[Reservoir], places: int) -> None:
        self.count = len(reservoirs)
        self.first = reservoirs[0]
        kernels = [reservoir.only_kernel for reservoir in reservoirs]
        kernels += kernels[:1] * (places - len(kernels))
        self._weights = torch.stack([_weights(self.first, kernel) for kernel in kernels])
        # One rate per reservoir, or one per neuron.
        leaks = [torch.as_tensor(kernel.leak, dtype=torch.float32, device=self.first.device) for kernel in kernels]
        self._leaks = torch.stack([leak.view(1, -1) for leak in leaks])
        self._activations = [kernel.activation for kernel in kernels]
        self._one_activation = len({kernel.activation_name for kernel in kernels}) == 1

    @torch.no_grad()
    def drive(self, x: Any) -> Tensor:
        """Drive every reservoir from s_0 = 0 and return the features of its states (eq. 9), as `Reservoir.drive`.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray, shape (batch, ...)
            Samples in a shape of `rcdp_hpc.reservoir.sequencing`.

        Returns
        -------
        torch.Tensor, shape (reservoirs, batch, width)
            May hold values that are not finite.

        Raises
        ------
        CandidateError
            If a value of `x` is not finite.
        """
        first = self.first
        u = torch.as_tensor(first.sequencer.sequences(x), device=first.device)
        check_input(u)
        u = prepare_inputs(first.settings, u)
        steps, batch, places = u.shape[1], len(u), len(self._weights)
        out = torch.empty(places * batch, first.values, first.nodes, dtype=first.dtype, device=first.device)
        reduction = JoinedReductions(first.settings, out, steps, None)
        joined = torch.zeros(places, batch, self._weights.shape[1], dtype=first.dtype, device=first.device)
        joined[:, :, first.nodes + first.inputs] = 1
        state = torch.zeros(places, batch, first.nodes, device=first.device)
        for step in range(steps):
            joined[:, :, first.nodes : first.nodes + first.inputs] = u[:, step]
            start = 0 if step else first.nodes  # s_0 = 0: C contributes nothing yet
            if step:
                joined[:, :, : first.nodes] = state
            driven = torch.bmm(joined[:, :, start:], self._weights[:, start:]).float()
            state.lerp_(self._activated(driven), self._leaks)
            reduction.take(step, state.view(-1, first.nodes), places * batch)
        reduction.finish()
        return out.view(places, batch, first.width)[: self.count]

    def _activated(self, driven: Tensor) -> Tensor:
        # A CPU computes the last few values of an array in another way than the rest, so each reservoir's states are
        # an array of their own.
        if self.first.device.type != "cpu" and self._one_activation:
            return self._activations[0].apply_(driven)
        for one, activation in zip(driven, self._activations, strict=True):
            activation.apply_(one)
        return driven


def _weights(reservoir: Reservoir, kernel: Kernel) -> Tensor:
    weights = kernel.stacked_weights()
    if weights is None:
        raise InputError(
            f"reservoir.kernel = {reservoir.kernel!r} computes one reservoir at a time: set search.candidates_at_once "
            "= 1, or reservoir.kernel to dense-fp32, dense-bf16 or dense-fp16"
        )
    return weights
