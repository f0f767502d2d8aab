"""Which engine and strategy the settings and the ranks of a job ask for."""

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
    """Return Horovod for several ranks, and a plain process for one, which needs no Horovod. Collective.

    Raises
    ------
    InputError
        On all ranks, if Horovod is missing on some, differs in version, or counts other ranks than `comm` does.
    """
    if comm.size == 1:
        return SingleProcessEngine()
    # Before any rank starts Horovod: its start waits for all, and would wait forever for one that cannot.
    agree(comm, import_horovod)
    check_versions(comm.allgather(f"Horovod {version('horovod')} on torch {torch.__version__}"))
    return agree(comm, lambda: _kind(settings or ParallelSection())(comm, stall_seconds, settings))


def _kind(settings: ParallelSection) -> type[HorovodEngine]:
    if settings.replicas != "synchronised":
        return IndependentReplicas
    return LocalSGD if settings.local_steps > 1 else HorovodEngine
