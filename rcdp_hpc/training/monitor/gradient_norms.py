"""Norms of the gradient, by layer and by step of the sequence, which show gradients that vanish or explode."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import get_total_norm

from rcdp_hpc.networks.base import Network
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.runtime.comm.base import Communicator


class GradientNorms:
    """The norms of the gradient in an epoch.

    For every layer: the Euclidean norm of the gradient of its weights and biases, summed over ranks, before penalties
    and clipping; mean over the training steps, first and last.

    For every step t of the sequence, on the first batch of the epoch: the norm over all rows of ``dL / du_t``, with L
    the mean loss of the rows. If an extractor is trained, u is its output. Otherwise u are the standardised inputs of
    the readout: the states, or the samples without a reservoir. A norm that falls towards the first steps shows a
    gradient that vanishes on its way back in time.

    If ranks step independently, the norms by layer are means over ranks.

    All values are added up on the device, so that no step waits for the host.

    Parameters
    ----------
    network : Network
        The network; a hook on it records the gradient of the sequence.

    Attributes
    ----------
    factor : float
        What the loss of the current step is multiplied by (`LossScale`).
    awaited : bool
        Whether the next step records the gradient of the sequence.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.layers: dict[str, list[nn.Parameter]] = {}
        for name, weights in network.named_parameters():
            if weights.requires_grad:
                self.layers.setdefault(name.rpartition(".")[0], []).append(weights)
        self.length = network.watch_sequences(self._is_due, self._record)
        self.factor = 1.0
        device = next(self.network.parameters()).device
        # Rows: sum over the training steps, first, last.
        self.norms = torch.zeros(3, len(self.layers), dtype=torch.float64, device=device)
        self.steps = torch.zeros((), dtype=torch.int64, device=device)
        self.squares = torch.zeros(self.length, dtype=torch.float64, device=device)
        self.nothing = torch.zeros((), dtype=torch.float64, device=device)
        self.awaited = True

    def _reset(self) -> None:
        for values in (self.norms, self.steps, self.squares):
            values.zero_()
        self.awaited = True

    def layer_norms(self) -> torch.Tensor:
        """Return the norm of the current gradient of each layer, shape (layers,)."""
        return torch.stack(
            [
                get_total_norm([value.grad for value in weights if value.grad is not None])
                for weights in self.layers.values()
            ]
        )

    def add(self, norms: torch.Tensor, going: torch.Tensor) -> None:
        """Add the norms of the layers in a step, where `going` (bool, 0-dim) is True: if its gradient is finite."""
        norms = norms.to(self.norms)
        total, first, last = self.norms.unbind()
        total.add_(torch.where(going, norms, self.nothing))
        torch.where(going & (self.steps == 0), norms, first, out=first)
        torch.where(going, norms, last, out=last)
        self.steps.add_(going)
        self.awaited = False

    def leave_out(self) -> None:
        """Discard the gradient of the sequence of a step without update, if it was the first of the epoch."""
        if not int(self.steps):
            self.squares.zero_()
            self.awaited = True

    def close(self, comm: Communicator, parallel: Strategy) -> dict[str, Any]:
        """Return the norms of the epoch, and start the next. Collective.

        Returns
        -------
        dict
            ``layers``: ``mean``, ``first`` and ``last`` of each layer; ``steps``: a list over steps of the sequence.
        """
        squares = comm.allreduce(self.squares.cpu().numpy().copy())
        table = self.norms.cpu().numpy().copy()
        table[0] /= max(1, int(self.steps))
        if not parallel.syncs_gradients:
            table, squares = comm.allreduce(table) / comm.size, squares / comm.size**2
        layers = {
            name: dict(zip(("mean", "first", "last"), column.tolist(), strict=True))
            for name, column in zip(self.layers, table.T, strict=True)
        }
        self._reset()
        return {"layers": layers, "steps": np.sqrt(squares).tolist()}

    def state(self, comm: Communicator) -> dict[str, Any]:
        """Return what `restore` needs to continue within an epoch. Collective."""
        squares = comm.allreduce(self.squares.cpu().numpy())
        return {"steps": int(self.steps), "norms": self.norms.tolist(), "squares": squares.tolist()}

    def restore(self, state: dict[str, Any], comm: Communicator) -> None:
        """Continue from a saved state; rank 0 gets the sums of all ranks."""
        self.norms.copy_(torch.tensor(state["norms"], dtype=torch.float64))
        self.steps.fill_(state["steps"])
        self.awaited = not state["steps"]
        if comm.is_root:
            self.squares.copy_(torch.tensor(state["squares"], dtype=torch.float64))

    def _is_due(self) -> bool:
        return self.awaited and self.network.training and torch.is_grad_enabled()

    def _record(self, gradient: torch.Tensor) -> None:
        """Record the sum of the squares of a gradient, shape (rows, steps, features), for each step."""
        if self.awaited:
            self.awaited = False
            self.squares.copy_(gradient.double().square().sum((0, 2)) / self.factor**2)
