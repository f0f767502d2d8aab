"""The search loop: ask, evaluate on all ranks, tell."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from rcdp_hpc.config import Config
from rcdp_hpc.errors import StoppedError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed, run_on_root
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.ram import process_memory
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.stage_context import StageContext
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.checks import checked_space
from rcdp_hpc.search.coordinator import SearchCoordinator
from rcdp_hpc.search.evaluation.candidate import Fitness
from rcdp_hpc.search.evaluator import Evaluator, Round
from rcdp_hpc.search.optimizers import OPTIMIZERS, Grid, Optimizer
from rcdp_hpc.search.records.best import Best, write_best
from rcdp_hpc.search.records.journal import Journal
from rcdp_hpc.search.selection import selection_config
from rcdp_hpc.search.space import with_values

log = logging.getLogger(__name__)

T = TypeVar("T")


def run_search(
    config: Config,
    comm: Communicator,
    fitness: Fitness,
    folder: Path,
    *,
    fingerprint: str = "",
    make_optimizer: type[Optimizer] | None = None,
) -> Best:
    """Search for the best candidate, or go on with a search that was stopped. Collective.

    Candidates, history and winner are the same for any number of ranks and however often the search was stopped.

    Parameters
    ----------
    config : Config
    comm : Communicator
    fitness : callable
        Returns the `Evaluation` of a candidate's named values, the same on every rank.
    folder : Path
        Where history.jsonl, best.toml and the checkpoints lie.
    fingerprint : str
        Of the data behind `fitness`; a checkpoint of other data is refused.
    make_optimizer : type
        Class of the optimiser; default: what ``search.optimizer`` names.

    Returns
    -------
    Best
        The winner, on every rank.

    Raises
    ------
    InputError
        If the search space is wrong, or the folder holds a search of other settings.
    DataDamagedError
        If the folder's checkpoints are damaged.
    StoppedError
        If a signal asked for a stop; a checkpoint is written.
    StageFailedError
        If every candidate failed, or a file cannot be written.
    """
    space = agree(comm, lambda: checked_space(config, comm.size))
    kind = make_optimizer or OPTIMIZERS[config.search.optimizer]
    root = _on_root(comm, lambda: SearchCoordinator(config, space, folder, fingerprint, kind, comm.size))
    digest = comm.broadcast(root.digest if root is not None else "")
    journal = Journal(folder, comm.rank, digest, config.search.candidate_seconds, comm.end_job)
    remaining = root.remaining() if root is not None else 0
    with (
        limit_threads(config.search.threads),
        Progress("search", remaining, "candidates", comm.is_root and config.run.progress) as progress,
    ):

        def advance(count: int) -> None:
            progress.advance(count, root.note() if root else "")

        evaluator = Evaluator(
            comm, fitness, space, advance, config.search.group_ranks, journal, config.run.stall_seconds
        )
        try:
            while not comm.broadcast(root is not None and root.done):
                _generation(comm, evaluator, root, progress)
        finally:
            journal.close()
    return run_on_root(comm, root.finish if root is not None else _nothing)


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
        What the stage's state tells: the winner, and the shards that were replaced.

    Raises
    ------
    RcdpError
        As `run_search`, or because of the shards.
    """
    # Imported here, since they need torch and h5py, which the loop itself does not.
    from rcdp_hpc.data.shards.index import facts_in
    from rcdp_hpc.data.shards.reader import ShardSet
    from rcdp_hpc.data.shards.repair import RefilledShards, log_replaced, replaced_files, without_damaged
    from rcdp_hpc.data.split import slab_bounds
    from rcdp_hpc.reservoir.kept_steps import check_samples
    from rcdp_hpc.search.evaluation.batch import BatchedFitness
    from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
    from rcdp_hpc.search.evaluation.limits import agreed_limit
    from rcdp_hpc.search.evaluation.rows import fitness_rows
    from rcdp_hpc.search.evaluation.user_function import FunctionFitness

    config, comm, run = context.config, context.comm, context.run
    agree(comm, lambda: checked_space(config, comm.size))
    if config.extractor.kind == "kernels" and config.search.evaluation != "function":
        log.info(
            "extractor.kind = 'kernels': the search judges the reservoir's states alone, without the features "
            "of the kernels"
        )
    shards = agree(comm, lambda: ShardSet(run.shards, verify=config.data.verify_on_read))
    if config.search.evaluation != "function":
        agree(comm, lambda: check_samples(config.reservoir, shards.sample_shape, shards.shortest))
    shards = without_damaged(
        comm,
        shards,
        {},
        search=config.data.on_damage == "replace",
        own_rows=lambda rows: slab_bounds(min(config.search.train_rows, rows), comm.rank, comm.size),
        check_stop=lambda: signals.raise_if_stopped("checking the shards"),
    )
    if isinstance(shards, RefilledShards):
        log_replaced(shards, {})
    own = process_memory()
    data = fitness_rows(shards, config, comm)
    memory = agreed_limit(config, comm, data.nbytes, own)

    def make(config: Config) -> Fitness:
        if config.search.evaluation == "function":
            return FunctionFitness(config, data)
        if config.search.candidates_at_once > 1:
            return BatchedFitness(config, data, memory)
        return ReservoirFitness(config, data, memory)

    rows = data.fingerprint() if comm.is_root else ""

    def searched(settings: Config, folder: Path, optimizer: type[Optimizer] | None = None) -> Best:
        fitness = agree(comm, lambda: make(settings))
        fingerprint = rows + getattr(fitness, "source", "") if comm.is_root else ""
        return run_search(settings, comm, fitness, folder, fingerprint=fingerprint, make_optimizer=optimizer)

    if config.search.method == "select":
        kind = run_on_root(comm, lambda: facts_in(shards.index).kind)
        best = _select(config, kind, comm, run, searched)
    else:
        best = searched(config, run.search)
    return {**asdict(best), "generations": config.search.generations, "replaced": list(replaced_files(shards))}


