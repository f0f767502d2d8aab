"""Horovod's ring-allreduce."""

from __future__ import annotations

import os
import time
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rcdp_hpc.config import ParallelSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.runtime.comm.base import STEP_POLL_SECONDS, Communicator
from rcdp_hpc.runtime.comm.collective import agreed
from rcdp_hpc.runtime.comm.horovod import check_world, import_horovod, start_horovod
from rcdp_hpc.runtime.comm.launch import detect


class HorovodEngine(SingleProcessEngine):
    """All ranks of Horovod's world.

    Parameters
    ----------
    comm : Communicator
        Checked to count the same ranks as Horovod does.
    stall_seconds : int
        Patience with a missing rank.
    settings : ParallelSection, optional
        Compression and fusion of the gradients.
    """

    def __init__(self, comm: Communicator, stall_seconds: int, settings: ParallelSection | None = None) -> None:
        super().__init__()
        self.settings = settings or ParallelSection()
        if self.settings.horovod.hierarchical:
            _sum_within_nodes_first()
        self.hvd: ModuleType = start_horovod(
            stall_seconds, self.settings.horovod.fusion_mib, self.settings.horovod.cycle_ms, comm
        )
        check_world(self.hvd, comm)
        self.comm, self.stall_seconds = comm, stall_seconds
        # Of n bytes a ring sends 2 (R - 1) / R n from each rank.
        self.ring = 2 * (comm.size - 1) / comm.size
        self.gradient_bytes = 0

    def wrap(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
        """Return Horovod's optimizer around `optimizer`.

        Gradients are summed, not averaged: each rank's loss is already its share of the mean over the global
        batch, which keeps the mean exact where ranks hold unequal numbers of rows. In deterministic mode all gradients
        form one group: with several, Horovod may fuse and so add them in another order from run to run.
        """
        halved = self.settings.compression == "fp16"
        weights = [weights for weights in model.parameters() if weights.requires_grad]
        self.gradient_bytes = sum(value.numel() * (2 if halved else value.element_size()) for value in weights)
        wrapped: torch.optim.Optimizer = self.hvd.DistributedOptimizer(
            optimizer,
            named_parameters=model.named_parameters(),
            compression=self.hvd.Compression.fp16 if halved else self.hvd.Compression.none,
            op=self.hvd.Sum,
            num_groups=1 if self.settings.deterministic else 0,
        )
        return wrapped

    def sum(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the sum over ranks; gradients flow back through it, summed as well."""
        result: torch.Tensor = _SumOverRanks.apply(values, self, name)
        return result

    def broadcast_model(self, model: nn.Module) -> None:
        """Give rank 0's weights and statistics to all."""
        self.hvd.broadcast_parameters(model.state_dict(), root_rank=0)

    def exchange(self, rows: torch.Tensor, counts: NDArray[np.int64]) -> torch.Tensor:
        """Pass rows on: the first so many to rank 0, the next to rank 1, and so on; return those that came, by rank."""
        # As bytes, since Horovod knows no bfloat16.
        sent = rows.contiguous().view(torch.uint8)
        kept = int(counts[self.hvd.rank()])
        with self.counted(sent.numel() * (1 - kept / max(1, len(rows)))):
            splits = torch.from_numpy(counts.astype(np.int32))
            handle = self.hvd.alltoall_async(sent, splits=splits, name="rcdp.exchange")
            self._await(handle)
            came, _ = self.hvd.synchronize(handle)
        result: torch.Tensor = came.view(rows.dtype)
        return result

    def expect_passes(self, optimizer: Any, count: int) -> None:
        """Tell Horovod to sum the gradients in the last of so many backward passes."""
        if optimizer.backward_passes_per_step != count:
            optimizer.set_backward_passes_per_step(count)

    def sum_gradients(self, optimizer: Any) -> None:
        """Put the sums over ranks in place of this rank's gradients, counting the wait."""
        with self.counted(self.ring * self.gradient_bytes):
            for handle, _ in optimizer._handles.values():
                self._await(handle)
            optimizer.synchronize()

    def update(self, optimizer: Any) -> None:
        """Update the weights by the gradients as they are."""
        with optimizer.skip_synchronize():
            optimizer.step()

    def allreduce(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the sum over ranks, without gradients, counting the wait.

        What lies in the host's memory goes by MPI where that started the ranks: batch statistics are waited for layer
        by layer, and Horovod looks but once a cycle for what is to be sent.
        """
        with self.counted(self.ring * values.numel() * values.element_size()):
            if self.comm.has_fast_allreduce and values.device.type == "cpu":
                with self.comm.limit_waits(self.stall_seconds):
                    return torch.from_numpy(self.comm.allreduce(values.detach().numpy()))
            handle = self.hvd.allreduce_async(values, op=self.hvd.Sum, name=name)
            self._await(handle)
            result: torch.Tensor = self.hvd.synchronize(handle)
            return result

    def _await(self, handle: int | None) -> None:
        """Return once Horovod is done: its own wait looks without a pause, and so takes the core from its thread.

        Its stall check names a rank that asks for nothing; where one stands still with all its threads, Horovod's
        threads wait in MPI themselves and see nothing, so the ranks ask each other.
        """
        deadline = time.monotonic() + self.stall_seconds
        while handle is not None and not self.hvd.poll(handle):
            time.sleep(STEP_POLL_SECONDS)
            if time.monotonic() > deadline:
                self.comm.report_missing_ranks(self.stall_seconds)
                deadline = time.monotonic() + self.stall_seconds


class _SumOverRanks(torch.autograd.Function):
    """y = sum of x over ranks. As the total loss is the sum of the ranks' losses, dx is the sum of dy over ranks."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, parallel: HorovodEngine, name: str) -> torch.Tensor:
        ctx.parallel, ctx.name = parallel, name
        return parallel.allreduce(values.contiguous(), name)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.parallel.allreduce(gradients[0].contiguous(), ctx.name + ".backward"), None, None


def _sum_within_nodes_first() -> None:
    """Have Horovod do so from its start on: within each node by NCCL, then between nodes."""
    hvd = import_horovod()
    if not hvd.nccl_built():
        raise InputError(
            "parallel.horovod.hierarchical needs Horovod built with NCCL, and this one is not (see `rcdp doctor`). "
            "Build it again on a GPU node with HOROVOD_GPU_OPERATIONS=NCCL, or set the key to false."
        )
    if hvd.is_initialized():
        raise InputError(
            f"under {detect().launcher} Horovod starts before parallel.horovod.hierarchical can be applied: set it to "
            "false, and HOROVOD_HIERARCHICAL_ALLREDUCE=1 in the environment."
        )
    os.environ["HOROVOD_HIERARCHICAL_ALLREDUCE"] = "1"


def check_versions(versions: list[str]) -> None:
    """Raise an `InputError` if ranks have different versions of Horovod or torch; `versions` has one entry per rank."""
    others = [f"rank {rank} has {other}" for rank, other in enumerate(versions) if other != versions[0]]
    if others:
        raise agreed(
            InputError(
                f"all ranks need the same versions, but rank 0 has {versions[0]} and {', '.join(others[:3])}. Install "
                "the package anew on those nodes, or let all use one environment on a shared disk."
            )
        )
