"""The choice of the engine and the strategy of a training."""

from __future__ import annotations

from importlib.metadata import version

import torch

from rcdp_hpc.config import ParallelSection
from rcdp_hpc.parallel.horovod import HorovodEngine, check_versions
from rcdp_hpc.parallel.local_sgd import IndependentReplicas, LocalSGD
from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.runtime.comm.horovod import import_horovod


def parallel_for(
    comm: Communicator, stall_seconds: int, settings: ParallelSection | None = None
) -> SingleProcessEngine:
    """Return the engine: Horovod with the configured strategy, or for one rank a single process. Collective.

    Parameters
    ----------
    comm : Communicator
        All ranks.
    stall_seconds : int
        Seconds to wait for a rank.
    settings : ParallelSection, optional

    Raises
    ------
    InputError
        On all ranks, if Horovod is missing on some rank, has different versions, or other ranks than `comm`.
    """
    if comm.size == 1:
        return SingleProcessEngine()
    # Checked first, because starting Horovod waits forever for a rank that cannot start it.
    agree(comm, import_horovod)
    check_versions(comm.allgather(f"Horovod {version('horovod')} on torch {torch.__version__}"))
    return agree(comm, lambda: _strategy(settings or ParallelSection())(comm, stall_seconds, settings))


def _strategy(settings: ParallelSection) -> type[HorovodEngine]:
    if settings.replicas != "synchronised":
        return IndependentReplicas
    return LocalSGD if settings.local_steps > 1 else HorovodEngine
