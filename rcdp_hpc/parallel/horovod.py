"""The engine that sums over ranks with Horovod's ring-allreduce."""

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
    """Synchronous data parallelism: gradients and batch statistics are summed over all ranks in every step.

    Parameters
    ----------
    comm : Communicator
        Must have the same ranks as Horovod.
    stall_seconds : int
        Seconds to wait for a rank.
    settings : ParallelSection, optional
        Compression and fusion of the gradients.

    Raises
    ------
    InputError
        If Horovod has other ranks than `comm`, or cannot sum within nodes first.
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
        self.comm = comm
        self.stall_seconds = stall_seconds
        # To sum n bytes, each rank of a ring of R sends 2 (R - 1) / R n bytes.
        self.ring_factor = 2 * (comm.size - 1) / comm.size
        self.gradient_bytes = 0

    def wrap(self, optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
        """Return Horovod's optimizer, which wraps `optimizer`.

        Gradients are summed, not averaged: each rank's loss is its share of the mean over the global batch, so the mean
        is exact for unequal numbers of rows. In deterministic mode all gradients form one group. With several groups,
        Horovod may fuse them, and therefore add them, in a different order in each run.
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
        """Return the sum over ranks; gradients flow through it and are summed, too."""
        result: torch.Tensor = _SumOverRanks.apply(values, self, name)
        return result

    def broadcast_model(self, model: nn.Module) -> None:
        """Give the weights and statistics of rank 0 to all ranks."""
        self.hvd.broadcast_parameters(model.state_dict(), root_rank=0)

    def exchange(self, rows: torch.Tensor, counts: NDArray[np.int64]) -> torch.Tensor:
        """Send rows to all ranks, and return the received rows by rank (see `SingleProcessEngine.exchange`)."""
        # As bytes, since Horovod's alltoall does not support bfloat16.
        sent = rows.contiguous().view(torch.uint8)
        local_count = int(counts[self.hvd.rank()])
        with self.counted(sent.numel() * (1 - local_count / max(1, len(rows)))):
            splits = torch.from_numpy(counts.astype(np.int32))
            handle = self.hvd.alltoall_async(sent, splits=splits, name="rcdp.exchange")
            self._await(handle)
            received, _ = self.hvd.synchronize(handle)
        result: torch.Tensor = received.view(rows.dtype)
        return result

    def expect_passes(self, optimizer: Any, count: int) -> None:
        """Make Horovod sum the gradients in the last of this number of backward passes."""
        if optimizer.backward_passes_per_step != count:
            optimizer.set_backward_passes_per_step(count)

    def sum_gradients(self, optimizer: Any) -> None:
        """Replace the gradients of this rank by their sums over ranks, and count the seconds."""
        with self.counted(self.ring_factor * self.gradient_bytes):
            for handle, _ in optimizer._handles.values():
                self._await(handle)
            optimizer.synchronize()

    def update(self, optimizer: Any) -> None:
        """Update the weights with the current gradients."""
        with optimizer.skip_synchronize():
            optimizer.step()

    def allreduce(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Return the sum over ranks, without gradients, and count the seconds.

        Tensors in host memory are summed by MPI if available: each layer waits for its batch statistics, and Horovod
        sends only once per cycle.
        """
        with self.counted(self.ring_factor * values.numel() * values.element_size()):
            if self.comm.has_fast_allreduce and values.device.type == "cpu":
                with self.comm.limit_waits(self.stall_seconds):
                    return torch.from_numpy(self.comm.allreduce(values.detach().numpy()))
            handle = self.hvd.allreduce_async(values, op=self.hvd.Sum, name=name)
            self._await(handle)
            result: torch.Tensor = self.hvd.synchronize(handle)
            return result

    def _await(self, handle: int | None) -> None:
        """Return when Horovod is done.

        Horovod's own wait polls without a pause, which takes the core from its thread. Its stall check reports a rank
        that does not join an operation. If a rank stops with all its threads, the threads of Horovod wait in MPI and
        cannot report it, so the ranks report the missing one themselves.
        """
        deadline = time.monotonic() + self.stall_seconds
        while handle is not None and not self.hvd.poll(handle):
            time.sleep(STEP_POLL_SECONDS)
            if time.monotonic() > deadline:
                self.comm.report_missing_ranks(self.stall_seconds)
                deadline = time.monotonic() + self.stall_seconds


class _SumOverRanks(torch.autograd.Function):
    """y = sum of x over ranks. The total loss is the sum of the ranks' losses, so dx is the sum of dy over ranks."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, parallel: HorovodEngine, name: str) -> torch.Tensor:
        ctx.parallel, ctx.name = parallel, name
        return parallel.allreduce(values.contiguous(), name)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.parallel.allreduce(gradients[0].contiguous(), ctx.name + ".backward"), None, None


def _sum_within_nodes_first() -> None:
    """Make Horovod sum within each node with NCCL first, then between nodes; must be called before Horovod starts."""
    hvd = import_horovod()
    if not hvd.nccl_built():
        raise InputError(
            "parallel.horovod.hierarchical needs Horovod with NCCL, but it was built without (see `rcdp doctor`). "
            "Build it again on a GPU node with HOROVOD_GPU_OPERATIONS=NCCL, or set the key to false."
        )
    if hvd.is_initialized():
        raise InputError(
            f"under {detect().launcher} Horovod starts before parallel.horovod.hierarchical can be applied: set it to "
            "false, and set HOROVOD_HIERARCHICAL_ALLREDUCE=1 in the environment."
        )
    os.environ["HOROVOD_HIERARCHICAL_ALLREDUCE"] = "1"


def check_versions(versions: list[str]) -> None:
    """Raise an `InputError` if ranks have different versions of Horovod or torch; `versions` has one entry per rank."""
    others = [f"rank {rank} has {other}" for rank, other in enumerate(versions) if other != versions[0]]
    if others:
        raise agreed(
            InputError(
                f"all ranks need the same versions, but rank 0 has {versions[0]} and {', '.join(others[:3])}. Install "
                "the package again on those nodes, or use one environment on a shared disk for all."
            )
        )
