"""The interfaces of engines and strategies.

An engine sums over ranks with one library. A strategy decides what is summed, and when. The training loop is written
once, for all of them: it holds a strategy, and the strategy holds an engine.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


class Engine(ABC):
    """Sums tensors and gradients over ranks, and exchanges rows between them. All methods are collective.

    Attributes
    ----------
    name : str
        Name of the library, for messages.
    alone : bool
        Whether there are no other ranks.
    communication_seconds : list of float
        Seconds of each communication since the list was emptied.
    bytes_sent : float
        Bytes sent since the number was set to 0.
    """

    name: ClassVar[str]
    alone: ClassVar[bool] = False

    def __init__(self) -> None:
        self.communication_seconds: list[float] = []
        self.bytes_sent = 0.0

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the engine itself: a copied network has the same ranks."""
        return self

    def describe(self) -> str:
        """Return the name of the engine, with details for the log."""
        return self.name

    @abstractmethod
    def wrap(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, during_backward: bool = True
    ) -> torch.optim.Optimizer:
        """Return the optimizer to use for `model`, prepared so that `sum_gradients` can sum its gradients.

        Gradients are summed, not averaged: each rank's loss is its share of the mean over the global batch, so the mean
        is exact for unequal numbers of rows.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            Updates the weights of `model`.
        model : torch.nn.Module
        during_backward : bool
            Whether sums may start in the backward pass. Otherwise `sum_gradients` alone communicates, so that the
            backward pass can be recorded.

        Returns
        -------
        torch.optim.Optimizer
            Passed to the other methods in place of `optimizer`, which it may be.
        """

    @abstractmethod
    def expect_passes(self, optimizer: Any, count: int) -> None:
        """Prepare the sum of the gradients for this number of backward passes."""

    @abstractmethod
    def sum_gradients(self, optimizer: Any) -> None:
        """Replace the gradients of this rank by their sums over ranks."""

    @abstractmethod
    def update(self, optimizer: Any) -> None:
        """Update the weights with the current gradients, without another sum."""

    @abstractmethod
    def allreduce(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the sum over ranks, without gradients.

        Parameters
        ----------
        values : torch.Tensor
            Of the same shape and dtype on all ranks. It is not changed.
        name : str
            Name of the sum, the same on all ranks.

        Returns
        -------
        torch.Tensor
            Of the shape, dtype and device of `values`.
        """

    def sum(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the sum over ranks; gradients flow through it and are summed, too (see `allreduce`)."""
        result: torch.Tensor = _SumOverRanks.apply(values, self, name)
        return result

    @abstractmethod
    def broadcast_model(self, model: nn.Module) -> None:
        """Give the weights and statistics of rank 0 to all ranks."""

    @abstractmethod
    def exchange(self, rows: torch.Tensor, counts: NDArray[np.int64]) -> torch.Tensor:
        """Send rows to all ranks, and return the received rows in order of rank.

        Parameters
        ----------
        rows : torch.Tensor, shape (n, values)
            The rows for rank 0, then those for rank 1, and so on.
        counts : ndarray of int, shape (ranks,)
            Number of rows for each rank; the sum is n.
        """

    def close(self) -> None:  # noqa: B027 - most engines hold no resources
        """Free the resources of the engine. Every rank calls it once."""

    @contextmanager
    def counted(self, size: float = 0.0) -> Iterator[None]:
        """Count the block as one communication, with its seconds and `size` bytes sent."""
        started = time.perf_counter()
        yield
        self.communication_seconds.append(time.perf_counter() - started)
        self.bytes_sent += size


class Strategy(ABC):
    """What the ranks sum in a training, by means of an engine.

    Parameters
    ----------
    engine : Engine

    Attributes
    ----------
    syncs_gradients : bool
        Whether ranks sum their gradients in every step. Otherwise each rank takes steps with its own gradients.
    independent : bool
        Whether each rank trains a network of its own to the end (``parallel.replicas``).
    """

    syncs_gradients: ClassVar[bool] = True
    independent: ClassVar[bool] = False

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def alone(self) -> bool:
        """Whether there are no other ranks: all batches of an epoch except the last then have one size."""
        return self.engine.alone

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the strategy itself: a copied network has the same ranks."""
        return self

    @property
    def sums_over_ranks(self) -> bool:
        """Whether a step communicates with other ranks."""
        return self.syncs_gradients and not self.engine.alone

    @property
    def sums_batches(self) -> bool:
        """Whether the batch statistics of a pass are sums over ranks."""
        return self.sums_over_ranks

    @property
    def pools_statistics(self) -> bool:
        """Whether each rank has its own batch statistics, which are added to the running ones once a step."""
        return self.sums_over_ranks and not self.sums_batches

    @abstractmethod
    def wrap(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, during_backward: bool = True
    ) -> torch.optim.Optimizer:
        """Return the optimizer that takes the steps of `model`; parameters as `Engine.wrap`."""

    @abstractmethod
    def sum(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the sum of batch statistics over the ranks that share a batch; gradients flow through it.

        Parameters
        ----------
        values : torch.Tensor
        name : str
            Name of the sum, the same on all ranks.
        """

    @abstractmethod
    def expect_passes(self, optimizer: Any, count: int) -> None:
        """Prepare the step for this number of backward passes."""

    @abstractmethod
    def sum_gradients(self, optimizer: Any) -> None:
        """Complete the gradients of a step after its last backward pass."""

    @abstractmethod
    def update(self, optimizer: Any) -> None:
        """Update the weights with the current gradients."""

    def average(self, network: nn.Module, optimizer: Any, rows: int) -> None:  # noqa: B027 - only for local steps
        """Make the networks of the ranks equal after steps that they took independently.

        Parameters
        ----------
        network : nn.Module
        optimizer : torch.optim.Optimizer
        rows : int
            Rows of this rank since the last average.
        """


class _SumOverRanks(torch.autograd.Function):
    """y = sum of x over ranks. The total loss is the sum of the ranks' losses, so dx is the sum of dy over ranks."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, engine: Engine, name: str) -> torch.Tensor:
        ctx.engine, ctx.name = engine, name
        return engine.allreduce(values.contiguous(), name)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.engine.allreduce(gradients[0].contiguous(), ctx.name + ".backward"), None, None
