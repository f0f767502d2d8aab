"""k-fold cross-validation: one complete run for each fold, the folds distributed over groups of ranks.

Each fold has its own run directory (``RUN/fold-1``, ...), in which that fold is the test split. A fold can be stopped,
resumed and inspected like any other run.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from rcdp_hpc.config import STAGES, Config, to_tree
from rcdp_hpc.config.paths import absolute_path, with_absolute_paths
from rcdp_hpc.errors import InputError, RcdpError, StoppedError
from rcdp_hpc.pipeline.array_data import LabelledArrays, Settings, arrays_of_root, with_data
from rcdp_hpc.pipeline.requirements import require_torch
from rcdp_hpc.pipeline.results import CrossValidationResult
from rcdp_hpc.pipeline.same_settings import refuse_different_settings
from rcdp_hpc.pipeline.stages import StageOptions, run_with_options
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed, run_on_root
from rcdp_hpc.runtime.comm.connect import communicator_of
from rcdp_hpc.runtime.leftovers import remove_leftovers, temporary_files
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import gather_placement

log = logging.getLogger(__name__)

# Number of the fold, type and message of its error.
Failure = tuple[int, type[RcdpError], str]


def crossvalidate(
    config: Settings,
    out: str | Path,
    comm: Any = None,
    fold: int = 0,
    restart: bool = False,
    allow_code: bool = False,
    *,
    data: Any = None,
    progress: bool = False,
) -> CrossValidationResult | None:
    """Run all stages for each fold, with that fold as the test split, and summarise the results.

    R ranks form min(R, folds) groups that run at the same time. Under horovodrun with Gloo, ranks cannot be grouped:
    the folds run one after another on all ranks. Unless ``training.global_batch`` is set, a step has ``training.batch``
    samples for any size of a group, so that any number of ranks gives the same results up to rounding.

    Parameters
    ----------
    config : Config, mapping, str or Path
        As in `rcdp_hpc.run`, with ``data.folds`` of 2 or more.
    out : str or Path
        Folder of the folds' run directories and of the summary.
    comm : Communicator or mpi4py.MPI.Intracomm, optional
        All ranks of the job, ``rcdp_hpc.connect()``. Default: this process alone.
    fold : int
        Run only this fold, counted from 1, on all ranks: for job arrays. 0 runs all folds.
    restart : bool
        Put earlier results aside and start again.
    allow_code : bool
        As in `rcdp_hpc.pipeline.stages.run_stages`.
    data : tuple (x, y) or mapping, optional
        As in `rcdp_hpc.run`. Only rank 0 needs them; the first rank of each group gets a copy.
    progress : bool
        As in `rcdp_hpc.run`.

    Returns
    -------
    CrossValidationResult or None
        The content of ``RUN/report/summary.json``; None if other folds are not finished.

    Raises
    ------
    RcdpError
        The error of the failed fold with the lowest number, after the other groups finished. If folds were only
        stopped, a `StoppedError`.
    """
    with communicator_of(comm) as ranks:
        config, arrays = with_data(config, out, data, None, ranks)
        refuse_different_settings(ranks, to_tree(config))
        options = StageOptions(restart, allow_code, arrays=arrays, progress=progress)
        summary = _all_folds(with_absolute_paths(config), RunDirectory(absolute_path(out)), ranks, fold, options)
    return cast(CrossValidationResult | None, summary)


def _all_folds(
    config: Config, run: RunDirectory, comm: Communicator, fold: int, options: StageOptions
) -> dict[str, Any] | None:
    agree(comm, lambda: _check(config, fold))
    run_on_root(comm, lambda: _begin(config, run))
    folds = [fold] if fold else list(range(1, config.data.folds + 1))
    group, group_folds = _assign(comm, folds)
    options = replace(options, arrays=_on_first_ranks(comm, group, options.arrays))
    failure = _run_folds(config, run, group, group_folds, options)
    comm.wait_for_all()
    if group is not comm:
        group.close()
    _raise_first([other for other in comm.allgather(failure) if other is not None])
    return run_on_root(comm, lambda: _finish(config, run))


def _check(config: Config, fold: int) -> None:
    require_torch()
    folds = config.data.folds
    if folds < 2:
        raise InputError(f"data.folds = {folds}: cross-validation needs at least 2 folds, as in --folds 5.")
    if not 0 <= fold <= folds:
        raise InputError(f"--fold {fold}: must be between 1 and data.folds ({folds}).")


def _begin(config: Config, run: RunDirectory) -> None:
    run.refuse_comparison()
    if run.shards.exists():
        raise InputError(f"{run.path}: is the directory of a single run; choose another --out for a cross-validation.")
    remove_leftovers(temporary_files((run.path, run.report, run.jobs)))
    run.preserve_user_config()
    if not run.config_file.exists():
        run.write_config(config)


def _assign(comm: Communicator, folds: Sequence[int]) -> tuple[Communicator, Sequence[int]]:
    """Return this rank's group of ranks, and the folds that the group runs one after another."""
    groups = min(comm.size, len(folds)) if comm.can_split else 1
    if groups == 1:
        return comm, folds
    number = comm.rank * groups // comm.size
    places = gather_placement(comm)
    group = comm.split(number)
    group.job_placement = places
    log.info("%d folds on %d groups of ranks at the same time; this is the log of the first group", len(folds), groups)
    return group, folds[number::groups]


def _on_first_ranks(comm: Communicator, group: Communicator, arrays: LabelledArrays | None) -> LabelledArrays | None:
    """Return the arrays of rank 0 on the first rank of each group, which prepares the group's folds. Collective."""
    if group is comm or not comm.broadcast(arrays is not None):
        return arrays
    first = comm.split(0 if group.is_root else 1)
    try:
        return arrays_of_root(first, arrays) if group.is_root else None
    finally:
        first.close()


def _run_folds(
    config: Config, run: RunDirectory, group: Communicator, folds: Sequence[int], options: StageOptions
) -> Failure | None:
    """Run the folds of a group; return the first failure, if all ranks of the group know of it."""
    for fold in folds:
        log.info("== fold %d of %d ==", fold, config.data.folds)
        try:
            run_with_options(STAGES, config_of_fold(config, fold), run.fold(fold).path, group, options)
        except RcdpError as error:
            if not error.agreed and group.size > 1:
                raise
            return fold, type(error), str(error)
    return None


def config_of_fold(config: Config, fold: int) -> Config:
    """Return the settings of one fold's run."""
    data = config.data.model_copy(update={"fold": fold})
    batch = config.training.global_batch or config.training.batch
    return config.model_copy(
        update={"data": data, "training": config.training.model_copy(update={"global_batch": batch})}
    )


def _raise_first(failures: Sequence[Failure]) -> None:
    """Raise the error of the lowest failed fold, or, if none failed, of the lowest stopped fold."""
    if failures:
        fold, kind, message = min(failures, key=lambda failure: (issubclass(failure[1], StoppedError), failure[0]))
        raise agreed(kind(f"fold {fold}: {message}"))


def _finish(config: Config, run: RunDirectory) -> dict[str, Any] | None:
    """Write and log the summary; return None if folds are not finished."""
    from rcdp_hpc.evaluation.crossvalidation import folds_done, summarise, table
    from rcdp_hpc.evaluation.report.write import try_to_write_report

    run.write_config(config)
    done = folds_done(run, config.data.folds)
    if len(done) < config.data.folds:
        log.info("%d of %d folds are finished", len(done), config.data.folds)
        return None
    summary = summarise(run, config)
    for line in table(summary):
        log.info("%s", line)
    try_to_write_report(run)
    return summary
