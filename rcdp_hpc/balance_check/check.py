"""The check: rows, states, readouts, comparison, verdict."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rcdp_hpc.balance_check.conclusion import Readouts, concluded
from rcdp_hpc.balance_check.evaluation import Timer, evaluated_by_rows, evaluated_by_sums
from rcdp_hpc.balance_check.measures import refuse_undefined
from rcdp_hpc.balance_check.methods import load_methods
from rcdp_hpc.balance_check.methods.base import Method
from rcdp_hpc.balance_check.notes import data_record, notes_of, settings_record
from rcdp_hpc.balance_check.output import Record, write_record
from rcdp_hpc.balance_check.row_space import suits, total_rows
from rcdp_hpc.balance_check.rows import CheckRows, read_rows
from rcdp_hpc.balance_check.state_source import refuse_trained, state_source
from rcdp_hpc.config import Config, to_tree, with_kind_defaults
from rcdp_hpc.config.paths import absolute_path, with_absolute_paths
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline.same_settings import refuse_different_settings
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, run_on_root
from rcdp_hpc.runtime.comm.connect import communicator_of
from rcdp_hpc.runtime.device import device
from rcdp_hpc.runtime.threads import limit_threads, threads_per_rank

log = logging.getLogger(__name__)

DEFAULT_FOLDS = 5
DEFAULT_CRITERION = "balanced_accuracy"
FEW_ROWS = 2000


def balance_check(
    config: Config,
    out: str | Path,
    comm: Any = None,
    folds: int = DEFAULT_FOLDS,
    criterion: str = DEFAULT_CRITERION,
    names: Sequence[str] = (),
) -> Record:
    """Compare ways with uneven classes on the rows of a configuration, and write the result. Collective.

    Parameters
    ----------
    config : Config
    out : str or Path
        Folder of balance-check.json and balance-check.html.
    comm : Communicator or mpi4py.MPI.Intracomm, optional
        All ranks of the job. Default: this process alone.
    folds : int
        Two or more.
    criterion : str
        The measure that decides, and by which penalties and tau are chosen: a criterion of the confusion matrix
        (`rcdp_hpc.model.criteria`), or "worst_recall".
    names : sequence of str
        Methods to compare with "none"; default: all.

    Returns
    -------
    dict
        The content of balance-check.json, on every rank.

    Raises
    ------
    InputError
        If settings or data cannot be used, an extractor is trained by gradient, or memory does not suffice.
    """
    with communicator_of(comm) as ranks:
        refuse_different_settings(ranks, to_tree(config))
        agree(ranks, lambda: _refuse(config, folds))
        methods = load_methods(["none", *names] if names else ())
        return _checked(with_absolute_paths(config), absolute_path(out), ranks, folds, criterion, methods)


def _refuse(config: Config, folds: int) -> None:
    refuse_trained(config)
    if folds < 2:
        raise InputError(f"--folds {folds}: the check needs at least 2 folds.")


def _checked(
    config: Config, out: Path, comm: Communicator, folds: int, criterion: str, methods: Sequence[Method]
) -> Record:
    timer = Timer()
    with timer.part("rows"):
        rows = read_rows(config, folds, [one.balance for one in methods if one.balance != "none"], comm)
    config = agree(comm, lambda: _completed(config, rows, criterion))
    methods = [one for one in methods if one.balance not in rows.left_out]
    where = agree(comm, lambda: device(config.training.device))
    threads = config.training.threads or threads_per_rank(comm)
    if total_rows(rows) <= FEW_ROWS:
        threads = 1  # threads wait for one another longer than they compute
    with limit_threads(threads):
        source, config = state_source(config, rows, comm, where, threads)
        evaluated = evaluated_by_rows if suits(rows, source.width) else evaluated_by_sums
        found = evaluated(config, rows, source, comm, methods, criterion, timer)

    def conclude() -> Record:
        started = time.perf_counter()
        readouts = {
            name: Readouts.of(rows, one.scores, one.penalties)
            for name, one in found.by_method.items()
            if one.scores is not None
        }
        record = concluded(config, rows, methods, readouts, criterion)
        settings = settings_record(config, rows, criterion, threads, where, source.width, found.sums_by_class)
        record |= {
            "data": data_record(rows),
            "settings": settings,
            "notes": notes_of(config, rows, found.sums_by_class),
        }
        timer.seconds["comparison"] = time.perf_counter() - started
        record["timing"] = {**timer.seconds, "ranks": comm.size}
        for path in write_record(record, out):
            log.info("wrote %s", path)
        return record

    return run_on_root(comm, conclude)


def _completed(config: Config, rows: CheckRows, criterion: str) -> Config:
    """Return the configuration with the defaults of the data; refuse what does not fit them."""
    refuse_undefined(criterion, rows.labels, rows.classes)
    config = with_kind_defaults(config, rows.facts)
    refuse_trained(config)
    return config
