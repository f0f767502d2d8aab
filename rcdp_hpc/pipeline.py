"""The stages in order, and what surrounds each: lock, resolved configuration, state file, resume.

Each stage is a function of (configuration, run directory, communicator) and can be called from Python; the
command line does nothing else.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
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
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.code_consent import code_named_by, record_own
from rcdp_hpc.runtime.collective import agree, agreed, run_on_root
from rcdp_hpc.runtime.comm import Communicator, SingleProcess
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.heartbeat import at_end_of_job
from rcdp_hpc.runtime.horovod import is_lost_rank
from rcdp_hpc.runtime.launch import detect
from rcdp_hpc.runtime.leftovers import remove_leftovers, temporary_files
from rcdp_hpc.runtime.lock import RunLock
from rcdp_hpc.runtime.logs import logging_to_file
from rcdp_hpc.runtime.memory import is_out_of_memory
from rcdp_hpc.runtime.processor import Machine, distinct, machine_of_process, report_unlike
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.stage_record import (
    machines_to_record,
    record_settings,
    refuse_other_than_trained,
    report_changes,
    settings_of,
)
from rcdp_hpc.runtime.text import packed
from rcdp_hpc.runtime.threads import fair_share

log = logging.getLogger(__name__)

# Samples at once of a reservoir of kind "diagonal", whose cells take as many of them as pay.
DIAGONAL_ROWS = 512
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
        run_on_root(comm, partial(_check_reservoir, config))
    with held(run, comm):
        config = run_on_root(comm, lambda: _recorded(config, run, stages))
        if not allow_code:
            run_on_root(comm, lambda: record_own(code_named_by(config).values()))
        for number, stage in enumerate(stages, 1):
            if len(stages) > 1:
                log.info("== %d of %d: %s%s ==", number, len(stages), stage, _ranks_text(stage, comm))
            if stage != "prepare":
                config = run_on_root(comm, partial(_with_defaults_of_data, config, run))
            if stage in ("search", "train"):
                run_on_root(comm, partial(_check_reservoir, config))
                config = run_on_root(comm, partial(_with_own_matrices, config, run, stages if restart else ()))
                config = run_on_root(comm, partial(_with_kernel, config, run, _threads_of(config, comm)))
            ranks = comm.size if len(stages) > 1 else None
            results[stage] = _run_stage(stage, config, comm, run, restart, ranks, allow_code)
            if stage == "prepare":
                config = run_on_root(comm, partial(_with_defaults_of_data, config, run))
        if len(stages) > 1:
            agree(comm, lambda: _tell_seconds(run, stages) if comm.is_root else None)
    return results


def _check_reservoir(config: Config) -> None:
    """Refuse a reservoir that cannot exist, unless its size still waits for the kind of data."""
    if config.chosen is not None and not {"reservoir.nodes", "reservoir.density"} <= config.chosen:
        return
    from rcdp_hpc.reservoir.feasible import check_reservoir

    check_reservoir(config)


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
        agree(comm, lambda: _put_aside(run, stage) if comm.is_root else None)
    machines = _machines(stage, comm)
    agree(comm, lambda: _begin(run, stage, config, comm.size, restart, machines) if comm.is_root else None)
    try:
        hook = at_end_of_job(lambda reason: _note_quietly(run, comm, stage, "failed", reason=reason))
        with hook, os_errors_explained():
            result = _WORK[stage](config, comm, run, **options)
    except RcdpError as error:
        stopped = isinstance(error, StoppedError)
        used = {"settings": settings_of(stage, config)} if stopped else {}
        refused = isinstance(error, InputError | DataDamagedError | CandidateError)
        _note_quietly(run, comm, stage, "stopped" if stopped else "failed", refused, reason=str(error), **used)
        if stopped and comm.is_root:
            record_settings(run, stage, config)
        raise
    except Exception as error:
        if is_lost_rank(error):
            # The stage has not failed: it stays "running", as where this rank is killed, and goes on if started again.
            raise
        told = _no_memory(stage, error) if is_out_of_memory(error) else None
        _note_quietly(run, comm, stage, "failed", reason=str(told or f"{type(error).__name__}: {error}"))
        if told is not None:
            raise told from error
        raise
    agree(comm, lambda: _finish(run, stage, config, result) if comm.is_root else None)
    return result


def _machines(stage: str, comm: Communicator) -> list[Machine]:
    """Return the kinds of machines that the ranks run on, and report if there are several. Collective."""
    if stage != "prepare":
        with suppress(ImportError):
            import torch  # noqa: F401
    machines = distinct(comm.allgather(machine_of_process()))
    if comm.is_root and len(machines) > 1:
        report_unlike(machines)
    return machines


def _begin(
    run: RunDirectory, stage: str, config: Config, ranks: int, restart: bool, machines: Sequence[Machine]
) -> None:
    """Record that a stage runs, unless it is refused by what was recorded of earlier starts."""
    if stage == "evaluate":
        refuse_other_than_trained(run, config)
    record = machines_to_record(run, stage, config, machines)
    report_changes(run, stage, config)
    state = run.state(stage)
    kept = state.get("status") == "done" or (state.get("status") == "stopped" and not _starts_over(stage))
    run.note(
        stage, "running", ranks=ranks, started=time.time(), reason="",
        earlier_seconds=0.0 if restart else _spent_before(run, stage),
        earlier=state if kept else state.get("earlier"),
        attempt=None, **record,
    )  # fmt: skip


def _starts_over(stage: str) -> bool:
    """Return whether a stage begins again at each start and replaces its results when it ends."""
    return stage in ("prepare", "evaluate")


def _spent_before(run: RunDirectory, stage: str) -> float:
    """Return the seconds that earlier starts took for what this one goes on with."""
    state = run.state(stage)
    if state.get("status") == "done":
        # Whoever evaluates again does all of it anew.
        return 0.0 if stage == "evaluate" else float(state.get("seconds", 0.0))
    if state.get("status") == "running":
        # Killed, and its last file is the last that is known of it.
        left = [path.stat().st_mtime for path in run.folder(stage).rglob("*") if path.is_file()]
        return _spent(state, max(left, default=0.0))
    return float(state.get("earlier_seconds", 0.0))


def _spent(state: dict[str, Any], until: float) -> float:
    """Return the seconds of all starts of a stage, of the last one up to a moment."""
    return float(state.get("earlier_seconds", 0.0)) + max(0.0, until - state.get("started", until))


def _no_memory(stage: str, error: Exception) -> StageFailedError:
    """Return what a stage that found no memory says; on one rank alone, the others are ended by it."""
    first, *_ = str(error).splitlines() or [type(error).__name__]
    return StageFailedError(
        f"stage {stage}: no memory left on {socket.gethostname()} ({first}). To do: {_LESS_MEMORY[stage]}, or start "
        "fewer ranks a node. With more memory the same command goes on from the last checkpoint."
    )


def _finish(run: RunDirectory, stage: str, config: Config, result: Any) -> None:
    """Record a stage that is done, and the settings that it used: a refused command changes neither."""
    seconds = _spent(run.state(stage), time.time())
    if stage == "prepare":
        config = _with_defaults_of_data(config, run)
    record_settings(run, stage, config)
    used: dict[str, Any] = {"kernel": config.reservoir.kernel} if stage in ("search", "train") else {}
    if stage == "search":
        used["threads"] = config.search.threads
    run.note(
        stage, "done", seconds=seconds, earlier_seconds=0.0, result=result, settings=settings_of(stage, config),
        earlier=None, **used,
    )  # fmt: skip


def _tell_seconds(run: RunDirectory, stages: Sequence[str]) -> None:
    """Say where the time went, earlier starts of the same stages included."""
    seconds = {stage: float(run.state(stage)["seconds"]) for stage in stages}
    parts = ", ".join(f"{stage} {spent:.1f}" for stage, spent in seconds.items())
    log.info("seconds: %s, together %.1f", parts, sum(seconds.values()))


def _ranks_text(stage: str, comm: Communicator) -> str:
    if comm.size == 1:
        return ""
    if stage == "prepare":
        return " on one process"
    through = {"search": "MPI", "train": "Horovod"}.get(stage, comm.kind.upper() if comm.kind == "mpi" else "Horovod")
    return f" on {comm.size} ranks ({through})"


def _note_quietly(
    run: RunDirectory, comm: Communicator, stage: str, status: Any, refused: bool = False, **details: Any
) -> None:
    """Record a failure if that is possible: the failure itself matters more than its note.

    What was done before stays done if this start was refused, or if it could not harm the earlier results.
    """
    if not comm.is_root:
        return
    try:
        seconds = _spent(run.state(stage), time.time())
        run.note_failure(stage, status, refused or _starts_over(stage), earlier_seconds=seconds, **details)
    except RcdpError as error:
        log.warning("the state of stage %s could not be recorded: %s", stage, error)


def _prepare(
    config: Config, comm: Communicator, run: RunDirectory, restart: bool = False, ranks: int | None = None
) -> dict[str, Any]:
    """Prepare the shards; `ranks` are those of the stages that follow in this job, if any do."""
    from rcdp_hpc.data.index import facts_in
    from rcdp_hpc.data.prepare import prepare_shards
    from rcdp_hpc.settings_fit import SettingsCheck

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
    if comm.kind == "horovod":
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

    return train_stage(agree(comm, lambda: _with_winner(config, run)), comm, run)


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


def need_torch() -> None:
    """Raise an `InputError` where torch is missing, before a stage imports what builds on it."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise agreed(
            InputError(
                f"this stage needs torch, which cannot be imported ({error}). Run `make setup`, or see `rcdp doctor`."
            )
        ) from None


