"""Submitting the jobs of a configuration: write the scripts, show them, hand them to Slurm."""

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
        Its script.
    options : list of str
        Further options of sbatch, which win over the lines in the script.
    extra : tuple of str
        Those of them that the command line gave.
    """

    stage: Stage
    text: str
    options: list[str]
    extra: tuple[str, ...] = ()

    def command(self, run: RunDirectory, after: str = "") -> list[str]:
        """Return sbatch's arguments; `after` is the number of the job that must end well before."""
        waiting = [f"--dependency=afterok:{after}", "--kill-on-invalid-dep=yes"] if after else []
        output = f"--output={log_pattern(run.path, self.stage)}"
        return [output, *self.options, *waiting, str(run.job_script(self.stage))]


def plan_jobs(
    config: Config, run: RunDirectory, site: Path = DEFAULT_SITE, *, one_job: bool = False, array: Array | None = None,
    extra: Sequence[str] = (),
) -> list[Job]:  # fmt: skip
    """Return the jobs of a configuration in their order, each to start when the one before it ended well.

    Parameters
    ----------
    config : Config
    run : RunDirectory
        With an absolute path.
    site : Path
        The site file.
    one_job : bool
        All stages in one job, instead of a chain.
    array : Array, optional
        Tasks to run over the shards that `config` prepares, or the folds of its cross-validation.
    extra : sequence of str
        Options of sbatch for all jobs.

    Raises
    ------
    InputError
        If the site file cannot be read, or the run directory's name cannot be used.
    """
    check_name(run.path)
    stages: list[Stage] = ["prepare", "search", "train"]
    if array:
        stages = [array.stage] if array.stage == "folds" else ["prepare", array.stage]
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


def show(jobs: Sequence[Job], run: RunDirectory) -> str:
    """Return the scripts and the commands that submit them, for people."""
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
    """Write the jobs' files into the run directory, those of an array's `tasks` too, and submit them.

    `words` are the command that asks for it; `rcdp status` names it where the jobs must be submitted again.

    Raises
    ------
    RcdpError
        If a file cannot be written or Slurm refuses a job: the error says which and what to change. The jobs submitted
        before it are then cancelled and listed.
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
        lines = [f"Slurm refused the job {job.stage}: {error}", "Change what does not fit:"]
        hint = "`rcdp plan` prints lines that fit into the nodes here."
        raise multiline_error(StageFailedError, [*lines, *(f"  {change}" for change in changes), hint]) from None


def _with_jobs(error: RcdpError, submitted: Sequence[Submission]) -> RcdpError:
    """Cancel the jobs that no other will follow, and return the error with what became of them."""
    if not submitted:
        return error
    names = ", ".join(f"{one.stage} (job {one.job})" for one in submitted)
    numbers = [one.job for one in submitted]
    try:
        scancel(numbers)
        became = f"Submitted before it and cancelled: {names}."
    except RcdpError as other:
        became = f"Submitted before it and still in the queue: {names}. {other}. Cancel: scancel {' '.join(numbers)}"
    return multiline_error(type(error), [*(str(error).splitlines() if error.lines else [str(error)]), became])


def follow_up_text(run: RunDirectory, submitted: Sequence[Submission]) -> str:
    """Return what to type to see how the jobs do; of an array, its first task."""
    names = (f"{one.stage}-{one.job}{'_1' if one.stage in ARRAYS else ''}.log" for one in submitted)
    logs = " ".join(shell_word(run.path / "logs" / name) for name in names)
    return f"follow with: squeue --me; rcdp status {shell_word(run.path)}; tail -F {logs}"


def _write(jobs: Sequence[Job], config: Config, run: RunDirectory, site: Path) -> None:
    """Write what the jobs read: later changes to the user's own files do not reach a job in the queue."""
    with os_errors_explained(run.path):
        (run.path / "logs").mkdir(parents=True, exist_ok=True)
    remove_leftovers(temporary_files((run.jobs, run.jobs / "configs")))
    # A job that starts meanwhile reads the earlier copy or this one; and the user's site file may be the copy itself.
    for name, source in (("job.sh", SHARED), ("site.sh", site)):
        with open(source, "rb") as file:
            write_atomic(run.jobs / name, partial(shutil.copyfileobj, file))
    write_text(run.jobs / "config.toml", commented_toml(config))
    for job in jobs:
        write_text(run.job_script(job.stage), job.text)
