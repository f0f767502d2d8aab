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
from rcdp_hpc.reservoir.activations import load_activation
from rcdp_hpc.reservoir.inputs import prepare_inputs
from rcdp_hpc.reservoir.reductions import JoinedReductions
from rcdp_hpc.reservoir.sequence_checks import check_input
from rcdp_hpc.reservoir.states import Reservoir

# Samples that a GPU computes at once, unless reservoir.batch_rows are more: with fewer it waits for calls.
STACKED_ROWS = 8192


class StackedReservoirs:
    """Single reservoirs of one shape over the same sequences, which have one length and no noise.

    The bits of a batched product may depend on the number of its matrices, but not on the other matrices: results
    compare only between stacks of one size.

    Parameters
    ----------
    like : Reservoir
        A reservoir with their settings except for weights, leaks and activations.
    weights : torch.Tensor, shape (reservoirs, inputs of a product, nodes)
        As `Kernel.stacked_weights`, on the device and in the number format of `like`.
    leaks : torch.Tensor, shape (reservoirs, 1) or (reservoirs, nodes), float32
    activations : sequence of str
        Name of the activation of each reservoir; equal ones one after the other need fewer calls.
    together : bool, optional
        Whether reservoirs of one activation are one array for it. A CPU computes the last few values of an array in
        another way than the rest, and needs small blocks, so the default is False there.

    Attributes
    ----------
    count : int
        Number of reservoirs.
    batch_rows : int
        Samples of a block.
    """

    def __init__(
        self,
        like: Reservoir,
        weights: Tensor,
        leaks: Tensor,
        activations: Sequence[str],
        together: bool | None = None,
    ) -> None:
        self.like = like
        self.count = len(weights)
        self.batch_rows = like.batch_rows
        self._weights = weights
        self._leaks = leaks[:, None]
        together = like.device.type != "cpu" if together is None else together
        if together:
            self.batch_rows = max(self.batch_rows, STACKED_ROWS)
        starts = [
            place
            for place, name in enumerate(activations)
            if not (together and place and name == activations[place - 1])
        ]
        self._activated = [
            (slice(start, stop), load_activation(activations[start]))
            for start, stop in zip(starts, [*starts[1:], len(activations)], strict=True)
        ]

    @torch.no_grad()
    def drive(self, u: Tensor) -> Tensor:
        """Drive every reservoir from s_0 = 0 and return the features of its states (eq. 9), as `Reservoir.drive`.

        Nothing is read back from the device.

        Parameters
        ----------
        u : torch.Tensor, shape (batch, steps, inputs)
            What `sequences` returned, or rows of it.

        Returns
        -------
        torch.Tensor, shape (reservoirs, batch, width)
            May hold values that are not finite.
        """
        like = self.like
        steps, batch, places = u.shape[1], len(u), len(self._weights)
        out = torch.empty(places * batch, like.values, like.nodes, dtype=like.dtype, device=like.device)
        reduction = JoinedReductions(like.settings, out, steps, None)
        joined = torch.zeros(places, batch, self._weights.shape[1], dtype=like.dtype, device=like.device)
        joined[:, :, like.nodes + like.inputs] = 1
        before, inputs = joined[:, :, : like.nodes], joined[:, :, like.nodes : like.nodes + like.inputs]
        state = torch.zeros(places, batch, like.nodes, device=like.device)
        rows = state.view(-1, like.nodes)
        # s_0 = 0: C contributes nothing to the first step.
        product = joined[:, :, like.nodes :], self._weights[:, like.nodes :]
        for step, values in enumerate(u.unbind(1)):
            inputs.copy_(values)
            if step:
                before.copy_(state)
                product = joined, self._weights
            driven = torch.bmm(*product).float()
            for reservoirs, activation in self._activated:
                activation.apply_(driven if len(self._activated) == 1 else driven[reservoirs])
            state.lerp_(driven, self._leaks)
            reduction.take(step, rows, places * batch)
        reduction.finish()
        return out.view(places, batch, like.width)


def sequences(like: Reservoir, x: Any) -> Tensor:
    """Return the sequences that drive reservoirs, on their device, after a check.

    Parameters
    ----------
    like : Reservoir
    x : torch.Tensor or numpy.ndarray, shape (batch, ...)
        Samples in a shape of `rcdp_hpc.reservoir.sequencing`.

    Returns
    -------
    torch.Tensor, shape (batch, steps, inputs)

    Raises
    ------
    CandidateError
        If a value of `x` is not finite.
    """
    u = torch.as_tensor(like.sequencer.sequences(x), device=like.device)
    check_input(u)
    return prepare_inputs(like.settings, u)


def check_stacked(like: Reservoir) -> None:
    """Raise an `InputError` if the kernel of a reservoir computes one reservoir at a time."""
    if like.only_kernel.stacked_weights() is None:
        raise InputError(
            f"reservoir.kernel = {like.kernel!r} computes one reservoir at a time: set search.candidates_at_once "
            "= 1, or reservoir.kernel to dense-fp32, dense-bf16 or dense-fp16"
        )
