"""The schedule that lowers the rate if the validation loss does not improve."""

from __future__ import annotations

from collections.abc import Mapping

from rcdp_hpc.config import ScheduleSection
from rcdp_hpc.training.optim.schedules.base import Schedule

LEAST_GAIN = 1e-4


class Plateau(Schedule):
    """``factor^k``: k counts the times that ``schedule.interval`` epochs in a row did not improve.

    An epoch improves if its validation loss is below (1 - 1e-4) times the lowest so far. Epochs that end within the
    warm-up are not counted.
    """

    def __init__(self, settings: ScheduleSection, steps: int, epochs: int, warmup: int) -> None:
        super().__init__(settings, steps, epochs, warmup)
        self.reduction = 1.0
        self.best_loss = float("inf")
        self.waited = 0

    def factor(self, epoch: int, t: int) -> float:
        """Return the factor of a step."""
        return self.reduction

    def close_epoch(self, epoch: int, validation_loss: float) -> None:
        """Lower the factor after enough epochs without improvement."""
        if (epoch + 1) * self.steps <= self.warmup:
            return
        if validation_loss < self.best_loss * (1 - LEAST_GAIN):
            self.best_loss = validation_loss
            self.waited = 0
            return
        self.waited += 1
        if self.waited >= self.settings.interval:
            self.reduction *= self.settings.factor
            self.waited = 0

    def state(self) -> dict[str, float]:
        """Return the factor, the lowest validation loss and the epochs since then."""
        return {"reduction": self.reduction, "best_loss": self.best_loss, "waited": self.waited}

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue from a state."""
        self.reduction = state["reduction"]
        self.best_loss = state["best_loss"]
        self.waited = int(state["waited"])
