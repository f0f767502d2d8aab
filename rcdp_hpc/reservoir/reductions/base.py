"""The base class of reductions: a few values per neuron, computed while the states of a sequence are computed."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from rcdp_hpc.config import ReservoirSection


class Reduction(ABC):
    """One reduction of the states of a block of sequences. No more than the states of one step exist at a time.

    Without `lengths` nothing is read back from the device or copied to it, so that a block can be recorded. Steps of
    the warm-up do not count, except for reductions that keep states as they are.

    Parameters
    ----------
    settings : ReservoirSection
    out : torch.Tensor, shape (batch, values, nodes)
        Where the result is written.
    steps : int
        Steps of the longest sequence.
    lengths : list of int, optional
        Length of each sequence, longest first; None if all have `steps`.
    shared : dict
        Intermediate results of the block that several reductions use.
    """

    def __init__(
        self,
        settings: ReservoirSection,
        out: Tensor,
        steps: int,
        lengths: list[int] | None,
        shared: dict[type, object],
    ) -> None:
        self.settings = settings
        self.out = out
        self.warm_up = settings.warm_up
        self.begin(steps, lengths, shared)

    def begin(self, steps: int, lengths: list[int] | None, shared: dict[type, object]) -> None:
        """Prepare for the first step. Parameters as of the class."""
        return

    @staticmethod
    def values(settings: ReservoirSection, steps: int | None) -> int:
        """Return the number of values per neuron; `steps` are those of the longest sequence."""
        return 1

    @abstractmethod
    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Take the states after a step.

        Parameters
        ----------
        step : int
            From 0.
        states : torch.Tensor, shape (batch, nodes)
        rows : int
            The first `rows` sequences have this step; the others have ended.
        """

    def finish(self) -> None:
        """Write values that are only known after the last step."""
        return

    @staticmethod
    @abstractmethod
    def of_states(settings: ReservoirSection, states: Tensor, values: int) -> Tensor:
        """Return the same values of states that all exist, in operations that torch differentiates.

        Parameters
        ----------
        settings : ReservoirSection
        states : torch.Tensor, shape (batch, length, nodes)
        values : int
            As `values` returns it for the longest sequence.

        Returns
        -------
        torch.Tensor, shape (batch, values, nodes)
        """


def counted_steps(settings: ReservoirSection, out: Tensor, steps: int, lengths: list[int] | None) -> Tensor:
    """Return the number of steps of each sequence after the warm-up, shape (batch, 1), float32."""
    if lengths is None:
        return torch.full((len(out), 1), steps - settings.warm_up, device=out.device, dtype=torch.float32)
    counts = torch.tensor(lengths, device=out.device, dtype=torch.float32) - settings.warm_up
    return counts[:, None]
