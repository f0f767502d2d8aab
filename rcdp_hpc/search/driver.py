"""The search loop: ask for candidates, evaluate them on all ranks, record the evaluations."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rcdp_hpc.config import Config
from rcdp_hpc.errors import StoppedError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed, run_on_root
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.ram import process_memory
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.stage_context import StageContext
from rcdp_hpc.runtime.threads import limit_threads, threads_per_rank
from rcdp_hpc.search.checks import check_candidate_shape, check_fitness, checked_space
from rcdp_hpc.search.coordinator import SearchCoordinator
from rcdp_hpc.search.effective import evaluated_config, report_idle_dimensions, with_effective_space
from rcdp_hpc.search.evaluation.base import Fitness
from rcdp_hpc.search.evaluator import Evaluator, Round
from rcdp_hpc.search.records.best import Best, write_best
from rcdp_hpc.search.records.journal import Journal
from rcdp_hpc.search.selection import selection_config
from rcdp_hpc.search.space import Space, with_values

if TYPE_CHECKING:
    from rcdp_hpc.data.shards.reader import ShardReader
    from rcdp_hpc.search.evaluation.rows import FitnessData

log = logging.getLogger(__name__)

T = TypeVar("T")


def run_search(
    config: Config,
    comm: Communicator,
    fitness: Fitness,
    folder: Path,
    *,
    fingerprint: str = "",
    space: Space | None = None,
) -> Best:
    """Search for the best candidate, or continue a search that was stopped. Collective.

    Candidates, history and winner are the same for any number of ranks, and for a search that was stopped and resumed.

    Parameters
    ----------
    config : Config
    comm : Communicator
    fitness : Fitness
        The same on every rank.
    folder : Path
        Folder of history.jsonl, best.toml and the checkpoints.
    fingerprint : str
        Digest of the data of the fitness; a checkpoint of other data is refused.
    space : Space, optional
        The search space, already checked, the same on every rank; default: that of ``[search.space]``.

    Returns
    -------
    Best
        The winner, on every rank.

    Raises
    ------
    InputError
        If the search space or the optimiser is not accepted, or the folder holds a search of other settings.
    DataDamagedError
        If the checkpoints in the folder are damaged.
    StoppedError
        If a signal asked to stop; a checkpoint is written.
    StageFailedError
        If every candidate failed, or a file cannot be written.
    """
    space = agree(comm, lambda: checked_space(config, comm.size)) if space is None else space
    coordinator = _create_on_root(comm, lambda: SearchCoordinator(config, space, folder, fingerprint, comm.size))
    digest = comm.broadcast(coordinator.digest if coordinator is not None else "")
    journal = Journal(folder, comm.rank, digest, config.search.candidate_seconds, comm.end_job)
    remaining = coordinator.remaining() if coordinator is not None else 0
    with (
        limit_threads(config.search.threads),
        Progress("search", remaining, "candidates", comm.is_root and config.run.progress) as progress,
    ):

        def advance(count: int) -> None:
            progress.advance(count, coordinator.note() if coordinator else "")

        evaluator = Evaluator(
            comm, fitness, space, advance, config.search.group_ranks, journal, config.run.stall_seconds
        )
        try:
            while not comm.broadcast(coordinator is not None and coordinator.done):
                _evaluate_round(comm, evaluator, coordinator, progress)
        finally:
            journal.close()
            fitness.close()
    return run_on_root(comm, coordinator.finish if coordinator is not None else _not_on_root)


def search(context: StageContext) -> dict[str, Any]:
    """Search in a run directory: the stage "search". Collective.

    Parameters
    ----------
    context : StageContext
        Its configuration names a kernel; ``reservoir.kernel = "auto"`` is resolved earlier. The shards of its run
        directory are read.

    Returns
    -------
    dict
        For the state file of the stage: the winner, and the shards that were replaced.

    Raises
    ------
    RcdpError
        As `run_search`, or if the shards cannot be read.
    """
    # Imported here and below, since they need torch and h5py, which `run_search` does not.
    import torch

    from rcdp_hpc.data.shards.index import facts_in
    from rcdp_hpc.data.shards.repair import replaced_files
    from rcdp_hpc.runtime.comm.gpus import report_shared_gpus
    from rcdp_hpc.runtime.device import set_up_device
    from rcdp_hpc.search.evaluation.extracted import extracted, report_evaluated
    from rcdp_hpc.search.evaluation.fitness import states_device
    from rcdp_hpc.search.evaluation.limits import agreed_limit
    from rcdp_hpc.search.evaluation.rows import fitness_rows

    comm, run = context.comm, context.run
    agree(comm, lambda: checked_space(context.config, comm.size))
    if comm.is_root:
        report_idle_dimensions(context.config)
    config = with_effective_space(context.config)
    shards = _intact_shards(context)
    device = agree(comm, lambda: states_device(config))
    if device != "cpu":
        set_up_device(torch.device(device), config)
        report_shared_gpus(comm, torch.device(device), "evaluate candidates")
    features = extracted(config, comm, run, shards, device)
    if comm.is_root:
        report_evaluated(config, features)
    memory_before = process_memory()
    data = fitness_rows(shards, config, comm, features)
    memory = agreed_limit(config, comm, data.nbytes, memory_before, device)
    fingerprint = data.fingerprint() if comm.is_root else ""
    idle_cores = max(0, threads_per_rank(comm) - config.search.threads)

    def search_in(settings: Config, folder: Path) -> Best:
        fitness = agree(comm, lambda: _create_fitness(evaluated_config(settings), data, memory, idle_cores))
        return run_search(settings, comm, fitness, folder, fingerprint=fingerprint)

    if config.search.method == "select":
        kind = run_on_root(comm, lambda: facts_in(shards.index).kind)
        best = _select(config, kind, comm, run, search_in)
    else:
        best = search_in(config, run.search)
    return {**asdict(best), "generations": config.search.generations, "replaced": list(replaced_files(shards))}


def _intact_shards(context: StageContext) -> ShardReader:
    """Open the shards of the run and, with ``data.on_damage = "replace"``, replace damaged rows. Collective."""
    from rcdp_hpc.data.shards.reader import ShardReader
    from rcdp_hpc.data.shards.repair import RefilledShards, log_replaced, without_damaged
    from rcdp_hpc.data.split import slab_bounds

    config, comm = context.config, context.comm
    shards = agree(comm, lambda: ShardReader(context.run.shards, verify=config.data.verify_on_read))
    if config.search.evaluation != "function":
        agree(comm, lambda: check_candidate_shape(config, shards.sample_shape, shards.shortest))
        agree(comm, lambda: check_fitness(config, shards.classes))
    shards = without_damaged(
        comm,
        shards,
        {},
        search=config.data.on_damage == "replace",
        local_rows=lambda rows: slab_bounds(min(config.search.train_rows, rows), comm.rank, comm.size),
        check_stop=lambda: signals.raise_if_stopped("checking the shards"),
    )
    if isinstance(shards, RefilledShards):
        log_replaced(shards, {})
    return shards


def _create_fitness(config: Config, data: FitnessData, memory: int, idle_cores: int) -> Fitness:
    from rcdp_hpc.search.evaluation.batch import BatchedFitness
    from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
    from rcdp_hpc.search.evaluation.user_function import FunctionFitness

    if config.search.evaluation == "function":
        return FunctionFitness(config, data)
    if config.search.candidates_at_once > 1:
        return BatchedFitness(config, data, memory, idle_cores)
    return ReservoirFitness(config, data, memory, idle_cores)


def _select(
    config: Config, kind: str, comm: Communicator, run: RunDirectory, search_in: Callable[[Config, Path], Best]
) -> Best:
    """Evaluate the state sets, then start the optimiser from the best set if there are generations. Collective.

    The file of the winner holds the name of the set and the values that the optimiser changed.
    """
    selection = agree(comm, lambda: selection_config(config, kind))
    if comm.is_root:
        log.info("search: %d state sets are evaluated once each", selection.search.population)
    if not config.search.generations:
        return search_in(selection, run.search)
    selected = search_in(selection, run.search / "select")
    if comm.is_root:
        log.info("search: the optimiser starts from state set %s", selected.values["state_set"])
    best = search_in(with_values(config, selected.values), run.search)
    combined = replace(best, values={**selected.values, **best.values})
    run_on_root(comm, lambda: write_best(run.best_candidate, combined))
    return combined


def _evaluate_round(
    comm: Communicator, evaluator: Evaluator, coordinator: SearchCoordinator | None, progress: Progress
) -> None:
    """Evaluate the pending candidates of a generation on all ranks and record them, or stop with a checkpoint."""
    values = None
    if coordinator is not None:
        values = coordinator.pending()
        current = Round(coordinator.generation, coordinator.saved_generation, coordinator.share)
    current = comm.broadcast(current if coordinator is not None else None)
    evaluations = evaluator.evaluate(values, current)
    stop = signals.stop_agreed(comm)

    def record() -> None:
        if coordinator is not None and evaluations is not None:
            coordinator.record(evaluations, evaluator.workers)
            if stop:
                coordinator.flush()

    agree(comm, record)
    if coordinator is not None and values is not None and coordinator.generation > current.generation and not stop:
        reused = coordinator.optimizer.population - (len(values) if current.share == 1 else 0)
        progress.advance(reused, coordinator.note())
    if stop and not comm.broadcast(coordinator is not None and coordinator.done):
        position = comm.broadcast(coordinator.position() if coordinator is not None else "")
        comm.barrier()
        raise agreed(StoppedError(f"search stopped by {signals.received_name()} {position}; start again to resume."))


def _create_on_root(comm: Communicator, create: Callable[[], T]) -> T | None:
    """Create an object that stays on rank 0; an error is raised on all ranks. Collective."""
    created: list[T] = []
    run_on_root(comm, lambda: created.append(create()))
    return created[0] if created else None


def _not_on_root() -> Best:
    raise AssertionError("only rank 0 runs this")
