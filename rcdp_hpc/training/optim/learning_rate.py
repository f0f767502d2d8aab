"""The learning rate of each step: peak, schedule and reductions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rcdp_hpc.config import Config
from rcdp_hpc.training.checks import warmup_steps
from rcdp_hpc.training.optim.schedules import CheckedSchedule


class LearningRate:
    """The learning rate of each step of a training.

    The rate of a step is the peak times the factor of the schedule (`rcdp_hpc.training.optim.schedules`); in the
    warm-up of w steps, step t (from 0) has the factor ``(t + 1) / w``, unless the schedule has a rise of its own.

    The peak is ``optimizer.learning_rate``, multiplied as ``optimizer.rate_scaling`` selects by the global batch over
    ``training.batch``, or by its square root. Unless ``training.global_batch`` is set, that ratio is the number of
    ranks that the training began on: a resumed training keeps its global batch, and therefore its rate.

    Parameters
    ----------
    config : Config
    steps : int
        Steps of an epoch.
    batch_ratio : float
        Global batch divided by ``training.batch``.

    Raises
    ------
    InputError
        If the warm-up is not shorter than the training, or the schedule cannot be created.
    """

    def __init__(self, config: Config, steps: int, batch_ratio: float) -> None:
        scaling = {"none": 1.0, "sqrt": math.sqrt(batch_ratio), "linear": batch_ratio}
        self.peak = config.optimizer.learning_rate * scaling[config.optimizer.rate_scaling]
        self.schedule = CheckedSchedule(config, steps, warmup_steps(config, steps))
        self.reduction = 1.0

    def at(self, epoch: int, step: int) -> float:
        """Return the learning rate of a step of an epoch, both from 0."""
        return self.peak * self.reduction * self.schedule.factor(epoch, step)

    def close_epoch(self, epoch: int, validation_loss: float) -> None:
        """Pass the validation loss of an epoch to the schedule."""
        self.schedule.close_epoch(epoch, validation_loss)

    def halve(self) -> None:
        """Halve the rate of all later steps."""
        self.reduction *= 0.5

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs."""
        return {"reduction": self.reduction, "schedule": self.schedule.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.reduction = state["reduction"]
        self.schedule.restore(state["schedule"])
