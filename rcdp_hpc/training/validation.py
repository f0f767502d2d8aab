"""Evaluation of a network on a rank's rows of the validation split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rcdp_hpc.model.metrics import confusion_matrix
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
    """
    network.eval()
    sums = ValidationSums(0.0, 0.0, np.zeros((classes, classes), np.int64))
    with torch.no_grad():
        for numbers in torch.arange(len(rows), device=rows.device).split(EVALUATION_ROWS):
            states, labels = rows.batch(numbers)
            values = scores(states)
            sums.loss_sum += objective.sum(values, labels).item()
            sums.weight += float(objective.weights(labels).sum())
            sums.confusion += confusion_matrix(labels.cpu().numpy(), values.argmax(1).cpu().numpy(), classes)
            if not (sums.fault or np.isfinite(sums.loss_sum)):
                sums.fault = first_in_forward(network, states, partial(scores, states))
    return sums
