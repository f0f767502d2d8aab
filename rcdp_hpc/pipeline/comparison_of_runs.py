"""Comparison of the test predictions of two runs, for ``rcdp evaluate --against``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from rcdp_hpc.evaluation.compared import compare_with_run, compared_lines, evaluated
from rcdp_hpc.evaluation.report.write import try_to_write_report
from rcdp_hpc.pipeline.stages import held
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import run_on_root
from rcdp_hpc.runtime.rundir import RunDirectory

log = logging.getLogger(__name__)


def check_evaluated(path: Path, comm: Communicator) -> None:
    """Raise an `InputError` on all ranks unless a run has predictions of its test. Collective."""
    run_on_root(comm, lambda: evaluated(RunDirectory(path)))


def compare_runs(path: Path, against: Path, comm: Communicator) -> dict[str, Any]:
    """Compare the test predictions of two evaluated runs; record it in summary and report of the first. Collective.

    Parameters
    ----------
    path, against : Path
        Run directories.
    comm : Communicator

    Returns
    -------
    dict
        As `rcdp_hpc.evaluation.compared.compare_with_run` returns it, and with the errors that it raises.
    """
    run = RunDirectory(path)

    def compare() -> dict[str, Any]:
        record = compare_with_run(run, RunDirectory(against), run.config().run.seed)
        for line in compared_lines(record):
            log.info("%s", line)
        try_to_write_report(run)
        return record

    with held(run, comm):
        return run_on_root(comm, compare)
