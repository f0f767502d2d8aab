"""The learning rate over time: a function of the step, and of the validation losses where it waits for a plateau."""

from __future__ import annotations

import math
from typing import Any

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.collective import agreed
from rcdp_hpc.training.checks import warmup_steps

ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = 1 / 25e4
ONE_CYCLE_RISE = 0.3
LEAST_GAIN = 1e-4


class Schedule:
    """The learning rate of each step.

    With the peak h, T steps in all and w steps of warm-up, step t (from 0) has the rate

    - in the warm-up, t < w: ``h (t + 1) / w``
    - constant: ``h``
    - step: ``h factor^(epoch // n)``
    - cosine: ``h (1 + cos(pi (t - w) / (T - w))) / 2``
    - plateau: ``h factor^k``, k how often n epochs in a row brought no validation loss below (1 - 1e-4) times the best
    - one_cycle: on half a cosine from h / 25 to h in the first w steps (30 % of T without a warm-up), on another to
      h / 250,000 in the others (Smith and Topin, "Super-convergence", 2018; the momentum is left alone)

    with n = ``schedule.interval`` and factor = ``schedule.factor``.

    The peak is ``optimizer.learning_rate`` times the global batch over ``training.batch``, or its square root, as
    ``optimizer.rate_scaling`` says. That is the number of ranks the training began on, unless ``training.global_batch``
    is set: a resumed one keeps its global batch, and so its rate.

    Parameters
    ----------
    config : Config
        Where the keys above are.
    steps : int
        Steps of an epoch.
    ranks : float
        Global batch over batch per rank.

    Raises
    ------
    InputError
        If the warm-up is no shorter than the training.
    """

    def __init__(self, config: Config, steps: int, ranks: float) -> None:
        self.config, self.steps = config, steps
        self.peak = (
            config.optimizer.learning_rate
            * {"none": 1.0, "sqrt": math.sqrt(ranks), "linear": ranks}[config.optimizer.rate_scaling]
        )
        self.total = config.training.epochs * steps
        try:
            self.warmup = warmup_steps(config, steps)
        except InputError as error:
            raise agreed(error) from None
        self.reduction = 1.0
        self.best_loss = float("inf")
        self.waited = 0

    def rate(self, epoch: int, step: int) -> float:
        """Return the learning rate of a step of an epoch, both from 0."""
        return self.peak * self.reduction * self._shape(epoch, epoch * self.steps + step)

    def _shape(self, epoch: int, t: int) -> float:
        kind = self.config.schedule.kind
        if kind == "one_cycle":
            return self._one_cycle(t)
        if t < self.warmup:
            return (t + 1) / self.warmup
        if kind == "cosine":
            return _falling((t - self.warmup) / (self.total - self.warmup))
        if kind == "step":
            return float(self.config.schedule.factor ** (epoch // self.config.schedule.interval))
        return 1.0

    def _one_cycle(self, t: int) -> float:
        rise = self.warmup or max(1, round(ONE_CYCLE_RISE * self.total))
        if t < rise:
            return 1 + (ONE_CYCLE_START - 1) * _falling(t / rise)
        return ONE_CYCLE_END + (1 - ONE_CYCLE_END) * _falling((t - rise) / max(1, self.total - rise))

    def close_epoch(self, epoch: int, validation_loss: float) -> None:
        """Take notice of an epoch's validation loss: where it waits for a plateau, the rate may fall."""
        if self.config.schedule.kind != "plateau" or (epoch + 1) * self.steps <= self.warmup:
            return
        if validation_loss < self.best_loss * (1 - LEAST_GAIN):
            self.best_loss, self.waited = validation_loss, 0
            return
        self.waited += 1
        if self.waited >= self.config.schedule.interval:
            self.reduction, self.waited = self.reduction * self.config.schedule.factor, 0

    def lower(self) -> None:
        """Halve the rate of all steps to come."""
        self.reduction *= 0.5

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs."""
        return {"reduction": self.reduction, "best_loss": self.best_loss, "waited": self.waited}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.reduction, self.best_loss, self.waited = state["reduction"], state["best_loss"], state["waited"]


def _falling(done: float) -> float:
    """Return half a cosine: 1 at 0, 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * done))
