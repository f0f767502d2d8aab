"""k-fold cross-validation: a whole run for each fold, the folds dealt over groups of ranks.

Each fold has a run directory of its own (``RUN/fold-1``, ...), in which its part of the data is held out as the test.
A fold runs as `pipeline.stages` runs in any run directory: it is stopped, resumed and inspected like one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rcdp_hpc.config import STAGES, Config
from rcdp_hpc.config.paths import absolute_path, with_absolute_paths
from rcdp_hpc.errors import InputError, RcdpError, StoppedError
from rcdp_hpc.pipeline.requirements import require_torch
from rcdp_hpc.pipeline.stages import alone, run_stages
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed, run_on_root
from rcdp_hpc.runtime.leftovers import remove_leftovers, temporary_files
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import gather_placement

log = logging.getLogger(__name__)

# The fold, the kind of its error and its message.
Failure = tuple[int, type[RcdpError], str]


def crossvalidate(
    config: Config,
    out: str | Path,
    comm: Communicator | None = None,
    fold: int = 0,
    restart: bool = False,
    allow_code: bool = False,
) -> dict[str, Any] | None:
    """Run all stages for each fold, with that fold held out as the test, and put the results together.

    R ranks form min(R, folds) groups that work side by side; under horovodrun with Gloo, where ranks cannot be grouped,
    one fold follows another on all ranks. A step is made of ``training.batch`` samples whatever the size of a group
    (unless ``training.global_batch`` says otherwise), so that any number of ranks gives the same results to rounding.

    Parameters
    ----------
    config : Config
        With ``data.folds`` of 2 or more.
    out : str or Path
        Where the folds' run directories and the summary lie.
    comm : Communicator, optional
        All ranks of the job; default: this process alone.
    fold : int
        Run this fold alone, from 1, on all ranks: for arrays of jobs. 0 runs all.
    restart : bool
        Put aside what was done before and start over.
    allow_code : bool
        As of `rcdp_hpc.pipeline.stages.run_stages`.

    Returns
    -------
    dict or None
        As ``RUN/report/summary.json``; None while other folds are missing.

    Raises
    ------
    RcdpError
        That of the lowest fold that failed; folds of other groups have then been run to their end. Where folds were
        only stopped, a `StoppedError`.
    """
    comm, run = comm or alone(), RunDirectory(absolute_path(out))
    config = with_absolute_paths(config)
    agree(comm, lambda: _check(config, fold))
    run_on_root(comm, lambda: _begin(config, run))
    folds = [fold] if fold else list(range(1, config.data.folds + 1))
    group, own = _dealt(comm, folds)
    failure = _run_folds(config, run, group, own, restart, allow_code)
    comm.wait_for_all()
    if group is not comm:
        group.close()
    _raise_first([one for one in comm.allgather(failure) if one is not None])
    return run_on_root(comm, lambda: _finish(config, run))


def _check(config: Config, fold: int) -> None:
    require_torch()
    folds = config.data.folds
    if folds < 2:
        raise InputError(f"data.folds = {folds}: cross-validation needs 2 or more, as in --folds 5.")
    if not 0 <= fold <= folds:
        raise InputError(f"--fold {fold}: the folds count from 1 to {folds} (data.folds).")


def _begin(config: Config, run: RunDirectory) -> None:
    if run.shards.exists():
        raise InputError(f"{run.path}: holds a run of its own; choose another --out for a cross-validation.")
    remove_leftovers(temporary_files((run.path, run.report, run.jobs)))
    run.preserve_user_config()
    if not run.config_file.exists():
        run.write_config(config)


def _dealt(comm: Communicator, folds: Sequence[int]) -> tuple[Communicator, Sequence[int]]:
    """Return this rank's group and the folds that the group takes, one after another."""
    groups = min(comm.size, len(folds)) if comm.can_split else 1
    if groups == 1:
        return comm, folds
    number = comm.rank * groups // comm.size
    places = gather_placement(comm)
    group = comm.split(number)
    group.job_placement = places
    log.info("%d folds on %d groups of ranks side by side; this log is the first group's", len(folds), groups)
    return group, folds[number::groups]


def _run_folds(
    config: Config, run: RunDirectory, group: Communicator, folds: Sequence[int], restart: bool, allow_code: bool
) -> Failure | None:
    """Run a group's folds; return what ended them early, where all its ranks know of it."""
    for fold in folds:
        log.info("== fold %d of %d ==", fold, config.data.folds)
        try:
            run_stages(STAGES, config_of_fold(config, fold), run.fold(fold).path, group, restart, allow_code)
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
    """Raise the lowest fold's error; a fold that was merely stopped comes behind those that failed."""
    if failures:
        fold, kind, message = min(failures, key=lambda one: (issubclass(one[1], StoppedError), one[0]))
        raise agreed(kind(f"fold {fold}: {message}"))


def _finish(config: Config, run: RunDirectory) -> dict[str, Any] | None:
    """Put the folds' results together, once all are there."""
    from rcdp_hpc.evaluation.crossvalidation import folds_done, summarise, table

    run.write_config(config)
    done = folds_done(run, config.data.folds)
    if len(done) < config.data.folds:
        log.info("%d of %d folds are done", len(done), config.data.folds)
        return None
    summary = summarise(run, config)
    for line in table(summary):
        log.info("%s", line)
    return summary
