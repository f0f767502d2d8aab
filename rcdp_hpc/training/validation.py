"""What a network makes of a rank's rows of the validation split."""

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

# Rows that go through the network at once.
EVALUATION_ROWS = 4096


@dataclass
class Validated:
    """Sums over rows; those of several ranks add up.

    Attributes
    ----------
    loss_sum, weight : float
        Weighted sum of the loss, and the sum of the weights.
    confusion : ndarray, shape (classes, classes), int64
        Rows are true classes.
    fault : tuple of int and str, optional
        Where the loss is not finite: the first place in the network that is not.
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
) -> Validated:
    """Judge a network, in the mode for use, on some rows.

    Parameters
    ----------
    network : nn.Module
        Left in that mode.
    scores : callable
        The network's scores, shape (rows, classes), float32, of states of shape (rows, width).
    rows : CachedStates
        States and labels.
    objective : Objective
        Loss and weights of the classes.
    classes : int
        Number of classes.
    """
    network.eval()
    found = Validated(0.0, 0.0, np.zeros((classes, classes), np.int64))
    with torch.no_grad():
        for numbers in torch.arange(len(rows), device=rows.device).split(EVALUATION_ROWS):
            states, labels = rows.batch(numbers)
            values = scores(states)
            found.loss_sum += objective.sum(values, labels).item()
            found.weight += float(objective.weights(labels).sum())
            found.confusion += confusion_matrix(labels.cpu().numpy(), values.argmax(1).cpu().numpy(), classes)
            if not (found.fault or np.isfinite(found.loss_sum)):
                found.fault = first_in_forward(network, states, partial(scores, states))
    return found
