"""What a training does to remove weights: the interface, and pruning by magnitude."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import nn

from rcdp_hpc.config import PruningSection
from rcdp_hpc.training.pruning.magnitude import largest_weights, sparsity_at

log = logging.getLogger(__name__)


def prunable_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights that may be removed, by name: trained matrices and kernels, no biases or normalisations."""
    return {name: weights for name, weights in network.named_parameters() if weights.requires_grad and weights.ndim > 1}


class Pruner(ABC):
    """Removes weights of a network during its training.

    All ranks have the same weights, so all of them remove the same ones, without communication.

    Parameters
    ----------
    settings : PruningSection
    network : nn.Module
    steps : int
        Steps of an epoch.

    Attributes
    ----------
    reads_nothing_back : bool
        Whether all methods that are called in every step work on the device alone, in fixed tensors, and leave weights
        as they are if the optimiser did: then the host need not wait for the step. `begin_step` is not one of them; the
        host waits for the steps before one that `is_due`.
    weights : dict of str to torch.Tensor
        The weights that may be removed.
    total : int
        Number of their entries.
    masks : dict of str to torch.Tensor
        For each tensor, bool: True for the entries that are left; empty if no entry is removed for sure.
    """

    reads_nothing_back: ClassVar[bool] = False

    def __init__(self, settings: PruningSection, network: nn.Module, steps: int) -> None:
        self.settings = settings
        self.weights = prunable_weights(network)
        self.total = sum(values.numel() for values in self.weights.values())
        self.last_step = settings.epochs * steps
        self.masks: dict[str, torch.Tensor] = {}

    def removes_in(self, epoch: int) -> bool:
        """Return whether weights are removed in an epoch, counted from 0, so that its model is not a final one."""
        return epoch < self.settings.epochs

    @property
    def kept(self) -> float:
        """The share of the entries that are left."""
        left = sum(int(values.detach().count_nonzero()) for values in self.weights.values())
        return left / self.total

    @abstractmethod
    def is_due(self, step: int) -> bool:
        """Return whether `begin_step` changes weights before a step, counted from 0 over all epochs."""

    @abstractmethod
    def begin_step(self, step: int) -> None:
        """Remove weights if it is time to, before a step of the training, counted from 0 over all epochs."""

    def begin_pass(self) -> None:  # noqa: B027 - most methods leave the weights as they are
        """Set the weights of the forward passes of a step; by default they are those of the network."""

    @torch.no_grad()
    def end_pass(self) -> None:
        """Set the gradients of the weights, after they are summed over ranks; removed weights get none."""
        pairs = [(self.weights[name].grad, mask) for name, mask in self.masks.items()]
        _multiply([(gradient, mask) for gradient, mask in pairs if gradient is not None])

    @torch.no_grad()
    def end_step(self, rate: float) -> None:
        """Set removed weights to 0 again after the optimiser's update.

        Parameters
        ----------
        rate : float
            Learning rate of the step.
        """
        _multiply([(self.weights[name], mask) for name, mask in self.masks.items()])

    def mask_average(self, average: Mapping[str, torch.Tensor]) -> None:
        """Set removed weights to 0 in a moving average of the weights."""
        _multiply([(average[name], mask) for name, mask in self.masks.items()])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the network the weights of a prediction within the block; by default they are its own."""
        yield

    def state(self) -> dict[str, torch.Tensor]:
        """Return what `restore` needs."""
        return {f"mask.{name}": mask for name, mask in self.masks.items()}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from a state.

        Raises
        ------
        ValueError
            If a tensor of the state does not fit the network.
        """
        self.masks = self._of_weights(state, "mask", torch.bool)

    def _of_weights(self, state: Mapping[str, torch.Tensor], part: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Return the tensors of a part of a state by name of the weights: one for each of them, or none."""
        found = {name: state[f"{part}.{name}"] for name in self.weights if f"{part}.{name}" in state}
        if found and found.keys() != self.weights.keys():
            raise ValueError(f"{part} of {len(found)} tensors, expected {len(self.weights)}")
        for name, values in found.items():
            if values.shape != self.weights[name].shape or values.dtype != dtype:
                raise ValueError(f"{part}.{name} of the shape {tuple(values.shape)} ({values.dtype})")
        return {name: values.to(self.weights[name].device) for name, values in found.items()}


def _multiply(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Multiply the first tensor of each pair by the second, in place."""
    if pairs:
        torch._foreach_mul_([values for values, _ in pairs], [mask for _, mask in pairs])


class MagnitudePruner(Pruner):
    """Removes the least important weights, gradually (`sparsity_at`, `largest_weights`).

    Every ``pruning.every`` steps of the first ``pruning.epochs`` epochs, and once at their end, the network keeps the
    most important of the weights that it still has. Weights that are removed stay 0.
    """

    reads_nothing_back = True

    def __init__(self, settings: PruningSection, network: nn.Module, steps: int) -> None:
        super().__init__(settings, network, steps)
        # A step may have been recorded with these tensors, so that they are the same throughout the training.
        self.masks = {name: torch.ones_like(values, dtype=torch.bool) for name, values in self.weights.items()}

    def is_due(self, step: int) -> bool:
        """Return whether weights are removed before a step; parameters as `Pruner.is_due`."""
        return step == self.last_step or (0 < step < self.last_step and step % self.settings.every == 0)

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from a state; errors as `Pruner.restore`."""
        for name, mask in self._of_weights(state, "mask", torch.bool).items():
            self.masks[name].copy_(mask)

    @torch.no_grad()
    def begin_step(self, step: int) -> None:
        """Remove weights if it is time to; parameters as `Pruner.begin_step`."""
        if not self.is_due(step):
            return
        sparsity = sparsity_at(step, self.last_step, 1 - self.settings.keep)
        count = max(1, round((1 - sparsity) * self.total))
        for name, mask in largest_weights(self.weights, count).items():
            self.masks[name].copy_(mask)
        self.end_step(0.0)
        if step == self.last_step:
            log.info("%.3g %% of the %d weights are left, and are trained from now on", 100 * self.kept, self.total)
