"""The reduction ``max``: the largest state over the steps."""

from __future__ import annotations

import torch
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.reductions.base import Reduction


class Max(Reduction):
    """The largest state of each neuron."""

    def begin(self, steps: int, lengths: list[int] | None, shared: dict[type, object]) -> None:
        """Start below every state."""
        self._largest = torch.full((self.out.shape[0], self.out.shape[2]), -torch.inf, device=self.out.device)

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Keep the larger one of each state and those of earlier steps."""
        if step >= self.warm_up:
            largest = self._largest[:rows]
            torch.maximum(largest, states[:rows], out=largest)

    def finish(self) -> None:
        """Write the largest states."""
        self.out[:, 0] = self._largest

    @staticmethod
    def of_states(settings: ReservoirSection, states: Tensor, values: int) -> Tensor:
        """Return the largest states."""
        return states[:, settings.warm_up :].amax(1, keepdim=True)