def _select(config: Config, kind: str, comm: Communicator, run: RunDirectory, searched: Callable[..., Best]) -> Best:
    """Judge the state sets, then let the optimiser start from the best of them if there are generations. Collective.

    The winner's file holds the set and what the optimiser changed of it.
    """
    sets = agree(comm, lambda: selection_config(config, kind))
    if comm.is_root:
        log.info("search: %d state sets are judged once each", sets.search.population)
    if not config.search.generations:
        return searched(sets, run.search, Grid)
    chosen = searched(sets, run.search / "select", Grid)
    if comm.is_root:
        log.info("search: the optimiser starts from state set %s", chosen.values["state_set"])
    best = searched(with_values(config, chosen.values), run.search)
    whole = replace(best, values={**chosen.values, **best.values})
    run_on_root(comm, lambda: write_best(run.best_candidate, whole))
    return whole


def _generation(comm: Communicator, evaluator: Evaluator, root: SearchCoordinator | None, progress: Progress) -> None:
    """Evaluate what is due of a generation on all ranks and record it, or stop with a checkpoint."""
    unknown = root.unknown() if root is not None else None
    due = comm.broadcast(Round(root.generation, root.settled, root.share) if root is not None else None)
    outcomes = evaluator.evaluate(unknown, due)
    stop = signals.stop_agreed(comm)

    def take() -> None:
        if root is not None and outcomes is not None:
            root.take(outcomes, evaluator.workers)
            if stop:
                root.settle()

    agree(comm, take)
    if root is not None and unknown is not None and root.generation > due.generation and not stop:
        progress.advance(root.optimizer.population - (len(unknown) if due.share == 1 else 0), root.note())
    if stop and not comm.broadcast(root is not None and root.done):
        where = comm.broadcast(root.where() if root is not None else "")
        comm.barrier()
        raise agreed(StoppedError(f"search stopped by {signals.received_name()} {where}; start again to go on."))


def _on_root(comm: Communicator, make: Callable[[], T]) -> T | None:
    """Make an object that stays on rank 0; its errors are raised on all ranks."""
    made: list[T] = []
    run_on_root(comm, lambda: made.append(make()))
    return made[0] if made else None


def _nothing() -> Best:
    raise AssertionError("only rank 0 runs this")
