"""Writing the report of a run, a cross-validation or a job array."""

from __future__ import annotations

import logging
from pathlib import Path

from rcdp_hpc.evaluation.report.parts_report import Parts, parts_page
from rcdp_hpc.evaluation.report.run_files import Problem, RunFiles
from rcdp_hpc.evaluation.report.run_report import run_page
from rcdp_hpc.runtime.files import write_text
from rcdp_hpc.runtime.rundir import RunDirectory

log = logging.getLogger(__name__)
NAME = "index.html"


def write_report(run: RunDirectory, to: Path | None = None) -> tuple[Path, list[Problem]]:
    """Write the report of a run, finished or not, as one HTML file.

    Parameters
    ----------
    run : RunDirectory
        A run, the folder of a cross-validation, or that of a job array. It is only read, apart from the report.
    to : Path, optional
        The file to write; default ``RUN/report/index.html``.

    Returns
    -------
    path : Path
        The file.
    problems : list of Problem
        Files that could not be read. The report names them.

    Raises
    ------
    StageFailedError, InputError
        If the file cannot be written.
    """
    path = run.report / NAME if to is None else to
    if run.folds() or run.tasks():
        parts = Parts.of(run, path)
        page, problems = parts_page(parts), parts.problems
    else:
        files = RunFiles(run)
        page, problems = run_page(files), files.problems
    write_text(path, page)
    return path, problems


def try_to_write_report(run: RunDirectory) -> None:
    """Write the report at the end of a run. If that fails, log the reason: the results themselves are complete."""
    try:
        path, problems = write_report(run)
    except Exception as error:
        log.warning(
            "the report of %s could not be written (%s: %s); rcdp report tries it again",
            run.path,
            type(error).__name__,
            error,
        )
        return
    for problem in problems:
        log.warning("the report is incomplete: %s", problem.message)
    log.info("wrote %s", path)
