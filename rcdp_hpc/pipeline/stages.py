"""The stages in order. Each runs with the lock held, a resolved configuration and an entry in its state file.

The functions of this module are the Python interface; the command line calls the same functions.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from rcdp_hpc.config import STAGES, Config, commented_toml, to_tree, with_kind_defaults
from rcdp_hpc.config.paths import absolute_path, with_absolute_paths
from rcdp_hpc.errors import (
    CandidateError,
    DataDamagedError,
    InputError,
    RcdpError,
    StageFailedError,
    StoppedError,
)
from rcdp_hpc.pipeline.array_data import LabelledArrays, Settings, with_data
from rcdp_hpc.pipeline.devices import (
    COMPUTING,
    gpus_for,
    refuse_missing_gpus,
    refuse_shared_later,
    set_up_libraries,
)
from rcdp_hpc.pipeline.requirements import require_engine, require_torch, require_torch_for
from rcdp_hpc.pipeline.resolve import (
    ResolvedConfig,
    refuse_broken_classes,
    refuse_empty_search,
    refuse_impossible_reservoir,
    resolve,
)
from rcdp_hpc.pipeline.results import EvaluateResult, PrepareResult, RunResult, SearchResult, TrainResult
from rcdp_hpc.pipeline.same_settings import refuse_different_settings
from rcdp_hpc.pipeline.state import begin, finish, machines_of_ranks, put_aside, record_failure, report_seconds
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.code_consent import code_named_by, record_user_modules
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree_on_root, agreed, run_on_root
from rcdp_hpc.runtime.comm.connect import communicator_of
from rcdp_hpc.runtime.comm.gpus import RankGPU
from rcdp_hpc.runtime.comm.heartbeat import at_end_of_job
from rcdp_hpc.runtime.comm.lost_ranks import is_lost_rank
from rcdp_hpc.runtime.files import os_errors_explained, write_text
from rcdp_hpc.runtime.leftovers import remove_leftovers, temporary_files
from rcdp_hpc.runtime.load import watched_load
from rcdp_hpc.runtime.lock import RunLock
from rcdp_hpc.runtime.logs import logging_to_file
from rcdp_hpc.runtime.ram import is_out_of_memory
from rcdp_hpc.runtime.random_state import unchanged_random_state
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.stage_context import StageContext
from rcdp_hpc.runtime.stage_record import record_settings, report_edited_file, settings_of
from rcdp_hpc.runtime.threads import threads_per_rank

log = logging.getLogger(__name__)


# Settings that reduce the memory that a stage needs.
_LESS_MEMORY = {
    "prepare": "set a smaller data.memory_budget",
    "search": "set a smaller search.train_rows, reservoir.batch_rows or reservoir.nodes (with --restart)",
    "train": "set a smaller training.batch (with a larger training.accumulate), reservoir.batch_rows, or "
    "states.memory_mib (states beyond it go to the memory of the host, or to a file), or set states.precision = "
    "'float16' (with --restart)",
    "evaluate": "set a smaller reservoir.batch_rows",
}


@dataclass(frozen=True)
class StageOptions:
    """How a stage starts.

    Attributes
    ----------
    restart : bool
        Put earlier results aside and start again.
    allow_code : bool
        Import classes that only a model file names.
    following_ranks : int or None
        Ranks of the later stages of this job; None if the stage is the only one.
    arrays : LabelledArrays or None
        Samples in memory.
    progress : bool
        Whether to show progress, unless ``run.progress`` is false.
    """

    restart: bool = False
    allow_code: bool = False
    following_ranks: int | None = None
    arrays: LabelledArrays | None = None
    progress: bool = False


def run_stages(
    stages: Sequence[str],
    config: Settings,
    out: str | Path,
    comm: Any = None,
    restart: bool = False,
    allow_code: bool = False,
    *,
    data: Any = None,
    test: Any = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Run stages one after the other in a run directory. Finished stages are not repeated, stopped ones are resumed.

    Parameters
    ----------
    stages : sequence of {"prepare", "search", "train", "evaluate"}
        In this order.
    config, out, comm, restart, data, test, progress
        As in `run`.
    allow_code : bool
        Import classes that a model file names and `config` does not. Those that `config` names are imported anyway, and
        recorded as the user's own without this option (`rcdp_hpc.runtime.code_consent`).

    Returns
    -------
    dict
        The result of each stage, by its name.

    Raises
    ------
    RcdpError
        If it is marked as agreed, the same error is raised on every rank.
    """
    with communicator_of(comm) as ranks:
        config, arrays = with_data(config, out, data, test, ranks)
        options = StageOptions(restart, allow_code, arrays=arrays, progress=progress)
        return run_with_options(stages, config, out, ranks, options)


