"""One step of the training: forward, backward, the sum over ranks, and the update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rcdp_hpc.config import TrainingSection
from rcdp_hpc.training.cache import CachedStates
from rcdp_hpc.training.gradients import add_penalties, clip
from rcdp_hpc.training.losses import Objective
from rcdp_hpc.training.networks.assembly import EndToEnd
from rcdp_hpc.training.networks.base import Readout
from rcdp_hpc.training.networks.draw import DropoutDraw
from rcdp_hpc.training.parallel import Alone


@dataclass
class StepResult:
    """What a step showed.

    Attributes
    ----------
    loss_sum, correct : float
        Over this rank's rows: weighted sum of the loss, and rows whose highest score is their class's.
    gradient_norm : float
        Norm of the summed gradient before clipping, the same on all ranks.
    """

    loss_sum: float
    correct: float
    gradient_norm: float


class Stepper:
    """Takes the steps of a training.

    Parameters
    ----------
    settings : TrainingSection
        Penalties, clipping, dropout.
    seed : int
        Seed of the dropout, and of the changes of images.
    network, optimizer, objective
        What is trained, by what, towards what.
    train : CachedStates
        This rank's rows.
    parallel : Alone
        Sums over ranks.
    """

    def __init__(
        self,
        settings: TrainingSection,
        seed: int,
        network: Readout | EndToEnd,
        optimizer: Any,
        objective: Objective,
        train: CachedStates,
        parallel: Alone,
    ) -> None:
        self.settings, self.seed, self.network, self.optimizer = settings, seed, network, optimizer
        self.objective, self.train, self.parallel = objective, train, parallel

    def take(self, epoch: int, rows: torch.Tensor, weight: float, rate: float) -> StepResult:
        """Take one step.

        Parameters
        ----------
        epoch : int
            From 0, for what is drawn at random.
        rows : torch.Tensor, int64
            This rank's rows, counted from its first; possibly none.
        weight : float
            Sum of the weights of all ranks' rows.
        rate : float
            Learning rate.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        scores, loss = self._loss(epoch, rows)
        # Each rank's loss is its share of the mean over the global batch, so that the gradients' sum is the gradient.
        (loss / weight).backward()  # type: ignore[no-untyped-call]
        self.parallel.sum_gradients(self.optimizer)
        add_penalties(self.network, self.settings.l1, self.settings.l2)
        norm = clip(self.network, self.settings.clip_norm)
        self.parallel.update(self.optimizer)
        correct = float((scores.argmax(1) == self.train.labels[rows]).sum())
        return StepResult(loss.item(), correct, norm)

    def _loss(self, epoch: int, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores of the rows and the weighted sum of their losses."""
        states, labels = self.train.batch(rows)
        draw = DropoutDraw(self.seed, epoch, rows + self.train.first)
        scores = self.network(states, draw)
        return scores, self.objective.sum(scores, labels)
