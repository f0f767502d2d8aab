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
    """The engine of one process: its sums are the sums over all ranks.

    Attributes
    ----------
    syncs_gradients : bool
        Whether ranks sum their gradients in every step. Otherwise each rank takes steps with its own gradients.
    independent : bool
        Whether each rank trains a network of its own to the end (``parallel.replicas``).
    communication_seconds : list of float
        Seconds of each communication since the list was emptied.
    bytes_sent : float
        Bytes sent since the number was set to 0.
    """

    syncs_gradients = True
    independent = False

    def __init__(self) -> None:
        self.communication_seconds: list[float] = []
        self.bytes_sent = 0.0

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the engine itself: a copied network has the same ranks."""
        return self

    def wrap(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer that sums the gradients of a model; here the optimizer itself."""
        return optimizer

    def sum(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the sum over ranks, through which gradients flow; here the tensor itself.

        Parameters
        ----------
        values : torch.Tensor
        name : str
            Name of the sum, the same on all ranks.
        """
        return values

    def broadcast_model(self, model: nn.Module) -> None:
        """Give the weights and statistics of rank 0 to all ranks."""

    def exchange(self, rows: torch.Tensor, counts: NDArray[np.int64]) -> torch.Tensor:
        """Send rows to all ranks, and return the received rows in order of rank.

        Parameters
        ----------
        rows : torch.Tensor, shape (n, values)
            The rows for rank 0, then those for rank 1, and so on.
        counts : ndarray of int, shape (ranks,)
            Number of rows for each rank; the sum is n.
        """
        return rows

    def expect_passes(self, optimizer: Any, count: int) -> None:
        """Prepare the sum of the gradients for this number of backward passes."""

    def sum_gradients(self, optimizer: Any) -> None:
        """Replace the gradients of this rank by their sums over ranks."""

    def update(self, optimizer: Any) -> None:
        """Update the weights with the current gradients."""
        optimizer.step()

    def average(self, network: nn.Module, optimizer: Any, rows: int) -> None:
        """Replace weights, moments and statistics by their mean over ranks, weighted by `rows`."""

    @contextmanager
    def counted(self, size: float = 0.0) -> Iterator[None]:
        """Count the block as one communication, with its seconds and `size` bytes sent."""
        started = time.perf_counter()
        yield
        self.communication_seconds.append(time.perf_counter() - started)
        self.bytes_sent += size