def _with_own_matrices(config: Config, run: RunDirectory, anew: Sequence[str]) -> Config:
    """Let the run read its own copy of matrices that the user gave; make the copy, or see that it is still the same.

    Results of the stages in `anew` do not count: they are about to be put aside.
    """
    given, copy = config.reservoir.matrices, run.matrices
    if any(run.folder(stage).exists() for stage in ("search", "train") if stage not in anew):
        _refuse_other_matrices(given, copy)
    elif given:
        if Path(given) != copy:
            _copy_matrices(config, run)
        else:
            _original_of(copy)
    else:
        copy.unlink(missing_ok=True)
    if not given:
        return config
    return config.model_copy(update={"reservoir": config.reservoir.model_copy(update={"matrices": str(copy)})})


def _refuse_other_matrices(given: str, copy: Path) -> None:
    way_out = "Choose another --out, or start search and train over with --restart."
    if bool(given) != copy.exists():
        before, now = ("given", "to be drawn") if copy.exists() else ("drawn", f"to be read from {given}")
        raise InputError(
            f"{copy.parent}: the reservoir's matrices were {before} and are now {now} (reservoir.matrices). {way_out}"
        )
    if not given:
        return
    original = _original_of(copy)
    # A file that is gone is not missed: the copy is what the run was made with.
    if Path(given) != copy and Path(given).exists() and original not in _digests_of(Path(given)):
        raise InputError(
            f"reservoir.matrices = {given}: the file has changed since {copy.parent} was begun with it, whose copy is "
            f"{copy.name}. Put it back, or: {way_out}"
        )