def run_with_options(
    stages: Sequence[str], config: Config, out: str | Path, comm: Communicator, options: StageOptions
) -> dict[str, Any]:
    """Run stages as `run_stages` does, with `options` whose ``following_ranks`` is not set yet."""
    refuse_different_settings(comm, to_tree(config))
    config = with_absolute_paths(config)
    run = RunDirectory(absolute_path(out))
    options = replace(options, following_ranks=comm.size if len(stages) > 1 else None)
    results = {}
    run_on_root(comm, run.refuse_comparison)
    require_torch_for(stages, comm)
    if "train" in stages:
        require_engine(comm, config.parallel)
    refuse_missing_gpus(config, stages, comm)
    if set(stages) & {"prepare", "search", "train"}:
        run_on_root(comm, partial(refuse_empty_search, config))
        run_on_root(comm, partial(refuse_impossible_reservoir, config))
        run_on_root(comm, partial(refuse_broken_classes, config))
    gpus: list[RankGPU] | None = None
    with held(run, comm):
        if not options.allow_code:
            run_on_root(comm, lambda: record_user_modules(code_named_by(config).values()))
        for number, stage in enumerate(stages, 1):
            if len(stages) > 1:
                log.info("== %d of %d: %s%s ==", number, len(stages), stage, _ranks_text(stage, comm))
            threads = threads_per_rank(comm) if stage in ("search", "train") else 1
            discarded = stages if options.restart else ()
            if stage in COMPUTING and gpus is None:
                gpus = gpus_for(stages, comm)
                set_up_libraries(config, gpus[comm.rank])
            resolving = partial(resolve, config, run, stage, threads, discarded, options.allow_code, gpus or ())
            resolved = run_on_root(comm, resolving)
            if stage == "search" and "train" in stages and config.has_search:
                run_on_root(comm, partial(refuse_shared_later, config, run, gpus or (), threads))
            results[stage] = _run_stage(stage, resolved, comm, run, options, threads)
            config = resolved.recorded
        if len(stages) > 1:
            agree_on_root(comm, lambda: report_seconds(run, stages))
    return results


def prepare(
    config: Settings,
    out: str | Path,
    comm: Any = None,
    restart: bool = False,
    *,
    data: Any = None,
    test: Any = None,
    progress: bool = False,
) -> PrepareResult:
    """Balance the data set and write its shards. Parameters and errors are those of `run`.

    Returns
    -------
    PrepareResult
        Number of rows of each split.
    """
    results = run_stages(["prepare"], config, out, comm, restart, data=data, test=test, progress=progress)
    return cast(PrepareResult, results["prepare"])


def search(
    config: Settings,
    out: str | Path,
    comm: Any = None,
    restart: bool = False,
    *,
    progress: bool = False,
) -> SearchResult:
    """Search for the reservoir and its readout. Parameters and errors are those of `run`.

    Returns
    -------
    SearchResult
        The winner; empty if there was no search.
    """
    return cast(SearchResult, run_stages(["search"], config, out, comm, restart, progress=progress)["search"])


def train(
    config: Settings,
    out: str | Path,
    comm: Any = None,
    restart: bool = False,
    *,
    progress: bool = False,
) -> TrainResult:
    """Train the readout. Parameters and errors are those of `run`.

    Returns
    -------
    TrainResult
        How the training ended.
    """
    return cast(TrainResult, run_stages(["train"], config, out, comm, restart, progress=progress)["train"])


def evaluate(
    config: Settings,
    out: str | Path,
    comm: Any = None,
    restart: bool = False,
    *,
    progress: bool = False,
) -> EvaluateResult:
    """Evaluate the trained model on the test split. Parameters and errors are those of `run`.

    Returns
    -------
    EvaluateResult
        The scores.
    """
    return cast(EvaluateResult, run_stages(["evaluate"], config, out, comm, restart, progress=progress)["evaluate"])


