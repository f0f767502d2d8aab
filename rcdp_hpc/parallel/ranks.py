"""What engines of several ranks have in common: gradients, counts of bytes, and the fast path for small tensors."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rcdp_hpc.config import ParallelSection
from rcdp_hpc.parallel.base import Engine
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.device import CPU

MPI_TYPES = (torch.float32, torch.float64, torch.int64)


class RanksEngine(Engine):
    """An engine of several ranks.

    Parameters
    ----------
    comm : Communicator
        The ranks.
    stall_seconds : int
        Seconds to wait for a rank.
    settings : ParallelSection, optional
        How gradients are sent.
    """

    def __init__(self, comm: Communicator, stall_seconds: int, settings: ParallelSection | None = None) -> None:
        super().__init__()
        self.comm = comm
        self.stall_seconds = stall_seconds
        self.settings = settings or ParallelSection()
        self.halved = self.settings.compression == "fp16"
        # To sum n bytes, each rank of a ring of R sends 2 (R - 1) / R n bytes.
        self.ring_factor = 2 * (comm.size - 1) / comm.size
        self.weights: list[nn.Parameter] = []
        self.gradient_bytes = 0

    @classmethod
    @abstractmethod
    def obstacle(cls, comm: Communicator) -> str:
        """Return why this rank cannot use the engine with these ranks; empty if it can. Starts nothing."""

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """Return the version of the library, which must be the same on all ranks."""

    @classmethod
    @abstractmethod
    def start(
        cls,
        comm: Communicator,
        stall_seconds: int,
        settings: ParallelSection | None = None,
        where: torch.device = CPU,
    ) -> Self:
        """Return the engine, started on all ranks. Collective.

        Parameters
        ----------
        comm : Communicator
            The ranks.
        stall_seconds : int
            Seconds to wait for a rank.
        settings : ParallelSection, optional
            How gradients are sent.
        where : torch.device
            The device of this rank's network.

        Raises
        ------
        InputError
            On all ranks, if it cannot start on one of them.
        """

    def wrap(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, during_backward: bool = True
    ) -> torch.optim.Optimizer:
        """Return the optimizer to use for `model`, prepared so that `sum_gradients` can sum its gradients."""
        self.weights = [weights for weights in model.parameters() if weights.requires_grad]
        sizes = [value.numel() * (2 if self.halved else value.element_size()) for value in self.weights]
        self.gradient_bytes = sum(sizes)
        return self._wrap(optimizer, model, during_backward)

    def _gradients(self) -> list[torch.Tensor]:
        """Return all gradients, zeros for weights that this rank's rows did not use: those of other ranks may have."""
        for weights in self.weights:
            if weights.grad is None:
                weights.grad = torch.zeros_like(weights)
        return [weights.grad for weights in self.weights if weights.grad is not None]

    def _wrap(self, optimizer: torch.optim.Optimizer, model: nn.Module, during_backward: bool) -> torch.optim.Optimizer:
        """Return the optimizer to use for `model`: itself, unless sums start in the backward pass."""
        return optimizer

    def sum_gradients(self, optimizer: Any) -> None:
        """Replace the gradients of this rank by their sums over ranks, and count the seconds."""
        with self.counted(self.ring_factor * self.gradient_bytes):
            self._sum_gradients(optimizer)

    @abstractmethod
    def _sum_gradients(self, optimizer: Any) -> None:
        """Replace the gradients of this rank by their sums over ranks."""

    def allreduce(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the sum over ranks, without gradients, and count the seconds.

        Tensors in host memory are summed by MPI if available: each layer waits for its batch statistics, and MPI is the
        fastest for small messages.
        """
        with self.counted(self.ring_factor * values.numel() * values.element_size()):
            return self._sum_by_mpi(values) if self._mpi_can_sum(values) else self._allreduce(values, name)

    def _mpi_can_sum(self, values: torch.Tensor) -> bool:
        """Return whether MPI can sum a tensor: one in host memory, of a dtype that MPI has."""
        return self.comm.has_fast_allreduce and values.device.type == "cpu" and values.dtype in MPI_TYPES

    def _sum_by_mpi(self, values: torch.Tensor) -> torch.Tensor:
        with self.comm.limit_waits(self.stall_seconds):
            return torch.from_numpy(self.comm.allreduce(values.detach().numpy()))

    @abstractmethod
    def _allreduce(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the sum over ranks; the argument stays as it is."""

    def exchange(self, rows: torch.Tensor, counts: NDArray[np.int64]) -> torch.Tensor:
        """Send rows to all ranks, and return the received rows by rank (see `Engine.exchange`)."""
        # As bytes, since not every library can send every dtype of torch.
        sent = rows.contiguous().view(torch.uint8)
        with self.counted(sent.numel() * (1 - int(counts[self.comm.rank]) / max(1, len(rows)))):
            received = self._exchange(sent, counts)
        result: torch.Tensor = received.view(rows.dtype)
        return result

    @abstractmethod
    def _exchange(self, sent: torch.Tensor, counts: NDArray[np.int64]) -> torch.Tensor:
        """Send rows of bytes, shape (n, bytes), to all ranks, and return the received ones, shape (m, bytes)."""