def _copy_matrices(config: Config, run: RunDirectory) -> None:
    need_torch()
    from rcdp_hpc.data.reading import ShardSet
    from rcdp_hpc.reservoir.cutting import Cut
    from rcdp_hpc.reservoir.files import read_matrices, write_run_copy
    from rcdp_hpc.reservoir.kept_steps import input_features

    reservoir = config.reservoir
    _, features = Cut.of(reservoir).shape(ShardSet(run.shards, verify=False).sample_shape)
    # Only what can be used is copied, so that the message names the user's own file.
    given = read_matrices(reservoir.matrices, reservoir.nodes, input_features(reservoir, features))
    write_run_copy(run.matrices, given, _sha256(Path(reservoir.matrices)))


def _original_of(copy: Path) -> str:
    """Return the SHA-256 of the file that the run's copy of matrices was made of; raise if the copy is damaged."""
    from rcdp_hpc.reservoir.files import original_of

    try:
        return original_of(copy)
    except DataDamagedError as error:
        raise DataDamagedError(
            f"{error} Put a copy back, or start search and train over with --restart and your own file."
        ) from None


def _digests_of(given: Path) -> tuple[str, ...]:
    """Return the SHA-256 of a file of matrices; of a run's copy also that of its original.

    A run directory that was copied still names the copy of the first one.
    """
    from rcdp_hpc.runtime.sealed_zip import has_seal

    return (_sha256(given), _original_of(given)) if has_seal(given) else (_sha256(given),)