def run(
    config: Settings,
    out: str | Path,
    comm: Any = None,
    restart: bool = False,
    *,
    data: Any = None,
    test: Any = None,
    progress: bool = False,
) -> RunResult:
    """Run all stages in one job: `prepare`, `search`, `train` and `evaluate`.

    A finished stage is not repeated, a stopped one is resumed.

    Parameters
    ----------
    config : Config, mapping, str or Path
        Settings of the run, the same on every rank: a `Config`, or what `load_config` accepts as its first argument.
    out : str or Path
        The run directory.
    comm : Communicator or mpi4py.MPI.Intracomm, optional
        All ranks of the job, ``rcdp_hpc.connect()``. Default: this process alone.
    restart : bool
        Put earlier results of the stages aside and start again.
    data : tuple (x, y) or mapping, optional
        Samples and labels in memory, instead of ``data.path``. `x` is an array of shape (n, ...), a data frame, or a
        list of series of unequal length, each of shape (steps, features). `y` has one label per sample: numbers,
        booleans or texts. A mapping has the keys ``x``, ``y`` and, if needed, ``lengths`` (steps of each padded series)
        and ``ids`` (name of each sample). Only rank 0 needs them. Other arrays than those of an earlier call are
        refused, unless `restart` is set.
    test : tuple (x, y) or mapping, optional
        A separate test set, in the form of `data`. Default: the test part is split off.
    progress : bool
        Show progress on rank 0: a bar on a terminal or in a notebook, otherwise lines in the log.

    Returns
    -------
    RunResult
        The result of each stage, by its name.

    Raises
    ------
    InputError
        If settings or data cannot be used, or another job uses the run directory.
    DataDamagedError
        If files of the run are damaged.
    StageFailedError
        If a stage fails, for example without memory or disk space.
    StoppedError
        If a stop signal ended a stage. The same call resumes it.

    Notes
    -----
    An error is raised on every rank if its attribute ``agreed`` is true.

    Examples
    --------
    >>> result = rcdp_hpc.run({}, "runs/iris", data=(x, y))  # doctest: +SKIP
    >>> result["evaluate"]["accuracy"]  # doctest: +SKIP
    0.966...
    """
    results = run_stages(STAGES, config, out, comm, restart, data=data, test=test, progress=progress)
    return cast(RunResult, results)


@contextmanager
def held(run: RunDirectory, comm: Communicator) -> Iterator[None]:
    """Hold the lock of a run directory on rank 0, remove incomplete files of a killed job, and log into the directory.

    Raises
    ------
    InputError
        On all ranks, if another job uses the directory.
    """
    with ExitStack() as stack:

        def enter() -> None:
            lock = stack.enter_context(RunLock(run.lock))
            stack.enter_context(at_end_of_job(lambda reason: lock.__exit__(None, None, None)))
            with os_errors_explained(run.log):
                stack.enter_context(logging_to_file(run.log))
            folders = (run.path, run.search, run.train, run.report, run.path / "state", run.jobs, run.jobs / "configs")
            remove_leftovers(temporary_files(folders), gone=lock.replaced)

        run_on_root(comm, enter)
        yield


def _run_stage(
    stage: str, resolved: ResolvedConfig, comm: Communicator, run: RunDirectory, options: StageOptions, threads: int
) -> Any:
    """Run one stage and record in its state file how it starts and ends."""
    recorded = resolved.recorded
    # The preparation itself moves earlier shards aside, after the new ones are complete.
    if options.restart and stage != "prepare":
        agree_on_root(comm, lambda: report_edited_file(run, stage))
        agree_on_root(comm, lambda: put_aside(run, stage))
    chosen = resolved.effective.search.device if stage == "search" else resolved.effective.training.device
    machines = machines_of_ranks(stage, comm, uses_gpu=chosen != "cpu")
    agree_on_root(comm, lambda: begin(run, stage, recorded, comm.size, options.restart, machines))
    try:
        hook = at_end_of_job(lambda reason: record_failure(run, comm, stage, "failed", reason=reason))
        with hook, os_errors_explained(), _watched(stage, resolved.effective, comm, threads):
            result = _WORK[stage](
                StageContext(_with_progress(resolved.effective, options.progress), comm, run), options
            )
    except RcdpError as error:
        stopped = isinstance(error, StoppedError)
        used = {"settings": settings_of(stage, recorded)} if stopped else {}
        refused = isinstance(error, InputError | DataDamagedError | CandidateError)
        record_failure(run, comm, stage, "stopped" if stopped else "failed", refused, reason=str(error), **used)
        if stopped and comm.is_root:
            record_settings(run, stage, recorded)
        raise
    except KeyboardInterrupt:
        record_failure(run, comm, stage, "stopped", reason="interrupted by Ctrl-C")
        raise
    except Exception as error:
        if is_lost_rank(error):
            # The stage did not fail: its status stays "running", as if this rank was killed, and it can be resumed.
            raise
        explained = _no_memory(stage, error) if is_out_of_memory(error) else None
        record_failure(run, comm, stage, "failed", reason=str(explained or f"{type(error).__name__}: {error}"))
        if explained is not None:
            raise explained from error
        raise
    agree_on_root(comm, lambda: finish(run, stage, recorded, result))
    if stage == "evaluate":
        agree_on_root(comm, lambda: _write_report(run))
    return result


