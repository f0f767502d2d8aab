"""L0 regularisation: each weight has a random gate that is trained with it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from rcdp_hpc.config import PruningSection
from rcdp_hpc.training.pruning.pruner import Pruner

log = logging.getLogger(__name__)

Tensors = list[torch.Tensor]

# beta, gamma and zeta of the hard concrete distribution (Louizos et al., section 4).
TEMPERATURE = 2 / 3
LOW = -0.1
HIGH = 1.1
# A gate starts at this value of log alpha, with which it is open with a probability of 0.97.
FIRST = 2.0
# Adam with the constants of Kingma and Ba trains the gates. Its learning rate is such that the log alpha of a gate can
# change by this much in the epochs of the removal; from open to closed it is about 4.5.
TRAVEL = 20.0
MOMENTS = (0.9, 0.999)
EPSILON = 1e-8
# Separates the random numbers of the gates from those of other parts with the same seed.
STREAM = 0x10


def gate_probability(log_alpha: torch.Tensor) -> torch.Tensor:
    """Return the probability that a gate is not 0: ``sigmoid(log alpha - beta log(-gamma / zeta))``."""
    return torch.sigmoid(log_alpha - TEMPERATURE * math.log(-LOW / HIGH))


def gate_value(log_alpha: torch.Tensor) -> torch.Tensor:
    """Return the gate of a prediction: ``min(1, max(0, sigmoid(log alpha) (zeta - gamma) + gamma))``."""
    return (torch.sigmoid(log_alpha) * (HIGH - LOW) + LOW).clamp(0, 1)


def gate_sample(log_alpha: torch.Tensor, uniform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random gates and their derivatives by log alpha.

    ``s = sigmoid((log u - log(1 - u) + log alpha) / beta)`` and ``z = min(1, max(0, s (zeta - gamma) + gamma))``
    (Louizos, Welling and Kingma, "Learning sparse neural networks through L0 regularization", 2018, eq. 10 and 11).

    Parameters
    ----------
    log_alpha : torch.Tensor
    uniform : torch.Tensor
        u, in (0, 1), of the same shape.
    """
    s = torch.sigmoid((uniform.log() - (1 - uniform).log() + log_alpha) / TEMPERATURE)
    stretched = s * (HIGH - LOW) + LOW
    inside = (stretched > 0) & (stretched < 1)
    return stretched.clamp(0, 1), torch.where(inside, s * (1 - s) * (HIGH - LOW) / TEMPERATURE, 0.0)