def _sha256(path: Path) -> str:
    with os_errors_explained(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _with_defaults_of_data(config: Config, run: RunDirectory) -> Config:
    """Set the keys that wait for the kind of data, once there are shards, here and in config.toml."""
    if config.chosen is None:
        return config
    from rcdp_hpc.data.index import INDEX_NAME, facts_in, load_index

    if not (run.shards / INDEX_NAME).exists():
        return config
    facts = facts_in(load_index(run.shards))
    # Whether a stage accepts the settings of this command is not known yet: the file's own are completed.
    with suppress(InputError):
        run.write_config(with_kind_defaults(run.config(), facts))
    return with_kind_defaults(config, facts)


def _threads_of(config: Config, comm: Communicator) -> int:
    """Return the threads that most states will be computed with. Collective."""
    if config.has_search:
        return config.search.threads
    return config.training.threads or fair_share(comm)


def _with_kernel(config: Config, run: RunDirectory, threads: int) -> Config:
    """Choose the reservoir's kernel by measuring, where that is not done yet, and record the choice."""
    chosen = config.reservoir.kernel != "auto" and config.reservoir.batch_rows
    if config.training.extractor.kind not in ("none", "kernels") or config.reservoir.kind == "none" or chosen:
        return config
    if config.reservoir.kind == "diagonal":
        pinned = "dense-fp32" if config.reservoir.kernel == "auto" else str(config.reservoir.kernel)
        rows = config.reservoir.batch_rows or DIAGONAL_ROWS
        run.write_config(_pinned(run.config(), pinned, rows))
        return _pinned(config, pinned, rows)
    need_torch()
    from rcdp_hpc.data.reading import ShardSet
    from rcdp_hpc.reservoir.calibrate import choose_batch_rows, choose_kernel, default_cache
    from rcdp_hpc.reservoir.cutting import Cut
    from rcdp_hpc.reservoir.precision import ROWS, Rounding, furthest, measure_rounding

    reservoir, cache = config.reservoir, default_cache()
    shards = ShardSet(run.shards, verify=False)
    _, features = Cut.of(reservoir).shape(shards.sample_shape)
    kernel, rows = str(reservoir.kernel), reservoir.batch_rows
    if kernel == "auto":
        density = 1.0 if reservoir.weights == "orthogonal" else reservoir.density

        def rounding(name: str) -> Rounding:
            found = shards.read("train", 0, min(ROWS, shards.rows("train")))
            return measure_rounding(furthest(config), name, found.x, found.y, found.length)

        kernel = choose_kernel(
            reservoir.nodes, features, rows, threads, density=density, cache=cache, rounding=rounding
        )
    if not rows:
        rows = choose_batch_rows(reservoir.nodes, features, kernel, threads, cache=cache)
    # Only the choice is recorded now; whether the stage accepts the other settings is not known yet.
    run.write_config(_pinned(run.config(), kernel, rows))
    return _pinned(config, kernel, rows)


def _with_winner(config: Config, run: RunDirectory) -> Config:
    """Put the search's winner into the settings that training reads."""
    if not config.has_search:
        return config
    from rcdp_hpc.search.best import read_best, shown
    from rcdp_hpc.search.space import with_values

    if not run.best_candidate.exists():
        raise InputError(
            f"{run.best_candidate}: no search has been finished there. Run `rcdp prepare` and `rcdp search` first, or "
            "train with the configured reservoir: --set search.generations=0."
        )
    best = read_best(run.best_candidate)
    for line in packed("best candidate: ", [f"{name} = {shown(value)}" for name, value in best.items()]):
        log.info("%s", line)
    return with_values(config, best)


def _pinned(config: Config, kernel: str, rows: int) -> Config:
    pinned = {"kernel": kernel, "batch_rows": rows}
    return config.model_copy(update={"reservoir": config.reservoir.model_copy(update=pinned)})


def _recorded(config: Config, run: RunDirectory, stages: Sequence[str]) -> Config:
    """Return the configuration with the kernel and block chosen here before; write it down if there is none yet."""
    if not run.config_file.exists():
        if list(stages) != ["evaluate"]:
            run.write_config(config)
    else:
        run.keep_own_config()
        before, now = run.config().reservoir, config.reservoir
        kernel = before.kernel if now.kernel == "auto" else now.kernel
        config = _pinned(config, kernel, now.batch_rows or before.batch_rows)
    return config


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


def _put_aside(run: RunDirectory, stage: str) -> None:
    """Move earlier results of a stage out of the way: a restart loses nothing either."""
    folder = run.folder(stage)
    if folder.exists():
        with os_errors_explained(folder):
            aside = tempfile.mkdtemp(prefix=f"{folder.name}.before-", dir=run.path)
            folder.rename(Path(aside) / folder.name)
        log.info("put the earlier %s aside in %s", folder.name, aside)
    run.state_file(stage).unlink(missing_ok=True)
