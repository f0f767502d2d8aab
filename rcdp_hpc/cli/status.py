"""The report of ``rcdp status`` about a run directory or a folder of runs, read without the lock."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rcdp_hpc.cli.comparison_status import comparison_lines
from rcdp_hpc.cli.hints import predict_command
from rcdp_hpc.cli.progress import stage_progress
from rcdp_hpc.cli.runs import duration, find_runs, is_run, result_text, run_lines
from rcdp_hpc.cluster.queue import describe_jobs
from rcdp_hpc.config import STAGES, Config
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.runtime.digests import read_sealed
from rcdp_hpc.runtime.lock_file import current_holder, read_lock
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.stage_record import edited_settings
from rcdp_hpc.runtime.text import join_lines, shell_word


def describe(path: Path) -> str:
    """Return the status of a run directory, or a line for each run in a folder of runs.

    Raises
    ------
    InputError
        If there are no runs.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: a file; rcdp status needs a run directory, or a folder of run directories.")
    if not path.is_dir():
        raise InputError(f"{path}: no such run directory.")
    if is_run(path):
        return describe_run(RunDirectory(path))
    runs = find_runs(path)
    if not runs:
        raise InputError(
            f"{path}: not a run directory, and contains none. rcdp run CONFIG --out {path} starts a run there."
        )
    return join_lines(run_lines(path, runs))


def describe_run(run: RunDirectory) -> str:
    """Return results or progress of each stage, the running job, and the next command.

    Raises
    ------
    InputError
        If there is no run directory.
    """
    if not run.path.is_dir():
        raise InputError(f"{run.path}: no such run directory.")
    if run.plan.exists():
        return join_lines([f"comparison {run.path}", *comparison_lines(run)])
    folds = run.folds()
    if folds:
        return join_lines([f"run directory {run.path}", *_fold_lines(run, folds)])
    holder = current_holder(run.lock)
    lines = [f"run directory {run.path}", _lock_line(run)]
    states = {stage: run.state(stage) for stage in _stages(run)}
    tasks = run.tasks()
    for stage, state in states.items():
        if state or not tasks:
            lines.append(f"  {stage:<9} {_stage_line(run, stage, state, bool(holder))}")
    lines += _config_lines(run, any(states.values()))
    jobs, alive = describe_jobs(run)
    if jobs:
        lines += ["jobs", *jobs]
    lines += [f"  {task.path.name}: {_task_line(task)}" for task in tasks]
    if tasks and not alive and all(task.state("evaluate").get("status") == "done" for task in tasks):
        lines.append(f"next: rcdp report {_quoted(run.path)}   (of {_quoted(run.path)}/*/report/summary.json)")
        return join_lines(lines)
    statuses = {stage: str(state.get("status", "")) for stage, state in states.items()}
    lines.append(_next_line(run, statuses, bool(holder), alive))
    return join_lines(lines)


def _stages(run: RunDirectory) -> list[str]:
    """Return the stages of a run; all stages if it has no configuration yet."""
    searches = not run.config_file.exists() or run.config().has_search
    return [stage for stage in STAGES if stage != "search" or searches]


def _config_lines(run: RunDirectory, started: bool) -> list[str]:
    """Return lines about a missing or edited configuration of a started run."""
    if run.config_file.exists():
        return [f"  config.toml {line}" for line in edited_settings(run)]
    missing = "  config.toml is missing: name the configuration again, as in rcdp train CONFIG --out"
    return [f"{missing} {_quoted(run.path)}"] if started else []


def _fold_lines(run: RunDirectory, folds: list[RunDirectory]) -> list[str]:
    """Return lines about each fold of a cross-validation, the mean results, and the next command."""
    jobs, alive = describe_jobs(run)
    lines = [f"  {one.path.name}: {_task_line(one)}" for one in folds]
    lines += ["jobs", *jobs] if jobs else []
    summary = run.report / "summary.json"
    done = sum(one.state("evaluate").get("status") == "done" for one in folds)
    # The first task of a job array may not have written the configuration yet.
    if run.config_file.exists() and done == run.config().data.folds and summary.exists():
        lines.append(f"mean of {len(folds)} folds: {_mean_text(run, summary)}")
        return [*lines, f"next: see {_report_of(run)}, or one fold: rcdp status {_quoted(folds[0].path)}"]
    if alive or any(map(_is_held, folds)):
        return [*lines, f"next: wait, or follow {_quoted(folds[0].log)} and the logs of the other folds"]
    if run.submitted.exists():
        return [*lines, _submit_again(run) if alive is not None else _ask_again(run)]
    return [*lines, f"next: rcdp crossvalidate --out {_quoted(run.path)}   (on several ranks: mpirun -n 2 rcdp ...)"]


