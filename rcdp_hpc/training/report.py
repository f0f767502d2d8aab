"""Where a training stands, and what each epoch showed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rcdp_hpc.training.monitor.epoch_cost import EpochCost
from rcdp_hpc.training.step import StepResult


@dataclass
class Position:
    """Where the training stands: all that a checkpoint needs besides weights, optimiser and schedule.

    Attributes
    ----------
    epoch, step : int
        The next step to take, both from 0.
    loss_sum, correct : float
        Sums over this rank's rows of the epoch so far.
    norm_sum, norm_max : float
        Sum and largest of the gradient norms of the epoch so far, the same on all ranks.
    skipped_steps, skipped_weight, skipped_rows : int, float, int
        Steps of the epoch that were left out, and the weight and number of their rows, over all ranks.
    best_loss, best_epoch : float, int
        Lowest validation loss and the epoch it was reached in.
    finished : str
        Why the training ended; empty while it goes on.
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
    best_loss: float = float("inf")
    best_epoch: int = -1
    finished: str = ""

    def add(self, result: StepResult) -> None:
        """Take a step's result into the sums, and go to the next."""
        self.step += 1
        self.loss_sum += result.loss_sum
        self.correct += result.correct
        self.norm_sum += result.gradient_norm
        self.norm_max = max(self.norm_max, result.gradient_norm)

    def skip(self, weight: float, rows: int) -> None:
        """Leave a step out, with the weight and number of its rows over all ranks, and go to the next."""
        self.step += 1
        self.skipped_steps += 1
        self.skipped_weight += weight
        self.skipped_rows += rows

    def next_epoch(self) -> None:
        """Go to the beginning of the next epoch."""
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum = self.correct = self.norm_sum = self.norm_max = self.skipped_weight = 0.0
        self.skipped_steps = self.skipped_rows = 0


@dataclass
class EpochReport:
    """What one epoch showed, over all ranks: a line of ``metrics.jsonl`` (docs/formats.md).

    Class counts are per rank: the training rows of each class that it took steps with. Gradients are what
    `GradientWatch.close` returns, None where they are not watched.
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

    def entry(self) -> dict[str, Any]:
        """Return the line: all but the class counts, and nothing that was not measured."""
        values = asdict(self)
        del values["class_counts"]
        cost, gradients = values.pop("cost"), values.pop("gradients")
        values |= {**cost, "gradients": gradients}
        return {name: value for name, value in values.items() if value is not None}
