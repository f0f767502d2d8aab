"""One step of the training: forward pass, backward pass, sum of the gradients over ranks, update of the weights.

A step reads nothing back from the device, so that the host can prepare the next ones, and a GPU can repeat a recorded
step. What it reads is in buffers (`StepInputs`), what it adds up is on the device (`StepSums`). If a gradient is not
finite, this step and all later ones change nothing, until the host reads the sums, returns to that step and handles it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices.choice import is_user_class
from rcdp_hpc.networks.base import Network
from rcdp_hpc.networks.sample_rng import EpochKeys, SampleRng
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.training.monitor.divergence import Finding, first_in_backward, first_in_forward
from rcdp_hpc.training.monitor.gradient_norms import GradientNorms
from rcdp_hpc.training.optim.ema import MovingAverage
from rcdp_hpc.training.optim.fake_quantization import rounded_weights
from rcdp_hpc.training.optim.gradients import add_penalty, clip, shrink
from rcdp_hpc.training.optim.halved_weights import halved_weights
from rcdp_hpc.training.optim.loss_scale import LossScale
from rcdp_hpc.training.optim.objective import Objective
from rcdp_hpc.training.partition.mixup import DRAW, Mixup
from rcdp_hpc.training.pruning.pruner import Pruner
from rcdp_hpc.training.states.cache import CachedStates
from rcdp_hpc.training.step_inputs import Batch, StepInputs
from rcdp_hpc.training.step_sums import SavedStatistics, StepSums
from rcdp_hpc.training.teacher import TeacherTargets

HALF_PRECISION_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class StepResult:
    """The result of a step that the host waited for.

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
    average : MovingAverage, optional
        Updated after each step.

    Attributes
    ----------
    inputs : StepInputs
        What the next step reads.
    sums : StepSums
        What the steps add up.
    run : callable
        Runs the step of the stepper that it is given, whose inputs are filled: `run_eagerly`, or what repeats a
        recorded step.
    rate_on_device : bool
        Whether the optimiser reads the learning rate from the device, as a recorded step must.
    casts_together : bool
        Whether weights are cast to 16 bits by one call, and their gradients by one at the end of the backward pass. An
        engine that sums gradients during the backward pass would have to wait for it.
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
        average: MovingAverage | None = None,
    ) -> None:
        self.config = config
        self.network = network
        self.optimizer = optimizer
        self.objective = objective
        self.train = train
        self.parallel = parallel
        self.mixup = mixup
        self.gradient_norms = gradient_norms
        self.teacher = teacher
        self.pruner = pruner
        self.average = average
        draws = [*network.random_draws(), *([DRAW] if mixup else [])]
        self.keys = EpochKeys(seed, train.device, draws, train.all_numbers()).begin(0)
        self.statistics = SavedStatistics(network)
        self.scale = LossScale(config.training.precision == "fp16")
        self.trained = [weights for weights in network.parameters() if weights.requires_grad]
        self.inputs = StepInputs(train.device)
        self.sums = StepSums(train.device)
        # A bound method would refer to its object, which would keep the states until garbage is collected.
        self.run: Callable[[Stepper], None] = Stepper.run_eagerly
        self.rate_on_device = False
        self.casts_together = parallel.alone
        # A class of the user's own may use weights in other ways than torch.autocast casts them.
        self.has_own_network = any(is_user_class(kind) for kind in (config.readout.kind, config.extractor.kind))
        self.needs_host = self._needs_host()
        if not self.needs_host:
            # Torch's convention: where it is 1, an optimiser leaves weights and moments as they are.
            self.optimizer.found_inf = self.sums.halted

    def _needs_host(self) -> str:
        """Return what makes the host wait for each step, for messages; empty if nothing does."""
        if not getattr(self.optimizer, "reads_nothing_back", False):
            return f"optimizer.kind = {self.config.optimizer.kind!r} does not read found_inf"
        if self.pruner and not self.pruner.reads_nothing_back:
            return f"pruning.method = {self.config.pruning.method!r}"
        return ""

    def begin_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0, whose random numbers the steps draw."""
        self.keys.begin(epoch)

    def fetch(self, rows: torch.Tensor) -> Batch:
        """Return the batch of these local row indices, shape (rows,), int64, in the current epoch."""
        states, labels = self.train.batch(rows)
        draw = self.keys.of(rows)
        teacher = self.teacher.of(self.train.numbers_of(rows)) if self.teacher else None
        if not self.mixup:
            return Batch(states, labels, draw, teacher=teacher)
        partners, shares = self.mixup.pairs(draw, rows + self.train.first)
        partners = partners - self.train.first
        others, other_labels = self.train.batch(partners)
        states = states.lerp(others, 1 - shares[:, None])
        if self.teacher and teacher is not None:
            teacher = teacher.lerp(self.teacher.of(self.train.numbers_of(partners)), 1 - shares[:, None])
        return Batch(states, labels, draw, other_labels, shares, teacher)

    def launch(
        self,
        rows: Sequence[NDArray[np.int64]],
        weight: float,
        rate: float,
        fetched: Sequence[Batch] = (),
        run: Callable[[], None] | None = None,
    ) -> None:
        """Start a step. It changes nothing from the first step without a finite gradient on, until `StepSums.clear`.

        Parameters
        ----------
        rows : sequence of ndarray of int64
            This rank's local row indices of each batch whose gradients are accumulated; there may be none.
        weight : float
            Sum of the weights of all ranks' rows.
        rate : float
            Learning rate.
        fetched : sequence of Batch
            The batches, if they were fetched ahead.
        run : callable, optional
            Default: `run`.
        """
        self.inputs.fill(rows, weight, rate, self.scale.factor)
        for number, batch in enumerate(fetched):
            self.inputs.store(number, batch, self.keys.of(self.inputs.rows(number)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.inputs.rate if self.rate_on_device else rate
        if self.gradient_norms:
            self.gradient_norms.factor = self.scale.factor
        if run is None:
            self.run(self)
        else:
            run()
        self.scale.grow()

    def run_eagerly(self) -> None:
        """Run the step whose inputs are filled, call by call."""
        self.parallel.expect_passes(self.optimizer, len(self.inputs.counts))
        self.compute(self.inputs)
        self.parallel.sum_gradients(self.optimizer)
        self.apply(self.inputs)

    def step(
        self, rows: Sequence[NDArray[np.int64]], weight: float, rate: float, fetched: Sequence[Batch] = ()
    ) -> StepResult:
        """Take a step and wait for it; parameters as `launch`.

        If the gradient is not finite, the loss scale is lowered until it is finite or the scale is 1; then the result
        has a fault, and the weights do not change.
        """
        while True:
            before = self.scale.state()
            self.launch(rows, weight, rate, fetched, self.run_eagerly)
            sums = self.sums.read()
            result = StepResult(sums.step_loss, sums.step_correct, sums.step_norm)
            if math.isfinite(result.gradient_norm):
                return result
            self.sums.clear()
            if self.gradient_norms:
                self.gradient_norms.leave_out()
            self.scale.restore(before)
            if not self.scale.lower():
                result.fault = self._find_fault()
                self.statistics.restore()
                return result

    def compute(self, inputs: StepInputs) -> None:
        """Compute this rank's gradients, loss and correct rows of a step."""
        if self.pruner:
            self.pruner.begin_pass()
        self.statistics.save()
        for weights in self.trained:
            weights.grad = None
        losses, correct = [], []
        for number in self._nonempty(inputs):
            batch = self._batch(inputs, number)
            scores, loss = self._loss(batch)
            # The loss of a rank is its share of the mean over the global batch, so the sum of the ranks' gradients is
            # the gradient of the mean.
            loss.backward(inputs.seed.to(loss.dtype))  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            correct.append((scores.detach().argmax(1) == batch.labels).sum())
        self.sums.note_rows(losses, correct)
        for weights in self.trained:
            # A rank that steps independently and has no rows updates the optimiser's moments with gradient 0.
            if weights.grad is None:
                weights.grad = torch.zeros_like(weights)

    def _nonempty(self, inputs: StepInputs) -> list[int]:
        """Return the batches to compute: all if other ranks wait for their statistics, otherwise those with rows."""
        return [number for number, count in enumerate(inputs.counts) if count or self.parallel.syncs_gradients]

    def _batch(self, inputs: StepInputs, number: int) -> Batch:
        stored = inputs.stored(number)
        return self.fetch(inputs.rows(number)) if stored is None else stored

    def apply(self, inputs: StepInputs) -> None:
        """Update the weights with the summed gradients, and add up the step, unless the gradient is not finite."""
        self.scale.unscale(self.network, inputs.unscale)
        if self.pruner:
            self.pruner.end_pass()
        layer_norms = self.gradient_norms.layer_norms() if self.gradient_norms else None
        add_penalty(self.trained, self.config.loss.l2)
        self.sums.note_norm(clip(self.trained, self.config.optimizer.clip_norm))
        updates = not self.needs_host or bool(self.sums.going.item())
        if self.gradient_norms and layer_norms is not None:
            self.gradient_norms.add(layer_norms, self.sums.going)
        if updates:
            self.parallel.update(self.optimizer)
            shrink(self.optimizer, self.trained, self.config.loss.l1)
        if updates and self.pruner:
            self.pruner.end_step(inputs.rate_value)
        self.sums.add()
        self.statistics.restore(self.sums.going)
        if updates and self.average:
            self.update_average(self.average, halted=None if self.needs_host else self.sums.halted)

    def update_average(self, average: MovingAverage, steps: int = 1, halted: torch.Tensor | None = None) -> None:
        """Update the moving average with the current weights; parameters as `MovingAverage.update`."""
        average.update(self.network, steps, halted)
        if self.pruner:
            self.pruner.mask_average(average.weights)

    def _loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores of the rows and the weighted sum of their losses."""
        scores = self.scores(batch.states, batch.draw)
        return scores, self.objective.sum(scores, batch.labels, batch.mixed, batch.teacher, of_epoch=True)

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
        with torch.autocast(states.device.type, dtype=halved) if halved else nullcontext():
            scores: torch.Tensor = self._forward(network or self.network, states, draw)
        return scores.float()

    def _forward(self, network: nn.Module, states: torch.Tensor, draw: SampleRng | None) -> Any:
        halved = HALF_PRECISION_TYPES.get(self.config.training.precision)
        if self.config.training.weight_bits == 8:
            return torch.func.functional_call(network, rounded_weights(network), (states, draw), tie_weights=False)
        if halved and self.casts_together and torch.is_grad_enabled() and not self.has_own_network:
            return torch.func.functional_call(network, halved_weights(network, halved), (states, draw))
        return network(states, draw)

    def _find_fault(self) -> Finding:
        batches = [self._batch(self.inputs, number) for number in self._nonempty(self.inputs)]
        findings = [self._find_in(batch) for batch in batches]
        return min([finding for finding in findings if finding], default=first_in_backward(self.network))

    def _find_in(self, batch: Batch) -> Finding | None:
        return first_in_forward(self.network, batch.states, lambda: self._loss(batch))
