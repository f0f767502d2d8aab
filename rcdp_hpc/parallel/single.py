"""The engine of a single process, and the interface of the others.

The training loop is written once, for all engines and strategies.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


class SingleProcessEngine:
    """One process: its own sums are the sums over all ranks.

    Attributes
    ----------
    local, apart : bool
        Whether ranks take steps by themselves; whether to the end, each with a network of its own.
    blocked : list of float
        Seconds spent in each communication since it was last emptied: always none here.
    sent : float
        Bytes sent since it was last set to 0.
    """

    local = apart = False

    def __init__(self) -> None:
        self.blocked: list[float] = []
        self.sent = 0.0

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself: a copied network talks to the same ranks."""
        return self

    def wrap(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return optimizer

    def sum(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the tensor."""
        return values

    def broadcast_model(self, model: nn.Module) -> None:
        """Do nothing: there is one copy."""

    def exchange(self, rows: torch.Tensor, counts: NDArray[np.int64]) -> torch.Tensor:
        """Return the rows: there is nobody to pass any to."""
        return rows

    def expect_passes(self, optimizer: Any, count: int) -> None:
        """Prepare for so many backward passes before the gradients are summed."""

    def sum_gradients(self, optimizer: Any) -> None:
        """Do nothing: the gradients are those of all rows."""

    def update(self, optimizer: Any) -> None:
        """Update the weights by the gradients as they are."""
        optimizer.step()

    def average(self, network: nn.Module, optimizer: Any, rows: int) -> None:
        """Do nothing: there is one copy."""

    @contextmanager
    def counted(self, size: float = 0.0) -> Iterator[None]:
        """Count the time of a block as that of one communication, and so many bytes as sent."""
        started = time.perf_counter()
        yield
        self.blocked.append(time.perf_counter() - started)
        self.sent += size
