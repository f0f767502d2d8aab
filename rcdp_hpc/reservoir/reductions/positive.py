"""The reduction ``positive``: the share of the steps with a state above 0."""

from __future__ import annotations

import torch
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.reductions.base import Reduction, counted_steps


class Positive(Reduction):
    """The share of the steps after which a neuron's state is above 0."""

    def begin(self, steps: int, lengths: list[int] | None, shared: dict[type, object]) -> None:
        """Start the counts at 0."""
        self._steps = counted_steps(self.settings, self.out, steps, lengths)
        self._counts = torch.zeros(self.out.shape[0], self.out.shape[2], device=self.out.device)
        self._above = torch.empty_like(self._counts)

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Count the neurons above 0."""
        if step >= self.warm_up:
            # Written as float32: adding booleans converts them first, several times as slow.
            self._counts[:rows] += torch.gt(states[:rows], 0, out=self._above[:rows])

    def finish(self) -> None:
        """Write the shares."""
        self.out[:, 0] = self._counts / self._steps

    @staticmethod
    def of_states(settings: ReservoirSection, states: Tensor, values: int) -> Tensor:
        """Return the shares, whose gradient is 0."""
        return (states[:, settings.warm_up :] > 0).to(states.dtype).mean(1, keepdim=True)
