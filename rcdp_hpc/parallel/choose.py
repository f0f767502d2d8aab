"""The choice of the engine and the strategy of a training."""

from __future__ import annotations

import logging
import os

import torch

from rcdp_hpc.config import ParallelSection
from rcdp_hpc.config.choices import ENGINES
from rcdp_hpc.config.choices.engines import AUTO
from rcdp_hpc.errors import InputError
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.parallel.independent import IndependentReplicas
from rcdp_hpc.parallel.local_sgd import LocalSGD
from rcdp_hpc.parallel.ranks import RanksEngine
from rcdp_hpc.parallel.single import single_process
from rcdp_hpc.parallel.synchronous import Synchronous
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agreed, ranks_by_value
from rcdp_hpc.runtime.comm.gpus import gather_gpus, refuse_shared_gpus
from rcdp_hpc.runtime.device import CPU
from rcdp_hpc.runtime.user_code import load_choice

log = logging.getLogger(__name__)


def strategy_for(
    comm: Communicator, stall_seconds: int, settings: ParallelSection | None = None, where: torch.device = CPU
) -> Strategy:
    """Start the engine, and return the strategy of a training with it. Collective.

    Before an engine sends anything, the ranks exchange hosts and GPUs through the communicator, and refuse to share a
    GPU (`rcdp_hpc.runtime.comm.gpus`).

    Parameters
    ----------
    comm : Communicator
        All ranks of the training. One rank needs no engine.
    stall_seconds : int
        Seconds to wait for a rank.
    settings : ParallelSection, optional
    where : torch.device
        The device of this rank's network.

    Raises
    ------
    InputError
        On all ranks, if a rank cannot use the engine, ranks share a GPU, or have different settings, versions or
        numbers.
    """
    if comm.size == 1:
        return single_process()
    settings = settings or ParallelSection()
    refuse_shared_gpus(gather_gpus(comm, where))
    if where.type == "cuda":
        # NCCL's errors have their cause in lines of this level only. It reads the variable when it starts.
        os.environ.setdefault("NCCL_DEBUG", "WARN")
    engine, reason = choose_engine(comm, settings)
    check_versions(comm.allgather(engine.version()))
    started = engine.start(comm, stall_seconds, settings, where)
    log.info("%d ranks train with %s (%s)", comm.size, started.describe(), reason)
    strategy = _strategy(settings, started)
    if strategy.pools_statistics:
        log.info("each rank normalises its rows by their own statistics (parallel.batch_statistics = 'rank')")
    return strategy


def choose_engine(comm: Communicator, settings: ParallelSection) -> tuple[type[RanksEngine], str]:
    """Return the engine that every rank can use, and why it was chosen. Collective; starts nothing.

    Raises
    ------
    InputError
        On all ranks, if ``parallel.engine`` differs between ranks, or a rank cannot use the engine it names.
    """
    wishes = comm.allgather(settings.engine)
    if len(set(wishes)) > 1:
        found = ranks_by_value([repr(wish) for wish in wishes])
        raise agreed(
            InputError(f"parallel.engine differs between ranks: {found}. Start every rank with the same settings.")
        )
    names = [settings.engine] if settings.engine != AUTO else [name for name in ENGINES.names if name != AUTO]
    reasons: list[str] = []
    for name in names:
        engine: type[RanksEngine] = load_choice(ENGINES, name)
        problem = first_problem(comm.allgather(engine.obstacle(comm)))
        if not problem:
            return engine, "; ".join([f"parallel.engine = {settings.engine}", *reasons])
        reasons.append(f"{engine.name} cannot run: {problem}")
    raise agreed(
        InputError(
            f"parallel.engine = {settings.engine!r}: {'; '.join(reasons)}. Choose another engine (parallel.engine), or "
            "train on one rank. `rcdp doctor` shows what is missing, `make setup` builds Horovod."
        )
    )


def first_problem(obstacles: list[str]) -> str:
    """Return the first obstacle, with its rank unless all ranks have it; empty if there is none.

    Parameters
    ----------
    obstacles : list of str
        Of each rank, why it cannot use an engine; empty if it can.
    """
    found = [(rank, obstacle) for rank, obstacle in enumerate(obstacles) if obstacle]
    if not found:
        return ""
    rank, obstacle = found[0]
    return obstacle if len(found) == len(obstacles) else f"rank {rank}: {obstacle}"


def check_versions(versions: list[str]) -> None:
    """Raise an `InputError` if ranks have different versions of the engine; `versions` has one entry per rank."""
    others = [f"rank {rank} has {other}" for rank, other in enumerate(versions) if other != versions[0]]
    if others:
        raise agreed(
            InputError(
                f"all ranks need the same versions, but rank 0 has {versions[0]} and {', '.join(others[:3])}. Install "
                "the package again on those nodes, or use one environment on a shared disk for all."
            )
        )


def _strategy(settings: ParallelSection, engine: RanksEngine) -> Strategy:
    if settings.replicas != "synchronised":
        return IndependentReplicas(engine)
    return LocalSGD(engine) if settings.local_steps > 1 else Synchronous(engine, settings.batch_statistics)