def _watched(stage: str, config: Config, comm: Communicator, threads: int) -> AbstractContextManager[None]:
    """Report other processes on the cores of search and training. Collective."""
    if stage == "search":
        return watched_load(comm, config.search.threads, "search.threads")
    if stage != "train":
        return nullcontext()
    # The thread that launches the work of a GPU needs a core.
    used = 1 if config.training.device == "gpu" else config.training.threads or threads
    return watched_load(comm, used, "training.threads")


def _write_report(run: RunDirectory) -> None:
    """Write the report of a run, after the end of its last stage is recorded."""
    from rcdp_hpc.evaluation.report.write import try_to_write_report

    try_to_write_report(run)


def _with_progress(config: Config, progress: bool) -> Config:
    """Return the settings that a stage runs with, which follow the caller's `progress`; the recorded ones do not."""
    shown = config.run.progress and progress
    return config.model_copy(update={"run": config.run.model_copy(update={"progress": shown})})


def _no_memory(stage: str, error: Exception) -> StageFailedError:
    """Return the error of a stage that ran out of memory. If only one rank raises it, the launcher ends the others."""
    first, *_ = str(error).splitlines() or [type(error).__name__]
    ways = f"{_LESS_MEMORY[stage]}, or start fewer ranks on each node"
    if "CUDA" in first:
        ways += f", or compute on the CPUs ({'search' if stage == 'search' else 'training'}.device = 'cpu')"
    return StageFailedError(
        f"stage {stage}: out of memory on {socket.gethostname()} ({first}). To do: {ways}. With more memory the same "
        "command continues from the last checkpoint."
    )


def _ranks_text(stage: str, comm: Communicator) -> str:
    if comm.size == 1:
        return ""
    if stage == "prepare":
        return " on one process"
    return f" on {comm.size} ranks ({comm.library})"


def _prepare(context: StageContext, options: StageOptions) -> dict[str, Any]:
    """Prepare the shards on rank 0, after a check that the settings of the later stages fit the data."""
    from rcdp_hpc.data.prepare import prepare_shards
    from rcdp_hpc.data.shards.index import facts_in
    from rcdp_hpc.pipeline.data_checks import SettingsCheck

    config, run = context.config, context.run

    def work() -> dict[str, Any]:
        check = SettingsCheck(options.following_ranks, run.matrices)
        index = prepare_shards(config, run.shards, _stop_preparing, options.restart, check.source, options.arrays)
        check.shards(index, with_kind_defaults(config, facts_in(index)))
        return index

    index = run_on_root(context.comm, work)
    return {split: part["rows"] for split, part in index["splits"].items()}


def _stop_preparing() -> None:
    if signals.stop_requested():
        raise StoppedError(
            f"preparation stopped by {signals.received_name()}: complete earlier shards are kept. Run the same command "
            "to prepare again."
        )


def _search(context: StageContext, options: StageOptions) -> dict[str, Any]:
    from rcdp_hpc.search.driver import search as search_stage

    config = context.config
    if not config.has_search:
        log.info("search.generations = 0: no search; the configured settings are used")
        return {}
    if not context.comm.can_split:
        raise agreed(
            InputError(
                "the search cannot run under horovodrun with Gloo, which connects the ranks for sums only. Start it "
                "with mpirun, srun --mpi=pmix, torchrun or horovodrun --mpi, or set search.generations=0."
            )
        )
    return search_stage(context)


def _train(context: StageContext, options: StageOptions) -> dict[str, Any]:
    require_torch()
    from rcdp_hpc.training.stage import train as train_stage

    with unchanged_random_state():
        result = train_stage(context, options.allow_code)
    if context.config.has_search:
        agree_on_root(context.comm, lambda: _write_trained_config(context.config, context.run))
    return result


def _write_trained_config(config: Config, run: RunDirectory) -> None:
    """Write the settings of a training with the best candidate; the device is that of ``config.toml``."""
    training = config.training.model_copy(update={"device": run.config().training.device})
    write_text(run.trained_config, commented_toml(config.model_copy(update={"training": training})))


def _evaluate(context: StageContext, options: StageOptions) -> dict[str, Any]:
    require_torch()
    from rcdp_hpc.evaluation.stage import evaluate as evaluate_stage

    return evaluate_stage(context, options.allow_code)


_WORK: Mapping[str, Callable[[StageContext, StageOptions], Any]] = {
    "prepare": _prepare,
    "search": _search,
    "train": _train,
    "evaluate": _evaluate,
}
