"""``rcdp submit``: write the job scripts of a configuration, show them, and submit them to Slurm."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rcdp_hpc.cluster.array import Array
from rcdp_hpc.cluster.refusals import lines_to_change
from rcdp_hpc.cluster.scripts import (
    ARRAYS,
    DEFAULT_SITE,
    SHARED,
    Stage,
    check_name,
    log_pattern,
    script_text,
    site_options,
)
from rcdp_hpc.cluster.slurm import Submission, record_submission, sbatch, scancel
from rcdp_hpc.config import Config, commented_toml
from rcdp_hpc.errors import RcdpError, StageFailedError
from rcdp_hpc.runtime.digests import write_sealed
from rcdp_hpc.runtime.files import os_errors_explained, write_atomic, write_text
from rcdp_hpc.runtime.leftovers import remove_leftovers, temporary_files
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.text import multiline_error, plain_line, shell_word


@dataclass(frozen=True)
class Job:
    """A job to submit.

    Attributes
    ----------
    stage : str
    text : str
        The job script.
    options : list of str
        Further options of sbatch, which override the lines in the script.
    extra : tuple of str
        The part of `options` that comes from the command line.
    """

    stage: Stage
    text: str
    options: list[str]
    extra: tuple[str, ...] = ()

    def command(self, run: RunDirectory, after: str = "") -> list[str]:
        """Return the arguments of sbatch; `after` is the number of a job that must succeed first."""
        dependency = [f"--dependency=afterok:{after}", "--kill-on-invalid-dep=yes"] if after else []
        output = f"--output={log_pattern(run.path, self.stage)}"
        return [output, *self.options, *dependency, str(run.job_script(self.stage))]


def plan_jobs(
    config: Config, run: RunDirectory, site: Path = DEFAULT_SITE, *, one_job: bool = False, array: Array | None = None,
    extra: Sequence[str] = (),
) -> list[Job]:  # fmt: skip
    """Return the jobs of a configuration in their order; each starts when the previous one has succeeded.

    Parameters
    ----------
    config : Config
    run : RunDirectory
        A run directory with an absolute path.
    site : Path
        The site file.
    one_job : bool
        Put all stages in one job instead of a chain of jobs.
    array : Array, optional
        Tasks that share the shards of `config`, the folds of its cross-validation or the cells of its comparison.
    extra : sequence of str
        Options of sbatch for all jobs.

    Raises
    ------
    InputError
        If the site file cannot be read, or the name of the run directory cannot be passed to Slurm.
    """
    check_name(run.path)
    stages: list[Stage] = ["prepare", "search", "train"]
    if array:
        before: dict[str, list[Stage]] = {"folds": [], "cells": ["data"]}
        stages = [*before.get(array.stage, ["prepare"]), array.stage]
    elif one_job:
        stages = ["all"]
    elif not config.has_search:
        stages.remove("search")
    jobs = []
    for stage in stages:
        tasks = array.names if array and stage == array.stage else ()
        numbers = [f"--array=1-{len(tasks)}"] if tasks else []
        text = script_text(stage, config, run.path, Path(sys.prefix), tasks)
        jobs.append(Job(stage, text, [*site_options(site, stage), *numbers, *extra], tuple(extra)))
    return jobs


def format_jobs(jobs: Sequence[Job], run: RunDirectory) -> str:
    """Return the job scripts and the commands that submit them, as a text."""
    parts = []
    for number, job in enumerate(jobs):
        after = "JOB" if number else ""
        command = " ".join(map(shell_word, ["sbatch", *job.command(run, after)]))
        parts.append(f"# {plain_line(run.job_script(job.stage))}\n{job.text}\n{command}\n")
    return "\n".join(parts)


def submit_jobs(
    jobs: Sequence[Job], config: Config, run: RunDirectory, site: Path = DEFAULT_SITE, tasks: Sequence[Config] = (),
    words: Sequence[str] = (),
) -> list[Submission]:  # fmt: skip
    """Write the files of the jobs to the run directory and submit the jobs.

    Parameters
    ----------
    jobs : sequence of Job
    config : Config
    run : RunDirectory
    site : Path
        The site file.
    tasks : sequence of Config
        Configurations of the tasks of an array.
    words : sequence of str
        The command line, which `rcdp status` shows if the jobs must be submitted again.

    Raises
    ------
    RcdpError
        If a file cannot be written or Slurm refuses a job. The message names the job and what to change. The jobs
        submitted before it are cancelled and listed.
    """
    _write(jobs, config, run, site)
    for at, task in enumerate(tasks, 1):
        write_text(run.jobs / "configs" / f"{at}.toml", commented_toml(task))
    if words:
        write_sealed(run.submission, {"folder": str(Path.cwd()), "words": list(words)})
    submitted: list[Submission] = []
    try:
        for job in jobs:
            number = _submit(job, run, site, submitted)
            submitted.append(Submission(job.stage, number))
            record_submission(run.submitted, submitted[-1])
    except RcdpError as error:
        raise _with_jobs(error, submitted) from None
    return submitted


def _submit(job: Job, run: RunDirectory, site: Path, submitted: Sequence[Submission]) -> str:
    """Submit a job and return its number."""
    try:
        return sbatch(job.command(run, submitted[-1].job if submitted else ""))
    except StageFailedError as error:
        changes = lines_to_change(str(error), job.stage, job.text, site, job.extra)
        lines = [f"Slurm refused the job {job.stage}: {error}", "Change the option that does not fit:"]
        hint = "`rcdp plan` prints options that fit on the nodes here."
        raise multiline_error(StageFailedError, [*lines, *(f"  {change}" for change in changes), hint]) from None


def _with_jobs(error: RcdpError, submitted: Sequence[Submission]) -> RcdpError:
    """Cancel the jobs submitted before an error, and return the error with their state added."""
    if not submitted:
        return error
    names = ", ".join(f"{one.stage} (job {one.job})" for one in submitted)
    numbers = [one.job for one in submitted]
    try:
        scancel(numbers)
        state = f"Submitted before it and cancelled: {names}."
    except RcdpError as other:
        state = f"Submitted before it and still in the queue: {names}. {other}. Cancel: scancel {' '.join(numbers)}"
    return multiline_error(type(error), [*(str(error).splitlines() if error.lines else [str(error)]), state])


def follow_up_text(run: RunDirectory, submitted: Sequence[Submission]) -> str:
    """Return the commands that show the progress of the jobs; of an array, the log of its first task."""
    names = (f"{one.stage}-{one.job}{'_1' if one.stage in ARRAYS else ''}.log" for one in submitted)
    logs = " ".join(shell_word(run.path / "logs" / name) for name in names)
    return f"follow with: squeue --me; rcdp status {shell_word(run.path)}; tail -F {logs}"


def _write(jobs: Sequence[Job], config: Config, run: RunDirectory, site: Path) -> None:
    """Write the files that the jobs read: later changes to the user's files do not affect queued jobs."""
    with os_errors_explained(run.path):
        (run.path / "logs").mkdir(parents=True, exist_ok=True)
    remove_leftovers(temporary_files((run.jobs, run.jobs / "configs")))
    # Atomic, because a job may start meanwhile, and the user's site file may be the copy itself.
    for name, source in (("job.sh", SHARED), ("site.sh", site)):
        with open(source, "rb") as file:
            write_atomic(run.jobs / name, partial(shutil.copyfileobj, file))
    write_text(run.jobs / "config.toml", commented_toml(config))
    for job in jobs:
        write_text(run.job_script(job.stage), job.text)
