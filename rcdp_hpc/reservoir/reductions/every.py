"""The reduction ``all``: the states after all steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.reductions.base import Reduction


class All(Reduction):
    """The states after all steps. Those of a shorter sequence are at the end, after zeros."""

    def begin(self, steps: int, lengths: list[int] | None, shared: dict[type, object]) -> None:
        """Find where each sequence begins in the result; without lengths all begin at the same place."""
        self._first: Tensor | int = self.out.shape[1] - steps
        if lengths is not None:
            self._first = self.out.shape[1] - torch.tensor(lengths, device=self.out.device)
        if lengths is not None or steps < self.out.shape[1]:
            self.out.zero_()

    @staticmethod
    def values(settings: ReservoirSection, steps: int | None) -> int:
        """Return the steps of the longest sequence.

        Raises
        ------
        InputError
            If `steps` is None.
        """
        if steps is None:
            raise InputError("reservoir.reduction = 'all' needs the steps of the longest sequence: give steps")
        return steps

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Write the states after this step."""
        if isinstance(self._first, int):
            self.out[:, self._first + step] = states
            return
        sequences = torch.arange(rows, device=self.out.device)
        self.out[sequences, self._first[:rows] + step] = states[:rows].to(self.out.dtype)

    @staticmethod
    def of_states(settings: ReservoirSection, states: Tensor, values: int) -> Tensor:
        """Return the states after zeros."""
        return nn.functional.pad(states, (0, 0, values - states.shape[1], 0))