class GatePruner(Pruner):
    """Removes the weights whose gates close.

    In the first ``pruning.epochs`` epochs, the forward passes of a step use ``w z`` with random gates z
    (`gate_sample`), and the loss has the penalty ``pruning.l0_penalty`` times the mean probability that a gate is not 0
    (`gate_probability`). The gradients of w and log alpha follow from that of w z by the chain rule, after its sum over
    ranks. Then each weight becomes ``w z`` with the gate of a prediction (`gate_value`), and those that are not 0 are
    trained further.

    Parameters
    ----------
    settings : PruningSection
    network : nn.Module
    steps : int
        Steps of an epoch.
    seed : int
        Seed of the gates, which are the same on all ranks.
    """

    def __init__(self, settings: PruningSection, network: nn.Module, steps: int, seed: int) -> None:
        super().__init__(settings, network, steps)
        self.seed = seed
        self.step = 0
        self.updates = 0
        self.gates = {name: torch.full_like(values, FIRST) for name, values in self._detached().items()}
        self.first = {name: torch.zeros_like(values) for name, values in self.gates.items()}
        self.second = {name: torch.zeros_like(values) for name, values in self.gates.items()}
        # Of the step under way, for each tensor: the weights of the network, gates and their derivatives, gradients of
        # log alpha.
        self.originals: Tensors = []
        self.samples: Tensors = []
        self.derivatives: Tensors = []
        self.gradients: Tensors = []

    def _detached(self) -> dict[str, torch.Tensor]:
        return {name: values.detach() for name, values in self.weights.items()}

    def _split(self, flat: torch.Tensor) -> Tensors:
        """Return the parts of a vector that belong to each tensor, in their shapes."""
        parts = flat.split([values.numel() for values in self.weights.values()])
        return [part.view(values.shape) for part, values in zip(parts, self.weights.values(), strict=True)]

    def is_due(self, step: int) -> bool:
        """Return whether the gates become fixed before a step; parameters as `Pruner.is_due`."""
        return bool(self.gates) and step >= self.last_step

    @torch.no_grad()
    def begin_step(self, step: int) -> None:
        """Fix the gates if this is the first step after the removal; parameters as `Pruner.begin_step`."""
        self.step = step
        if not self.is_due(step):
            return
        for name, log_alpha in self.gates.items():
            self.weights[name].mul_(gate_value(log_alpha))
        self.masks = {name: values != 0 for name, values in self._detached().items()}
        self.gates, self.first, self.second = {}, {}, {}
        log.info("%.3g %% of the %d weights are left, and are trained from now on", 100 * self.kept, self.total)

    @torch.no_grad()
    def begin_pass(self) -> None:
        """Multiply the weights by random gates."""
        if not self.gates:
            return
        entropy = np.random.SeedSequence([self.seed, STREAM, self.step]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(entropy[0]))
        weights, log_alpha = list(self._detached().values()), _flat(self.gates.values())
        uniform = _flat(torch.rand(values.shape, generator=generator) for values in weights).clamp_(1e-6, 1 - 1e-6)
        self.samples, self.derivatives = map(self._split, gate_sample(log_alpha, uniform.to(log_alpha.device)))
        self.originals = self._split(_flat(weights))
        torch._foreach_mul_(weights, self.samples)

    @torch.no_grad()
    def end_pass(self) -> None:
        """Restore the weights, and set the gradients of weights and gates."""
        super().end_pass()
        if not self.gates:
            return
        weights = list(self._detached().values())
        gradients = [values.grad for values in self.weights.values() if values.grad is not None]
        torch._foreach_copy_(weights, self.originals)
        self.gradients = list(torch._foreach_mul(gradients, weights))
        torch._foreach_mul_(self.gradients, self.derivatives)
        torch._foreach_mul_(gradients, self.samples)

    @torch.no_grad()
    def end_step(self, rate: float) -> None:
        """Update the gates by a step of Adam; parameters as `Pruner.end_step`."""
        super().end_step(rate)
        if not self.gates:
            return
        self.updates += 1
        b1, b2 = MOMENTS
        log_alpha, first, second = (list(table.values()) for table in (self.gates, self.first, self.second))
        probability = gate_probability(_flat(log_alpha))
        penalties = self.settings.l0_penalty / self.total * probability * (1 - probability)
        gradients = torch._foreach_add(self.gradients, self._split(penalties))
        torch._foreach_mul_(first, b1)
        torch._foreach_add_(first, gradients, alpha=1 - b1)
        torch._foreach_mul_(second, b2)
        torch._foreach_addcmul_(second, gradients, gradients, value=1 - b2)
        scales = torch._foreach_div(second, 1 - b2**self.updates)
        torch._foreach_sqrt_(scales)
        torch._foreach_add_(scales, EPSILON)
        means = torch._foreach_div(first, 1 - b1**self.updates)
        torch._foreach_addcdiv_(log_alpha, means, scales, value=-TRAVEL / self.last_step)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the network the weights of a prediction within the block: multiplied by their gates."""
        with torch.no_grad():
            originals = {name: self.weights[name].detach().clone() for name in self.gates}
            for name, log_alpha in self.gates.items():
                self.weights[name].mul_(gate_value(log_alpha))
            try:
                yield
            finally:
                for name, values in originals.items():
                    self.weights[name].copy_(values)

    def state(self) -> dict[str, torch.Tensor]:
        """Return what `restore` needs."""
        parts = {"gate": self.gates, "first": self.first, "second": self.second}
        tensors = {f"{part}.{name}": values for part, table in parts.items() for name, values in table.items()}
        return {**super().state(), **tensors, "updates": torch.tensor(self.updates)}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from a state; errors as `Pruner.restore`."""
        super().restore(state)
        self.updates = int(state["updates"])
        self.gates, self.first, self.second = (
            self._of_weights(state, part, torch.float32) for part in ("gate", "first", "second")
        )


def _flat(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the entries of tensors as one vector, a copy."""
    return torch.cat([values.flatten() for values in tensors])
