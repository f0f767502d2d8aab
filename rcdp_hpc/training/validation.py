"""Evaluation of a network on a rank's rows of the validation split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from math import isfinite

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rcdp_hpc.model.metrics import confusion_matrix
from rcdp_hpc.training.held_out import HeldOutAnswers
from rcdp_hpc.training.monitor.divergence import Finding, first_in_forward
from rcdp_hpc.training.optim.objective import Objective
from rcdp_hpc.training.states.cache import CachedStates

# Rows of one pass through the network.
EVALUATION_ROWS = 4096


@dataclass
class ValidationSums:
    """Sums over rows; the sums of several ranks can be added.

    Attributes
    ----------
    loss_sum, weight : float
        Weighted sum of the loss, and sum of the weights.
    confusion : ndarray of int64, shape (classes, classes)
        Rows are true classes, columns are predicted classes.
    fault : tuple of int and str, optional
        If the loss is not finite: the first layer of the network with a value that is not finite.
    """

    loss_sum: float
    weight: float
    confusion: NDArray[np.int64]
    fault: Finding | None = None


def validate(
    network: nn.Module,
    scores: Callable[[torch.Tensor], torch.Tensor],
    rows: CachedStates,
    objective: Objective,
    classes: int,
    answers: HeldOutAnswers | None = None,
) -> ValidationSums:
    """Evaluate a network in evaluation mode.

    Parameters
    ----------
    network : nn.Module
        It stays in evaluation mode.
    scores : callable
        Returns the network's scores, shape (rows, classes), float32, of states of shape (rows, width).
    rows : CachedStates
        States and labels.
    objective : Objective
        Loss and weights of the classes.
    classes : int
        Number of classes.
    answers : HeldOutAnswers, optional
        The probabilities of the rows are added to it.
    """
    network.eval()
    losses, weights, found = [], [], []
    with torch.no_grad():
        blocks = torch.arange(len(rows), device=rows.device).split(EVALUATION_ROWS)
        for numbers in blocks:
            states, labels = rows.batch(numbers)
            values = scores(states)
            losses.append(objective.sum(values, labels).double())
            weights.append(objective.weights(labels).sum())
            found.append(values.argmax(1))
            if answers is not None:
                answers.add(labels, objective.loss.probabilities(values.double()))
        # Read once, so that a GPU does not wait for the host between blocks.
        loss_sums, weight_sums = map(list, map(accumulate, torch.stack([*losses, *weights]).view(2, -1).tolist()))
        confusion = confusion_matrix(rows.labels.cpu().numpy(), torch.cat(found).cpu().numpy(), classes)
        broken = [numbers for numbers, loss in zip(blocks, loss_sums, strict=True) if not isfinite(loss)]
        fault = _first_fault(network, scores, rows, broken)
    return ValidationSums(loss_sums[-1], weight_sums[-1], confusion, fault)


def _first_fault(
    network: nn.Module,
    scores: Callable[[torch.Tensor], torch.Tensor],
    rows: CachedStates,
    blocks: Sequence[torch.Tensor],
) -> Finding | None:
    """Return the first layer of the network with a value that is not finite, in the first of the blocks with one."""
    for numbers in blocks:
        states, _ = rows.batch(numbers)
        if fault := first_in_forward(network, states, partial(scores, states)):
            return fault
    return None
