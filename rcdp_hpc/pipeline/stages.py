"""The stages in order, and what surrounds each: lock, resolved configuration, state file, resume.

Each stage is a function of (configuration, run directory, communicator) and can be called from Python; the
command line does nothing else.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rcdp_hpc.config import STAGES, Config, with_kind_defaults
from rcdp_hpc.config.paths import absolute_path, with_absolute_paths
from rcdp_hpc.errors import (
    CandidateError,
    DataDamagedError,
    InputError,
    RcdpError,
    StageFailedError,
    StoppedError,
)
from rcdp_hpc.pipeline.resolve import (
    need_torch,
    refuse_impossible_reservoir,
    threads_of,
    with_defaults_of_data,
    with_kernel,
    with_own_matrices,
    with_recorded_kernel,
    with_winner,
)
from rcdp_hpc.pipeline.state import begin, finish, machines_of_ranks, put_aside, record_failure, report_seconds
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.code_consent import code_named_by, record_user_modules
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root, agreed, run_on_root
from rcdp_hpc.runtime.comm.heartbeat import at_end_of_job
from rcdp_hpc.runtime.comm.horovod import is_lost_rank
from rcdp_hpc.runtime.comm.launch import detect
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.leftovers import remove_leftovers, temporary_files
from rcdp_hpc.runtime.lock import RunLock
from rcdp_hpc.runtime.logs import logging_to_file
from rcdp_hpc.runtime.ram import is_out_of_memory
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.stage_record import (
    record_settings,
    report_edited_file,
    settings_of,
)

log = logging.getLogger(__name__)


# What makes a stage need less memory.
_LESS_MEMORY = {
    "prepare": "lower data.memory_budget",
    "search": "lower search.train_rows, reservoir.batch_rows or reservoir.nodes (with --restart)",
    "train": "lower training.batch (training.accumulate keeps the rows of an update), reservoir.batch_rows, or "
    "training.cache_memory (states beyond it go to a file), or set training.cache_precision = 'float16' (with "
    "--restart)",
    "evaluate": "lower reservoir.batch_rows",
}


def run_stages(
    stages: Sequence[str],
    config: Config,
    out: str | Path,
    comm: Communicator | None = None,
    restart: bool = False,
    allow_code: bool = False,
) -> dict[str, Any]:
    """Run stages one after the other in a run directory; those already done are passed over or resumed.

    Parameters
    ----------
    stages : sequence of {"prepare", "search", "train", "evaluate"}
        In this order.
    config : Config
        Settings of the run, the same on every rank.
    out : str or Path
        The run directory.
    comm : Communicator, optional
        All ranks of the job; default: this process alone.
    restart : bool
        Put aside what these stages did before and start them over.
    allow_code : bool
        Import classes that a model file names and `config` does not. Those that `config` names are imported anyway, and
        recorded as the user's own without this option (`rcdp_hpc.runtime.code_consent`).

    Returns
    -------
    dict
        What each stage reports, by its name.

    Raises
    ------
    RcdpError
        The same on every rank where it is marked as agreed.
    """
    comm = comm or alone()
    config, run = with_absolute_paths(config), RunDirectory(absolute_path(out))
    results = {}
    if set(stages) & {"prepare", "search", "train"}:
        run_on_root(comm, partial(refuse_impossible_reservoir, config))
    with held(run, comm):
        config = run_on_root(comm, lambda: with_recorded_kernel(config, run, stages))
        if not allow_code:
            run_on_root(comm, lambda: record_user_modules(code_named_by(config).values()))
        for number, stage in enumerate(stages, 1):
            if len(stages) > 1:
                log.info("== %d of %d: %s%s ==", number, len(stages), stage, _ranks_text(stage, comm))
            if stage != "prepare":
                config = run_on_root(comm, partial(with_defaults_of_data, config, run))
            if stage in ("search", "train"):
                run_on_root(comm, partial(refuse_impossible_reservoir, config))
                config = run_on_root(comm, partial(with_own_matrices, config, run, stages if restart else ()))
                config = run_on_root(comm, partial(with_kernel, config, run, threads_of(config, comm)))
            ranks = comm.size if len(stages) > 1 else None
            results[stage] = _run_stage(stage, config, comm, run, restart, ranks, allow_code)
            if stage == "prepare":
                config = run_on_root(comm, partial(with_defaults_of_data, config, run))
        if len(stages) > 1:
            agree_on_root(comm, lambda: report_seconds(run, stages))
    return results


def prepare(config: Config, out: str | Path, comm: Communicator | None = None, restart: bool = False) -> Any:
    """Balance the data set and write its shards. Parameters and errors as `run_stages`."""
    return run_stages(["prepare"], config, out, comm, restart)["prepare"]


def search(config: Config, out: str | Path, comm: Communicator | None = None, restart: bool = False) -> Any:
    """Search for the reservoir and its readout. Parameters and errors as `run_stages`."""
    return run_stages(["search"], config, out, comm, restart)["search"]


def train(config: Config, out: str | Path, comm: Communicator | None = None, restart: bool = False) -> Any:
    """Train the readout. Parameters and errors as `run_stages`."""
    return run_stages(["train"], config, out, comm, restart)["train"]


def evaluate(config: Config, out: str | Path, comm: Communicator | None = None, restart: bool = False) -> Any:
    """Evaluate the trained model on the test split. Parameters and errors as `run_stages`."""
    return run_stages(["evaluate"], config, out, comm, restart)["evaluate"]


def run(config: Config, out: str | Path, comm: Communicator | None = None, restart: bool = False) -> dict[str, Any]:
    """Run all stages in one job. Parameters and errors as `run_stages`."""
    return run_stages(STAGES, config, out, comm, restart)


@contextmanager
def held(run: RunDirectory, comm: Communicator) -> Iterator[None]:
    """Hold the run directory's lock on rank 0, remove what a killed job left half written, and log into the directory.

    Raises
    ------
    InputError
        On all ranks, if another job works there.
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
    stage: str,
    config: Config,
    comm: Communicator,
    run: RunDirectory,
    restart: bool,
    ranks: int | None = None,
    allow_code: bool = False,
) -> Any:
    options: dict[str, Any] = {}
    if stage == "prepare":
        # Moves the earlier shards away by itself, once the new ones are complete.
        options = {"restart": restart, "ranks": ranks}
    elif stage == "evaluate":
        options = {"allow_code": allow_code}
    if stage != "prepare" and restart:
        agree_on_root(comm, lambda: report_edited_file(run, stage))
        agree_on_root(comm, lambda: put_aside(run, stage))
    machines = machines_of_ranks(stage, comm)
    agree_on_root(comm, lambda: begin(run, stage, config, comm.size, restart, machines))
    try:
        hook = at_end_of_job(lambda reason: record_failure(run, comm, stage, "failed", reason=reason))
        with hook, os_errors_explained():
            result = _WORK[stage](config, comm, run, **options)
    except RcdpError as error:
        stopped = isinstance(error, StoppedError)
        used = {"settings": settings_of(stage, config)} if stopped else {}
        refused = isinstance(error, InputError | DataDamagedError | CandidateError)
        record_failure(run, comm, stage, "stopped" if stopped else "failed", refused, reason=str(error), **used)
        if stopped and comm.is_root:
            record_settings(run, stage, config)
        raise
    except Exception as error:
        if is_lost_rank(error):
            # The stage has not failed: it stays "running", as where this rank is killed, and goes on if started again.
            raise
        told = _no_memory(stage, error) if is_out_of_memory(error) else None
        record_failure(run, comm, stage, "failed", reason=str(told or f"{type(error).__name__}: {error}"))
        if told is not None:
            raise told from error
        raise
    agree_on_root(comm, lambda: finish(run, stage, config, result))
    return result


