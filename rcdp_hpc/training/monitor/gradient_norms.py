"""Vanishing and exploding gradients measured: norms by layer over the steps, and by time step of the sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import get_total_norm

from rcdp_hpc.networks.base import Network
from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.runtime.comm.base import Communicator


class GradientWatch:
    """The gradient's norms in an epoch.

    For every layer, the Euclidean norm of the gradient of its weights and biases, summed over ranks, before penalties
    and clipping: mean over the steps, first and last.

    For every step t of the sequence that is trained on, once an epoch, on the first batch: the norm over all its rows
    of ``dL / du_t``, L their mean loss. Where an extractor is trained, u is what it hands to the reservoir, or to the
    readout without one; otherwise u are the standardised values that the readout reads: states, or the input without a
    reservoir. A norm that falls towards the first steps is a gradient that vanishes on its way back in time.

    Ranks that step by themselves have gradients of their own: the norms by layer are then means over ranks.

    Parameters
    ----------
    network : Network
        Its gradients are looked at; a hook on it asks for those of the sequence.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.layers: dict[str, list[nn.Parameter]] = {}
        for name, weights in network.named_parameters():
            if weights.requires_grad:
                self.layers.setdefault(name.rpartition(".")[0], []).append(weights)
        self.length = network.watch_sequences(self._asked, self._take)
        self._begin()

    def _begin(self) -> None:
        device = next(self.network.parameters()).device
        # Rows: sum over the steps, first, last.
        self.norms = torch.zeros(3, len(self.layers), dtype=torch.float64, device=device)
        self.steps = 0
        self.squares = torch.zeros(self.length, dtype=torch.float64, device=device)
        self.awaited = True

    def layer_norms(self) -> torch.Tensor:
        """Return the norm of each layer's gradient as it is now, shape (layers,)."""
        return torch.stack(
            [
                get_total_norm([value.grad for value in weights if value.grad is not None])
                for weights in self.layers.values()
            ]
        )

    def add(self, norms: torch.Tensor, factor: float = 1.0) -> None:
        """Take in the layers' norms of a step that was taken, in which the loss was multiplied by `factor`."""
        found = norms.to(self.norms)
        if not self.steps:
            self.norms[1] = found
            self.squares /= factor**2
        self.norms[0] += found
        self.norms[2] = found
        self.steps += 1
        self.awaited = False

    def leave_out(self) -> None:
        """Forget what the sequence's gradient was in a step that was not taken, if it was the first."""
        if not self.steps:
            self.squares.zero_()
            self.awaited = True

    def close(self, comm: Communicator, parallel: SingleProcessEngine) -> dict[str, Any]:
        """Return the norms of the epoch, and begin the next. Collective.

        Returns
        -------
        dict
            ``layers``: of each layer its ``mean``, ``first`` and ``last``; ``steps``: a list over the time steps.
        """
        squares = comm.allreduce(self.squares.cpu().numpy())
        table = self.norms.cpu().numpy()
        table[0] /= max(1, self.steps)
        if parallel.local:
            table, squares = comm.allreduce(table) / comm.size, squares / comm.size**2
        layers = {
            name: dict(zip(("mean", "first", "last"), column.tolist(), strict=True))
            for name, column in zip(self.layers, table.T, strict=True)
        }
        self._begin()
        return {"layers": layers, "steps": np.sqrt(squares).tolist()}

    def state(self, comm: Communicator) -> dict[str, Any]:
        """Return what `restore` needs to go on within an epoch. Collective."""
        squares = comm.allreduce(self.squares.cpu().numpy())
        return {"steps": self.steps, "norms": self.norms.tolist(), "squares": squares.tolist()}

    def restore(self, state: dict[str, Any], comm: Communicator) -> None:
        """Go on from a saved state; the sums of all ranks are put on rank 0."""
        self.norms.copy_(torch.tensor(state["norms"], dtype=torch.float64))
        self.steps, self.awaited = state["steps"], not state["steps"]
        if comm.is_root:
            self.squares.copy_(torch.tensor(state["squares"], dtype=torch.float64))

    def _asked(self) -> bool:
        return self.awaited and self.network.training and torch.is_grad_enabled()

    def _take(self, gradient: torch.Tensor) -> None:
        """Note the squares of a gradient, shape (rows, steps, features), by step."""
        if self.awaited:
            self.awaited = False
            self.squares.copy_(gradient.double().square().sum((0, 2)))
