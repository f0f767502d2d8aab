"""The position of a training, and the report of each epoch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from rcdp_hpc.training.monitor.epoch_cost import EpochCost


@dataclass
class Position:
    """The position of the training: all that a checkpoint needs in addition to weights, optimiser and schedule.

    Attributes
    ----------
    epoch, step : int
        The next step, both from 0.
    loss_sum, correct : float
        Sums over this rank's rows of the epoch so far.
    norm_sum, norm_max : float
        Sum and largest of the gradient norms of the epoch so far, the same on all ranks.
    skipped_steps, skipped_weight, skipped_rows : int, float, int
        Steps of the epoch that were skipped, and the weight and number of their rows, over all ranks.
    best_fitness, best_loss, best_epoch : float, float, int
        Largest fitness of an epoch (`EpochReport.fitness`), the validation loss of this epoch, and the epoch; -inf, inf
        and -1 before the first epoch is done.
    least_loss : float
        Lowest validation loss of an epoch.
    improved_epoch : int
        The last epoch with a better fitness or a lower validation loss than all before it; -1 before the first.
    finished : str
        Why the training ended; empty while it runs.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: float = 0.0
    norm_sum: float = 0.0
    norm_max: float = 0.0
    skipped_steps: int = 0
    skipped_weight: float = 0.0
    skipped_rows: int = 0
    best_fitness: float = float("-inf")
    best_loss: float = float("inf")
    best_epoch: int = -1
    least_loss: float = float("inf")
    improved_epoch: int = -1
    finished: str = ""

    def compare(self, epoch: int, fitness: float, loss: float, restart: bool = False) -> bool:
        """Compare an epoch with those before it, and return whether it is the best.

        Of equal fitness, the epoch with the lower validation loss is the better one: a criterion of predicted classes
        has plateaus.

        Parameters
        ----------
        epoch : int
        fitness, loss : float
        restart : bool
            Whether the epochs before it do not count any more.
        """
        is_best = restart or self.best_epoch < 0 or (fitness, -loss) > (self.best_fitness, -self.best_loss)
        if is_best:
            self.best_fitness = fitness
            self.best_loss = loss
            self.best_epoch = epoch
        if is_best or loss < self.least_loss:
            self.improved_epoch = epoch
        self.least_loss = loss if restart else min(loss, self.least_loss)
        return is_best

    def skip(self, weight: float, rows: int) -> None:
        """Skip a step, with the weight and number of its rows over all ranks, and advance by one step."""
        self.step += 1
        self.skipped_steps += 1
        self.skipped_weight += weight
        self.skipped_rows += rows

    def next_epoch(self) -> None:
        """Advance to the first step of the next epoch."""
        self.epoch += 1
        self.step = 0
        self.loss_sum = self.correct = self.norm_sum = self.norm_max = self.skipped_weight = 0.0
        self.skipped_steps = self.skipped_rows = 0


@dataclass
class EpochReport:
    """The results of one epoch, over all ranks: a line of ``metrics.jsonl`` (docs/formats.md).

    ``class_counts`` has, for each rank, the training rows of each class in its steps. ``gradients`` is the result of
    `GradientNorms.close`; None if gradients are not measured. ``weights_left`` is the share of weights that are not
    zero, if the training removes some (``[pruning]``). ``validation_fitness`` is the criterion of
    ``training.criterion``, negative if lower is better; None for the loss.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    validation_macro_f1: float
    learning_rate: float
    gradient_norm: float
    gradient_norm_max: float
    skipped_steps: int
    samples_per_second: float
    cost: EpochCost
    gradients: dict[str, Any] | None
    class_counts: list[list[int]]
    weights_left: float | None = None
    validation_fitness: float | None = None

    @property
    def fitness(self) -> float:
        """What is largest in the best epoch; -inf if the criterion is undefined."""
        if self.validation_fitness is None:
            return -self.validation_loss
        return -math.inf if math.isnan(self.validation_fitness) else self.validation_fitness

    def entry(self) -> dict[str, Any]:
        """Return the line of ``metrics.jsonl``: without class counts and without values that were not measured."""
        values = asdict(self)
        del values["class_counts"]
        cost, gradients = values.pop("cost"), values.pop("gradients")
        values |= {**cost, "gradients": gradients}
        return {name: value for name, value in values.items() if value is not None}
