"""What the training loop needs of other ranks: summed gradients and statistics, equal starts.

`Alone` is one process; `HorovodParallel` is Horovod's ring-allreduce. The loop is written once, against both.
"""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any

import torch
from torch import nn

from rcdp_hpc.runtime.collective import agree
from rcdp_hpc.runtime.comm import Communicator
from rcdp_hpc.runtime.horovod import check_world, import_horovod, start_horovod


class Alone:
    """One process: its own sums are the sums over all ranks.

    Attributes
    ----------
    waited : float
        Seconds spent in communication since it was last set to 0: always 0 here.
    """

    waited = 0.0

    def wrap(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return optimizer

    def sum(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the tensor."""
        return values

    def broadcast_model(self, model: nn.Module) -> None:
        """Do nothing: there is one copy."""

    def sum_gradients(self, optimizer: Any) -> None:
        """Do nothing: the gradients are those of all rows."""

    def update(self, optimizer: Any) -> None:
        """Update the weights by the gradients as they are."""
        optimizer.step()


class HorovodParallel(Alone):
    """All ranks of Horovod's world.

    Parameters
    ----------
    comm : Communicator
        Checked to count the same ranks as Horovod does.
    stall_seconds : int
        Patience with a missing rank.
    """

    def __init__(self, comm: Communicator, stall_seconds: int) -> None:
        self.hvd: ModuleType = start_horovod(stall_seconds)
        check_world(self.hvd, comm)
        self.waited = 0.0

    def wrap(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
        """Return Horovod's optimizer around `optimizer`.

        Gradients are summed, not averaged: each rank's loss is already its share of the mean over the global
        batch, which keeps the mean exact where ranks hold unequal numbers of rows. All gradients form one group:
        with several, Horovod may fuse and so add them in another order from run to run.
        """
        wrapped: torch.optim.Optimizer = self.hvd.DistributedOptimizer(
            optimizer, named_parameters=model.named_parameters(), op=self.hvd.Sum, num_groups=1
        )
        return wrapped

    def sum(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the sum over ranks; gradients flow back through it, summed as well."""
        result: torch.Tensor = _SumOverRanks.apply(values, self, name)
        return result

    def broadcast_model(self, model: nn.Module) -> None:
        """Give rank 0's weights and statistics to all."""
        self.hvd.broadcast_parameters(model.state_dict(), root_rank=0)

    def sum_gradients(self, optimizer: Any) -> None:
        """Put the sums over ranks in place of this rank's gradients, counting the wait."""
        started = time.perf_counter()
        optimizer.synchronize()
        self.waited += time.perf_counter() - started

    def update(self, optimizer: Any) -> None:
        """Update the weights by the gradients as they are."""
        with optimizer.skip_synchronize():
            optimizer.step()

    def allreduce(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the sum over ranks, without gradients, counting the wait."""
        started = time.perf_counter()
        result: torch.Tensor = self.hvd.allreduce(values, op=self.hvd.Sum, name=name)
        self.waited += time.perf_counter() - started
        return result


class _SumOverRanks(torch.autograd.Function):
    """y = sum of x over ranks. As the total loss is the sum of the ranks' losses, dx is the sum of dy over ranks."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, parallel: HorovodParallel, name: str) -> torch.Tensor:
        ctx.parallel, ctx.name = parallel, name
        return parallel.allreduce(values.contiguous(), name)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.parallel.allreduce(gradients[0].contiguous(), ctx.name + ".backward"), None, None


def parallel_for(comm: Communicator, stall_seconds: int) -> Alone:
    """Return Horovod for several ranks, and a plain process for one, which needs no Horovod. Collective.

    Raises
    ------
    InputError
        On all ranks, if Horovod is missing on some or counts other ranks than `comm` does.
    """
    if comm.size == 1:
        return Alone()
    # Before any rank starts Horovod: its start waits for all, and would wait forever for one that cannot.
    agree(comm, import_horovod)
    return agree(comm, lambda: HorovodParallel(comm, stall_seconds))
