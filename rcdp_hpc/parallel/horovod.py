"""The engine that sums over ranks with Horovod's ring-allreduce."""

from __future__ import annotations

import os
import time
from importlib.metadata import version
from types import ModuleType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rcdp_hpc.config import ParallelSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.parallel.ranks import RanksEngine
from rcdp_hpc.runtime.comm.base import STEP_POLL_SECONDS, Communicator
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.runtime.comm.horovod import check_world, import_horovod, start_horovod
from rcdp_hpc.runtime.comm.launch import detect
from rcdp_hpc.runtime.device import CPU


class HorovodEngine(RanksEngine):
    """Sums with Horovod.

    Parameters
    ----------
    comm : Communicator
        Must have the same ranks as Horovod.
    stall_seconds : int
        Seconds to wait for a rank.
    settings : ParallelSection, optional
        Compression and fusion of the gradients.
    where : torch.device
        The device of this rank's network.

    Raises
    ------
    InputError
        If Horovod has other ranks than `comm`, or cannot sum within nodes first.
    """

    name = "Horovod"

    def __init__(
        self,
        comm: Communicator,
        stall_seconds: int,
        settings: ParallelSection | None = None,
        where: torch.device = CPU,
    ) -> None:
        super().__init__(comm, stall_seconds, settings)
        self.during_backward = True
        if self.settings.horovod.hierarchical:
            _sum_within_nodes_first(where)
        self.hvd: ModuleType = start_horovod(
            stall_seconds, self.settings.horovod.fusion_mib, self.settings.horovod.cycle_ms, comm
        )
        check_world(self.hvd, comm)

    @classmethod
    def start(
        cls,
        comm: Communicator,
        stall_seconds: int,
        settings: ParallelSection | None = None,
        where: torch.device = CPU,
    ) -> Self:
        """Return the engine, started on all ranks. Collective."""
        return agree(comm, lambda: cls(comm, stall_seconds, settings, where))

    @classmethod
    def obstacle(cls, comm: Communicator) -> str:
        """Return why this rank cannot use Horovod; empty if it can."""
        if not comm.supports_horovod:
            return f"it cannot connect ranks that {detect().launcher.name} has started"
        try:
            hvd = import_horovod()
        except InputError as error:
            return str(error)
        if comm.library == "MPI" and not hvd.mpi_built():
            return "Horovod was built without MPI, which connects these ranks"
        return ""

    @classmethod
    def version(cls) -> str:
        """Return the versions of Horovod and of the torch that it was built for."""
        return f"Horovod {version('horovod')} on torch {torch.__version__}"

    def _wrap(self, optimizer: torch.optim.Optimizer, model: nn.Module, during_backward: bool) -> torch.optim.Optimizer:
        """Return Horovod's optimizer, which wraps `optimizer` and sums in hooks of the backward pass.

        In deterministic mode all gradients form one group. With several groups, Horovod may fuse them, and therefore
        add them, in a different order in each run.
        """
        self.during_backward = during_backward
        if not during_backward:
            return optimizer
        wrapped: torch.optim.Optimizer = self.hvd.DistributedOptimizer(
            optimizer,
            named_parameters=model.named_parameters(),
            compression=self.hvd.Compression.fp16 if self.halved else self.hvd.Compression.none,
            op=self.hvd.Sum,
            num_groups=1 if self.settings.deterministic else 0,
        )
        return wrapped

    def expect_passes(self, optimizer: Any, count: int) -> None:
        """Make Horovod sum the gradients in the last of this number of backward passes."""
        if self.during_backward and optimizer.backward_passes_per_step != count:
            optimizer.set_backward_passes_per_step(count)

    def _sum_gradients(self, optimizer: Any) -> None:
        if not self.during_backward:
            self._sum_as_a_group()
            return
        for handle, _ in optimizer._handles.values():
            self._await(handle)
        optimizer.synchronize()

    def _sum_as_a_group(self) -> None:
        """Sum all gradients in one group, in place, so that their order is the same in each run."""
        gradients = self._gradients()
        sent = [gradient.half() for gradient in gradients] if self.halved else gradients
        handle = self.hvd.grouped_allreduce_async_(sent, op=self.hvd.Sum, name="rcdp.gradients")
        self._await(handle)
        self.hvd.synchronize(handle)
        if self.halved:
            torch._foreach_copy_(gradients, sent)

    def update(self, optimizer: Any) -> None:
        """Update the weights with the current gradients."""
        if not self.during_backward:
            optimizer.step()
            return
        with optimizer.skip_synchronize():
            optimizer.step()

    def _allreduce(self, values: torch.Tensor, name: str) -> torch.Tensor:
        handle = self.hvd.allreduce_async(values, op=self.hvd.Sum, name=name)
        self._await(handle)
        result: torch.Tensor = self.hvd.synchronize(handle)
        return result

    def broadcast_model(self, model: nn.Module) -> None:
        """Give the weights and statistics of rank 0 to all ranks."""
        self.hvd.broadcast_parameters(model.state_dict(), root_rank=0)

    def _exchange(self, sent: torch.Tensor, counts: NDArray[np.int64]) -> torch.Tensor:
        splits = torch.from_numpy(counts.astype(np.int32))
        handle = self.hvd.alltoall_async(sent, splits=splits, name="rcdp.exchange")
        self._await(handle)
        received: torch.Tensor = self.hvd.synchronize(handle)[0]
        return received

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


def _sum_within_nodes_first(where: torch.device) -> None:
    """Make Horovod sum within each node with NCCL first, then between nodes; must be called before Horovod starts."""
    if where.type != "cuda":
        raise InputError(
            "parallel.horovod.hierarchical is for GPUs, and this training uses none: Horovod sums within a node by "
            "NCCL only. Set it to false."
        )
    hvd = import_horovod()
    if not hvd.nccl_built():
        raise InputError(
            "parallel.horovod.hierarchical needs Horovod with NCCL, but it was built without (see `rcdp doctor`). "
            "Build it again on a GPU node with HOROVOD_GPU_OPERATIONS=NCCL, or set the key to false."
        )
    if hvd.is_initialized():
        raise InputError(
            f"under {detect().launcher.name} Horovod starts before parallel.horovod.hierarchical can be applied: set "
            "it to false, and set HOROVOD_HIERARCHICAL_ALLREDUCE=1 in the environment."
        )
    os.environ["HOROVOD_HIERARCHICAL_ALLREDUCE"] = "1"
