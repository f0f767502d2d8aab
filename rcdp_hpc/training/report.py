"""Where a training stands, and what each epoch showed."""

from __future__ import annotations

from dataclasses import dataclass, field

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

    def next_epoch(self) -> None:
        """Go to the beginning of the next epoch."""
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum = self.correct = self.norm_sum = self.norm_max = 0.0


@dataclass
class EpochReport:
    """What one epoch showed, over all ranks: a line of ``metrics.jsonl`` (docs/formats.md).

    Seconds and class counts are per rank; a rank's counts are the training rows of each class that it took steps with.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    gradient_norm: float
    gradient_norm_max: float
    seconds: float
    compute_seconds: list[float] = field(default_factory=list)
    wait_seconds: list[float] = field(default_factory=list)
    class_counts: list[list[int]] = field(default_factory=list)
