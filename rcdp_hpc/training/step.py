"""One step of the training: forward, backward, the sum over ranks, and the update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rcdp_hpc.config import Config
from rcdp_hpc.networks.base import Network
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.parallel.statistics import running_statistics
from rcdp_hpc.training.monitor.divergence import Finding, first_in_backward, first_in_forward
from rcdp_hpc.training.monitor.gradient_norms import GradientWatch
from rcdp_hpc.training.optim.gradients import add_penalties, clip
from rcdp_hpc.training.optim.loss_scale import LossScale
from rcdp_hpc.training.optim.objective import Objective
from rcdp_hpc.training.partition.mixup import Mixup
from rcdp_hpc.training.states.cache import CachedStates

HALF_PRECISION_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Batch:
    """What a rank's rows of a batch are computed from: all of it is known before the step.

    Attributes
    ----------
    states : torch.Tensor, shape (rows, width), float32
        Mixed ones where rows are mixed.
    labels : torch.Tensor, shape (rows,), int64
    draw : SampleRng
        What is drawn at random for these rows.
    mixed : tuple of torch.Tensor, optional
        Labels of the rows mixed in, and the share of each row's own.
    """

    states: torch.Tensor
    labels: torch.Tensor
    draw: SampleRng
    mixed: tuple[torch.Tensor, torch.Tensor] | None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class StepResult:
    """What a step showed.

    Attributes
    ----------
    loss_sum, correct : float
        Over this rank's rows: weighted sum of the loss, and rows whose highest score is their class's.
    gradient_norm : float
        Norm of the summed gradient before clipping, the same on all ranks (in local SGD, this rank's own).
    fault : tuple of int and str, optional
        Where the gradient was not finite, what this rank found first. The weights are then those before the step.
    """

    loss_sum: float
    correct: float
    gradient_norm: float
    fault: Finding | None = None


class Stepper:
    """Takes the steps of a training.

    Parameters
    ----------
    config : Config
        Penalties, clipping, dropout.
    seed : int
        Seed of the dropout, and of the changes of images.
    network, optimizer, objective
        What is trained, by what, towards what.
    train : CachedStates
        This rank's rows.
    parallel : Alone
        Sums over ranks.
    mixup : Mixup, optional
        Which rows are mixed.
    watch : GradientWatch, optional
        Given the gradients of each step.
    """

    def __init__(
        self,
        config: Config,
        seed: int,
        network: Network,
        optimizer: Any,
        objective: Objective,
        train: CachedStates,
        parallel: SingleProcessEngine,
        mixup: Mixup | None = None,
        watch: GradientWatch | None = None,
    ) -> None:
        self.config, self.seed, self.network, self.optimizer = config, seed, network, optimizer
        self.objective, self.train, self.parallel = objective, train, parallel
        self.mixup, self.watch = mixup, watch
        self.statistics = running_statistics(network)
        self.scale = LossScale(config.training.precision == "fp16")
        self.trained = [weights for weights in network.parameters() if weights.requires_grad]

    def fetch(self, epoch: int, rows: torch.Tensor) -> Batch:
        """Return a batch of so numbered rows of this rank, counted from its first, in an epoch counted from 0."""
        states, labels = self.train.batch(rows)
        draw = SampleRng(self.seed, epoch, self.train.numbers_of(rows))
        mixed = None
        if self.mixup:
            partners, shares = self.mixup.pairs(draw, rows + self.train.first)
            others, other_labels = self.train.batch(partners - self.train.first)
            states, mixed = states.lerp(others, 1 - shares[:, None]), (other_labels, shares)
        return Batch(states, labels, draw, mixed)

    def take(self, batches: Sequence[Batch], weight: float, rate: float) -> StepResult:
        """Take one step: one update of the weights.

        Parameters
        ----------
        batches : sequence of Batch
            This rank's rows of each batch that the gradient is accumulated over; possibly none.
        weight : float
            Sum of the weights of all ranks' rows.
        rate : float
            Learning rate.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        before = [values.clone() for values in self.statistics]
        result = self._try(batches, weight)
        while result.fault is None and not math.isfinite(result.gradient_norm):
            if not self.scale.lower():
                result.fault = self._find_fault(batches)
            for values, earlier in zip(self.statistics, before, strict=True):
                values.copy_(earlier)
            if result.fault is None:
                result = self._try(batches, weight)
        return result

    def _try(self, batches: Sequence[Batch], weight: float) -> StepResult:
        """Update the weights where the gradient is finite."""
        loss_sum, correct = self._accumulate(batches, weight)
        self.parallel.sum_gradients(self.optimizer)
        self.scale.unscale(self.network)
        layer_norms = self.watch.layer_norms() if self.watch else None
        add_penalties(self.trained, self.config.loss.l1, self.config.loss.l2)
        norm = clip(self.trained, self.config.optimizer.clip_norm)
        if math.isfinite(norm):
            if self.watch and layer_norms is not None:
                self.watch.add(layer_norms, self.scale.factor)
            self.parallel.update(self.optimizer)
            self.scale.grow()
        elif self.watch:
            self.watch.leave_out()
        return StepResult(loss_sum, correct, norm)

    def _accumulate(self, batches: Sequence[Batch], weight: float) -> tuple[float, float]:
        """Add up the gradients of the batches; return the sum of the losses and the rows that are right."""
        for weights in self.trained:
            weights.grad = None
        self.parallel.expect_passes(self.optimizer, len(batches))
        loss_sum, correct = 0.0, 0.0
        for batch in self._nonempty(batches):
            scores, loss = self._loss(batch)
            # A rank's loss is its share of the mean over the global batch, so that the gradients' sum is the gradient.
            (loss * self.scale.factor / weight).backward()  # type: ignore[no-untyped-call]
            loss_sum += loss.item()
            correct += (scores.detach().argmax(1) == batch.labels).sum().item()
        for weights in self.trained:
            # A rank on its own, without rows: its moments go on as if the gradient were 0.
            if weights.grad is None:
                weights.grad = torch.zeros_like(weights)
        return loss_sum, correct

    def _nonempty(self, batches: Sequence[Batch]) -> list[Batch]:
        """Return the batches to compute: all, as other ranks count on them, or of a rank on its own those with rows."""
        return [batch for batch in batches if len(batch) or not self.parallel.local]

    def _loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores of the rows and the weighted sum of their losses."""
        scores = self.scores(batch.states, batch.draw)
        return scores, self.objective.sum(scores, batch.labels, batch.mixed)

    def scores(
        self, states: torch.Tensor, draw: SampleRng | None = None, network: nn.Module | None = None
    ) -> torch.Tensor:
        """Return a network's scores, float32, its products in the number format of ``training.precision``.

        Without `network`, those of the one that is trained.
        """
        halved = HALF_PRECISION_TYPES.get(self.config.training.precision)
        with torch.autocast(states.device.type, dtype=halved, enabled=halved is not None):
            scores: torch.Tensor = (network or self.network)(states, draw)
        return scores.float()

    def _find_fault(self, batches: Sequence[Batch]) -> Finding:
        findings = [self._find_in(batch) for batch in self._nonempty(batches)]
        return min([finding for finding in findings if finding], default=first_in_backward(self.network))

    def _find_in(self, batch: Batch) -> Finding | None:
        return first_in_forward(self.network, batch.states, lambda: self._loss(batch))
