"""The reductions ``states`` and ``last``: the states after some steps."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.kept_steps import steps_of
from rcdp_hpc.reservoir.reductions.base import Reduction


class States(Reduction):
    """The states after ``reservoir.states`` equally spaced steps, or after the steps in ``reservoir.steps``."""

    def begin(self, steps: int, lengths: list[int] | None, shared: dict[type, object]) -> None:
        """Find the steps whose states are written, and where."""
        # By step: the positions in `out`, and the rows whose states are written there. Longer sequences, which come
        # first, never keep an earlier step at a position, so that these rows are neighbours.
        self._positions: dict[int, dict[int, slice]] = {}
        first = 0
        for length, group in groupby([steps] * len(self.out) if lengths is None else lengths):
            last = first + sum(1 for _ in group)
            for position, step in enumerate(self.steps(self.settings, length)):
                places = self._positions.setdefault(step, {})
                places[position] = slice(places[position].start if position in places else first, last)
            first = last

    @staticmethod
    def steps(settings: ReservoirSection, length: int) -> list[int]:
        """Return the steps of a sequence of this length after which the states are kept."""
        return steps_of(settings, length)

    @staticmethod
    def values(settings: ReservoirSection, steps: int | None) -> int:
        """Return the number of states."""
        return len(settings.steps) or settings.states

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Write the states if they are kept after this step."""
        for position, chosen in self._positions.get(step, {}).items():
            self.out[chosen, position] = states[chosen]

    @classmethod
    def of_states(cls, settings: ReservoirSection, states: Tensor, values: int) -> Tensor:
        """Return the states after these steps."""
        steps = cls.steps(settings, states.shape[1])
        between = steps[1] - steps[0] if len(steps) > 1 else 1
        if between > 0 and steps == list(range(steps[0], steps[-1] + 1, between)):
            return states[:, steps[0] : steps[-1] + 1 : between]
        # A list as an index would be copied to the device in every training step.
        return torch.stack([states[:, step] for step in steps], dim=1)


class Last(States):
    """The state after the last step of each sequence."""

    @staticmethod
    def steps(settings: ReservoirSection, length: int) -> list[int]:
        """Return the last step."""
        return [length - 1]

    @staticmethod
    def values(settings: ReservoirSection, steps: int | None) -> int:
        """Return 1."""
        return 1
