"""Sums over the steps of an epoch, on the device, and the flag of a step without a finite gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from rcdp_hpc.parallel.statistics import running_statistics


class Sums(NamedTuple):
    """What the host reads of the steps so far.

    Attributes
    ----------
    step_loss, step_correct, step_norm : float
        Of the last step: sum of the loss and number of correct rows of this rank, and norm of the gradient.
    loss, correct, norm : float
        Sums over the steps with a finite gradient.
    steps : int
        Number of these steps.
    largest_norm : float
        Largest norm of their gradients.
    """

    step_loss: float
    step_correct: float
    step_norm: float
    loss: float
    correct: float
    norm: float
    steps: int
    largest_norm: float


class StepSums:
    """Sums over the steps of an epoch, in float64.

    From the first step whose gradient has no finite norm, steps change nothing until the host has seen it: `going` is
    False, and whatever a step changes is masked by it.

    Parameters
    ----------
    device : torch.device

    Attributes
    ----------
    going : torch.Tensor, bool, 0-dim
        Whether all gradients were finite since `clear`.
    halted : torch.Tensor, float32, 0-dim
        1 if not `going`, else 0: what torch's optimisers read as ``found_inf``.
    """

    def __init__(self, device: torch.device) -> None:
        # Of the last step: loss, correct rows, norm, 1; sums of the same; the largest norm.
        self.values = torch.zeros(9, dtype=torch.float64, device=device)
        self.values[3] = 1
        self.last = self.values[:4]
        self.last_rows = self.values[:2]
        self.last_norm = self.values[2]
        self.totals = self.values[4:8]
        self.largest = self.values[8]
        self.nothing = torch.zeros((), dtype=torch.float64, device=device)
        self.going = torch.ones((), dtype=torch.bool, device=device)
        self.halted = torch.zeros((), dtype=torch.float32, device=device)

    def set(self, loss: float, correct: float, norm: float, steps: int, largest_norm: float) -> None:
        """Set the sums: those of a position within an epoch, or 0."""
        self.values[4:] = torch.tensor([loss, correct, norm, steps, largest_norm], dtype=torch.float64)

    def clear(self) -> None:
        """Let steps change weights again."""
        self.going.fill_(True)
        self.halted.zero_()

    def note_rows(self, losses: Sequence[torch.Tensor], correct: Sequence[torch.Tensor]) -> None:
        """Set loss and correct rows of a step from those of its batches, 0-dim; there may be none."""
        if not losses:
            self.last_rows.zero_()
            return
        loss, count = losses[0], correct[0]
        for more, more_correct in zip(losses[1:], correct[1:], strict=True):
            loss, count = loss.double() + more, count + more_correct
        torch.stack([loss, count], out=self.last_rows)

    def note_norm(self, norm: torch.Tensor) -> None:
        """Set the norm of the gradient of a step, 0-dim, and halt if it is not finite."""
        self.last_norm.copy_(norm)
        self.going.logical_and_(norm < math.inf)
        torch.logical_not(self.going, out=self.halted)

    def add(self) -> None:
        """Add the values of a step to the sums, unless halted."""
        added = torch.where(self.going, self.last, self.nothing)
        self.totals.add_(added)
        torch.maximum(self.largest, added[2], out=self.largest)

    def read(self) -> Sums:
        """Return all values, in one copy from the device."""
        step_loss, step_correct, step_norm, _, loss, correct, norm, steps, largest = self.values.tolist()
        return Sums(step_loss, step_correct, step_norm, loss, correct, norm, int(steps), largest)


@dataclass(frozen=True)
class _Group:
    """Running statistics, flat: views of each as one dtype, and a copy of all from before a step."""

    views: list[torch.Tensor]
    sizes: list[int]
    before: torch.Tensor


class SavedStatistics:
    """The running statistics from before a step, which a step without a finite gradient gets back.

    Parameters
    ----------
    network : nn.Module
        Its running statistics are changed in place.
    """

    def __init__(self, network: nn.Module) -> None:
        by_dtype: dict[torch.dtype, list[torch.Tensor]] = {}
        for values in running_statistics(network):
            # Only copied, so that numbers of 4 and 8 bytes can be copied together.
            dtype = values.dtype if values.element_size() % 4 else torch.int32
            by_dtype.setdefault(dtype, []).append(values.view(-1).view(dtype))
        self.groups = [_Group(views, [len(view) for view in views], torch.cat(views)) for views in by_dtype.values()]

    def save(self) -> None:
        """Copy the current statistics."""
        for group in self.groups:
            torch.cat(group.views, out=group.before)

    def restore(self, going: torch.Tensor | None = None) -> None:
        """Give the statistics their saved values; where `going` (bool, 0-dim) is True, they stay as they are."""
        for group in self.groups:
            values = group.before
            if going is not None:
                # A choice, not a product: statistics of a batch that is not finite are NaN.
                values = torch.where(going, torch.cat(group.views), values)
            torch._foreach_copy_(group.views, values.split(group.sizes))