def _mean_text(run: RunDirectory, summary: Path) -> str:
    remedy = f"Write it again with rcdp crossvalidate --out {_quoted(run.path)}"
    content = read_sealed(summary, remedy)
    try:
        mean, deviation = content["mean"], content["deviation"]
        return (
            f"accuracy {100 * mean['accuracy']:.2f} % (standard deviation {100 * deviation['accuracy']:.2f}), "
            f"macro F1 {mean['macro_f1']:.4f} ({deviation['macro_f1']:.4f})"
        )
    except (KeyError, TypeError):
        raise DataDamagedError(f"{summary}: not the summary of a cross-validation. {remedy}") from None


def _stage_line(run: RunDirectory, stage: str, state: dict[str, Any], held: bool) -> str:
    status = state.get("status")
    if not status:
        return "not started"
    if status == "done":
        ranks = f" on {state['ranks']} ranks" if state.get("ranks", 1) > 1 else ""
        result = result_text(stage, state.get("result"))
        return f"done in {duration(state.get('seconds', 0.0))}{ranks}{result}{_attempt(state)}"
    if status == "running":
        progress = stage_progress(run, stage)
        if held:
            age = time.time() - float(state["updated"])
            return f"running for {duration(age)}" + (f": {progress.with_time}" if progress else "")
        done = f" ({progress.words})" if progress else ""
        return f"was killed{done}; start it again to continue from the last checkpoint"
    if status == "stopped":
        return f"stopped with a checkpoint: {state.get('reason', '')}{_attempt(state)}"
    return f"{status}: {state['reason']}" if state.get("reason") else str(status)


def _attempt(state: dict[str, Any]) -> str:
    """Return the outcome of a later start that did not change the stage; empty if there was none."""
    attempt = state.get("attempt")
    if not isinstance(attempt, dict):
        return ""
    return f"; a later start {attempt.get('status')}: {str(attempt.get('reason')).partition('. ')[0]}"


def _task_line(run: RunDirectory) -> str:
    """Return the status of a task of a job array, or of a fold, in one line."""
    stages = _stages(run)
    following = next((stage for stage in stages if run.state(stage).get("status") != "done"), None)
    if following is None:
        return f"done{result_text(stages[-1], run.state(stages[-1]).get('result'))}"
    return f"{following} {_stage_line(run, following, run.state(following), _is_held(run))}"


def _is_held(run: RunDirectory) -> bool:
    """Return whether a job uses the run directory."""
    return current_holder(run.lock) is not None


def _lock_line(run: RunDirectory) -> str:
    """Return whether a job uses the run directory, and what is wrong with its lock, if anything."""
    lock = read_lock(run.lock)
    if lock is None:
        return "no job is running here"
    if not lock.is_file:
        return f"no job can start here: {run.lock}: {lock.problem}; move it away"
    ahead = lock.changed - time.time()
    if current_holder(run.lock) is None:
        if lock.holder and lock.holder.life() == "gone":
            return f"no job is running here (stale lock: its holder {lock} no longer exists)"
        return f"no job seems to run here (stale lock: its holder {lock} was last active {duration(-ahead)} ago)"
    doubt = f"; its last heartbeat is {duration(ahead)} in the future: the clocks differ" if ahead > 60 else ""
    return f"in use by {lock}{doubt}"


def _next_line(run: RunDirectory, statuses: dict[str, str], held: bool, queued: bool | None) -> str:
    if held:
        return f"next: wait, or follow {_quoted(run.log)}"
    if queued:
        return f"next: wait for the jobs (squeue --me), or follow {_quoted(run.path / 'logs')}"
    if run.submitted.exists() and any(status != "done" for status in statuses.values()):
        return _submit_again(run) if queued is not None else _ask_again(run)
    for stage, status in statuses.items():
        if status != "done":
            command = f"rcdp {stage} --out {_quoted(run.path)}"
            return f"next: {command}   (on several ranks: mpirun -n 2 {command})"
    config = run.config() if run.config_file.exists() else Config()
    return f"next: see {_report_of(run)}, or label new samples: {predict_command(run.path, config)}"


def _report_of(run: RunDirectory) -> str:
    """Return the report of a run, quoted; the summary of a run without a report."""
    page = run.report / "index.html"
    return _quoted(page if page.exists() else run.report / "summary.json")


def _ask_again(run: RunDirectory) -> str:
    return (
        f"next: on a login node where Slurm responds: rcdp status {_quoted(run.path)}   "
        "(do not submit before: the jobs may still run)"
    )


def _submit_again(run: RunDirectory) -> str:
    again = "submit again as before"
    if run.submission.exists():
        before = read_sealed(run.submission, "Submit again as before, which replaces the file.")
        again = f"continue with: cd {_quoted(before['folder'])} && {' '.join(map(shell_word, before['words']))}"
    return f"next: fix the errors in {_quoted(run.path / 'logs')}, then {again}"


def _quoted(path: Path | str) -> str:
    """Return a path quoted for the shell."""
    return shell_word(path)
