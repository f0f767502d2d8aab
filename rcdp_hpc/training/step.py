"""One step of the training: forward pass, backward pass, sum of the gradients over ranks, update of the weights."""

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
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.parallel.statistics import running_statistics
from rcdp_hpc.training.monitor.divergence import Finding, first_in_backward, first_in_forward
from rcdp_hpc.training.monitor.gradient_norms import GradientNorms
from rcdp_hpc.training.optim.fake_quantization import rounded_weights
from rcdp_hpc.training.optim.gradients import add_penalty, clip, shrink
from rcdp_hpc.training.optim.loss_scale import LossScale
from rcdp_hpc.training.optim.objective import Objective
from rcdp_hpc.training.partition.mixup import Mixup
from rcdp_hpc.training.pruning.pruner import Pruner
from rcdp_hpc.training.states.cache import CachedStates
from rcdp_hpc.training.teacher import TeacherTargets

HALF_PRECISION_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Batch:
    """A rank's rows of a batch.

    Attributes
    ----------
    states : torch.Tensor, shape (rows, width), float32
        Mixed with those of the partners (``augment.mixup``).
    labels : torch.Tensor, shape (rows,), int64
    draw : SampleRng
        Random numbers of these rows.
    mixed : tuple of torch.Tensor, optional
        With mixup: labels of the partners, int64, and share of each row itself, float32, both of shape (rows,).
    teacher : torch.Tensor, shape (rows, classes), optional
        With a teacher: its probabilities at ``loss.teacher_temperature``, mixed like the states.
    """

    states: torch.Tensor
    labels: torch.Tensor
    draw: SampleRng
    mixed: tuple[torch.Tensor, torch.Tensor] | None
    teacher: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class StepResult:
    """The result of a step.

    Attributes
    ----------
    loss_sum, correct : float
        Over this rank's rows: weighted sum of the loss, and number of rows with the highest score for their class.
    gradient_norm : float
        Norm of the summed gradient before clipping, the same on all ranks; of this rank's gradient if ranks step
        independently.
    fault : tuple of int and str, optional
        If the gradient was not finite: the first place with such a value on this rank. The weights did not change.
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
    seed : int
        Seed of the dropout and of the augmentation.
    network : Readout or EndToEnd
    optimizer : torch.optim.Optimizer
    objective : Objective
    train : CachedStates
        This rank's rows.
    parallel : Strategy
        What the ranks sum.
    mixup : Mixup, optional
        Chooses the partner of each row.
    gradient_norms : GradientNorms, optional
        Measures the gradients of each step.
    teacher : TeacherTargets, optional
        The probabilities that the training imitates.
    pruner : Pruner, optional
        Removes weights.
    """

    def __init__(
        self,
        config: Config,
        seed: int,
        network: Network,
        optimizer: Any,
        objective: Objective,
        train: CachedStates,
        parallel: Strategy,
        mixup: Mixup | None = None,
        gradient_norms: GradientNorms | None = None,
        teacher: TeacherTargets | None = None,
        pruner: Pruner | None = None,
    ) -> None:
        self.config = config
        self.seed = seed
        self.network = network
        self.optimizer = optimizer
        self.objective = objective
        self.train = train
        self.parallel = parallel
        self.mixup = mixup
        self.gradient_norms = gradient_norms
        self.teacher = teacher
        self.pruner = pruner
        self.statistics = running_statistics(network)
        self.scale = LossScale(config.training.precision == "fp16")
        self.trained = [weights for weights in network.parameters() if weights.requires_grad]

    def fetch(self, epoch: int, rows: torch.Tensor) -> Batch:
        """Return the batch of these local row indices, shape (rows,), int64, in an epoch counted from 0."""
        states, labels = self.train.batch(rows)
        draw = SampleRng.at(self.seed, epoch, self.train.numbers_of(rows))
        mixed = None
        teacher = self.teacher.of(self.train.numbers_of(rows)) if self.teacher else None
        if self.mixup:
            partners, shares = self.mixup.pairs(draw, rows + self.train.first)
            others, other_labels = self.train.batch(partners - self.train.first)
            states, mixed = states.lerp(others, 1 - shares[:, None]), (other_labels, shares)
            if self.teacher and teacher is not None:
                numbers = self.train.numbers_of(partners - self.train.first)
                teacher = teacher.lerp(self.teacher.of(numbers), 1 - shares[:, None])
        return Batch(states, labels, draw, mixed, teacher)

    def step(self, batches: Sequence[Batch], weight: float, rate: float) -> StepResult:
        """Update the weights once.

        If the gradient is not finite, the loss scale is lowered until it is finite or the scale is 1; then the result
        has a fault, and the weights do not change.

        Parameters
        ----------
        batches : sequence of Batch
            This rank's rows of each batch whose gradients are accumulated; there may be no rows.
        weight : float
            Sum of the weights of all ranks' rows.
        rate : float
            Learning rate.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        before = [values.clone() for values in self.statistics]
        result = self._try(batches, weight, rate)
        while result.fault is None and not math.isfinite(result.gradient_norm):
            if not self.scale.lower():
                result.fault = self._find_fault(batches)
            for values, earlier in zip(self.statistics, before, strict=True):
                values.copy_(earlier)
            if result.fault is None:
                result = self._try(batches, weight, rate)
        return result

    def _try(self, batches: Sequence[Batch], weight: float, rate: float) -> StepResult:
        """Update the weights if the gradient is finite."""
        if self.pruner:
            self.pruner.begin_pass()
        loss_sum, correct = self._accumulate(batches, weight)
        self.parallel.sum_gradients(self.optimizer)
        self.scale.unscale(self.network)
        if self.pruner:
            self.pruner.end_pass()
        layer_norms = self.gradient_norms.layer_norms() if self.gradient_norms else None
        add_penalty(self.trained, self.config.loss.l2)
        norm = float(clip(self.trained, self.config.optimizer.clip_norm))
        if math.isfinite(norm):
            if self.gradient_norms and layer_norms is not None:
                self.gradient_norms.add(layer_norms, self.scale.factor)
            self.parallel.update(self.optimizer)
            shrink(self.optimizer, self.trained, self.config.loss.l1)
            if self.pruner:
                self.pruner.end_step(rate)
            self.scale.grow()
        elif self.gradient_norms:
            self.gradient_norms.leave_out()
        return StepResult(loss_sum, correct, norm)

    def _accumulate(self, batches: Sequence[Batch], weight: float) -> tuple[float, float]:
        """Add up the gradients of the batches; return the sum of the losses and the number of correct rows."""
        for weights in self.trained:
            weights.grad = None
        self.parallel.expect_passes(self.optimizer, len(batches))
        loss_sum, correct = 0.0, 0.0
        for batch in self._nonempty(batches):
            scores, loss = self._loss(batch)
            # The loss of a rank is its share of the mean over the global batch, so the sum of the ranks' gradients is
            # the gradient of the mean.
            (loss * self.scale.factor / weight).backward()  # type: ignore[no-untyped-call]
            loss_sum += loss.item()
            correct += (scores.detach().argmax(1) == batch.labels).sum().item()
        for weights in self.trained:
            # A rank that steps independently and has no rows updates the optimiser's moments with gradient 0.
            if weights.grad is None:
                weights.grad = torch.zeros_like(weights)
        return loss_sum, correct

    def _nonempty(self, batches: Sequence[Batch]) -> list[Batch]:
        """Return the batches to compute: all if other ranks wait for their statistics, otherwise those with rows."""
        return [batch for batch in batches if len(batch) or self.parallel.syncs_gradients]

    def _loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores of the rows and the weighted sum of their losses."""
        scores = self.scores(batch.states, batch.draw)
        return scores, self.objective.sum(scores, batch.labels, batch.mixed, batch.teacher)

    def scores(
        self, states: torch.Tensor, draw: SampleRng | None = None, network: nn.Module | None = None
    ) -> torch.Tensor:
        """Return the scores of a network, float32, with products in the number format of ``training.precision``.

        With ``training.weight_bits = 8`` they are those of the rounded weights, also in the validation.

        Parameters
        ----------
        states : torch.Tensor, shape (rows, width), float32
        draw : SampleRng, optional
            Random numbers of the rows, in training.
        network : nn.Module, optional
            Default: the network that is trained.
        """
        halved = HALF_PRECISION_TYPES.get(self.config.training.precision)
        with torch.autocast(states.device.type, dtype=halved, enabled=halved is not None):
            scores: torch.Tensor = self._forward(network or self.network, states, draw)
        return scores.float()

    def _forward(self, network: nn.Module, states: torch.Tensor, draw: SampleRng | None) -> Any:
        if self.config.training.weight_bits != 8:
            return network(states, draw)
        return torch.func.functional_call(network, rounded_weights(network), (states, draw))

    def _find_fault(self, batches: Sequence[Batch]) -> Finding:
        findings = [self._find_in(batch) for batch in self._nonempty(batches)]
        return min([finding for finding in findings if finding], default=first_in_backward(self.network))

    def _find_in(self, batch: Batch) -> Finding | None:
        return first_in_forward(self.network, batch.states, lambda: self._loss(batch))