def _no_memory(stage: str, error: Exception) -> StageFailedError:
    """Return what a stage that found no memory says; on one rank alone, the others are ended by it."""
    first, *_ = str(error).splitlines() or [type(error).__name__]
    return StageFailedError(
        f"stage {stage}: no memory left on {socket.gethostname()} ({first}). To do: {_LESS_MEMORY[stage]}, or start "
        "fewer ranks a node. With more memory the same command goes on from the last checkpoint."
    )


def _ranks_text(stage: str, comm: Communicator) -> str:
    if comm.size == 1:
        return ""
    if stage == "prepare":
        return " on one process"
    through = {"search": "MPI", "train": "Horovod"}.get(stage, comm.library)
    return f" on {comm.size} ranks ({through})"


def _prepare(
    config: Config, comm: Communicator, run: RunDirectory, restart: bool = False, ranks: int | None = None
) -> dict[str, Any]:
    """Prepare the shards; `ranks` are those of the stages that follow in this job, if any do."""
    from rcdp_hpc.data.prepare import prepare_shards
    from rcdp_hpc.data.shards.index import facts_in
    from rcdp_hpc.pipeline.data_checks import SettingsCheck

    def work() -> dict[str, Any]:
        check = SettingsCheck(ranks, run.matrices)
        index = prepare_shards(config, run.shards, _stop_preparing, restart, check.source)
        check.shards(index, with_kind_defaults(config, facts_in(index)))
        return index

    index = run_on_root(comm, work)
    return {split: part["rows"] for split, part in index["splits"].items()}


def _stop_preparing() -> None:
    if signals.stop_requested():
        raise StoppedError(
            f"preparation stopped by {signals.received_name()}: what was complete before is kept; run the same command "
            "to prepare anew."
        )


def _search(config: Config, comm: Communicator, run: RunDirectory) -> dict[str, Any]:
    from rcdp_hpc.search.driver import search as search_stage

    if not config.search.generations and config.search.method != "select":
        log.info("search.generations = 0: no search, the configured reservoir is taken")
        return {}
    if config.reservoir.kind == "none":
        log.info("reservoir.kind = none: no search, since there is no reservoir to find")
        return {}
    if config.reservoir.kind == "diagonal":
        log.info("reservoir.kind = diagonal: no search, its space is that of kind = random")
        return {}
    if not comm.can_split:
        raise agreed(
            InputError(
                "the search talks through MPI, and horovodrun with Gloo starts every rank in an MPI world of its own: "
                "each would search alone. Start it with mpirun, srun --mpi=pmix or horovodrun --mpi, or set "
                "search.generations=0."
            )
        )
    return search_stage(config, comm, run)


def _train(config: Config, comm: Communicator, run: RunDirectory) -> dict[str, Any]:
    need_torch()
    from rcdp_hpc.training.stage import train as train_stage

    return train_stage(agree(comm, lambda: with_winner(config, run)), comm, run)


def _evaluate(config: Config, comm: Communicator, run: RunDirectory, allow_code: bool = False) -> dict[str, Any]:
    need_torch()
    from rcdp_hpc.evaluation.stage import evaluate as evaluate_stage

    return evaluate_stage(config, comm, run, allow_code)


_WORK: dict[str, Callable[..., Any]] = {
    "prepare": _prepare,
    "search": _search,
    "train": _train,
    "evaluate": _evaluate,
}


def alone() -> Communicator:
    """Return the communicator of a single process; several need one that the caller made."""
    launch = detect()
    if launch.conflict:
        raise InputError(launch.conflict)
    if launch.size > 1:
        raise InputError(
            f"{launch.launcher} started {launch.size} ranks, each of which would do all the work: pass "
            "comm=rcdp_hpc.connect()."
        )
    return SingleProcess()
