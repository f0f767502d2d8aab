"""The reductions ``mean``, ``std`` and ``mean_std``, which share one pass over the states."""

from __future__ import annotations

import torch
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.reductions.base import Reduction, counted_steps


class Welford:
    """Mean and sum of squared deviations by Welford's recurrence, in which nothing cancels.

    Parameters
    ----------
    out : torch.Tensor, shape (batch, values, nodes)
        Any reduction's result of the block.
    """

    def __init__(self, out: Tensor) -> None:
        self.mean = torch.zeros(out.shape[0], out.shape[2], device=out.device)
        self._difference = torch.empty_like(self.mean)
        self._after: Tensor | None = None
        self.squares: Tensor | None = None
        self.count = 0
        self._step = -1

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Add the states after a step, unless another reduction has already done so."""
        if step == self._step:
            return
        self._step = step
        self.count += 1
        mean, values = self.mean[:rows], states[:rows]
        difference = torch.sub(values, mean, out=self._difference[:rows])
        mean.add_(difference, alpha=1 / self.count)
        if self.squares is not None:
            if self._after is None:
                self._after = torch.empty_like(self._difference)
            self.squares[:rows].addcmul_(difference, torch.sub(values, mean, out=self._after[:rows]))


class Mean(Reduction):
    """The mean over the steps."""

    def begin(self, steps: int, lengths: list[int] | None, shared: dict[type, object]) -> None:
        """Share the moments with other reductions of the block."""
        moments = shared.get(Welford)
        self._moments = moments if isinstance(moments, Welford) else Welford(self.out)
        shared[Welford] = self._moments
        self._counts = counted_steps(self.settings, self.out, steps, lengths)

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Add the states after a step of each sequence."""
        if step >= self.warm_up:
            self._moments.take(step, states, rows)

    def finish(self) -> None:
        """Write the means."""
        self.out[:, 0] = self._moments.mean

    @staticmethod
    def of_states(settings: ReservoirSection, states: Tensor, values: int) -> Tensor:
        """Return the means."""
        return states[:, settings.warm_up :].mean(1, keepdim=True)


class Std(Mean):
    """The standard deviation over the steps (of the population)."""

    def begin(self, steps: int, lengths: list[int] | None, shared: dict[type, object]) -> None:
        """Ask for the sum of squared deviations, too."""
        super().begin(steps, lengths, shared)
        if self._moments.squares is None:
            self._moments.squares = torch.zeros_like(self._moments.mean)

    def finish(self) -> None:
        """Write the deviations."""
        self.out[:, 0] = self._deviations()

    def _deviations(self) -> Tensor:
        squares = self._moments.squares
        assert squares is not None
        return (squares / self._counts).clamp_min_(0).sqrt_()

    @staticmethod
    def of_states(settings: ReservoirSection, states: Tensor, values: int) -> Tensor:
        """Return the deviations."""
        counted = states[:, settings.warm_up :]
        return (counted - counted.mean(1, keepdim=True)).square().mean(1, keepdim=True).sqrt()


class MeanStd(Std):
    """The mean over the steps, then the standard deviation."""

    @staticmethod
    def values(settings: ReservoirSection, steps: int | None) -> int:
        """Return 2."""
        return 2

    def finish(self) -> None:
        """Write means and deviations."""
        self.out[:, 0] = self._moments.mean
        self.out[:, 1] = self._deviations()

    @staticmethod
    def of_states(settings: ReservoirSection, states: Tensor, values: int) -> Tensor:
        """Return means and deviations."""
        return torch.cat([kind.of_states(settings, states, 1) for kind in (Mean, Std)], dim=1)
