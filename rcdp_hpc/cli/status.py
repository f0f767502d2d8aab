"""What a run directory says about itself; reads without the lock."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from rcdp_hpc.cli.progress import headway
from rcdp_hpc.cluster.queue import describe_jobs
from rcdp_hpc.config import STAGES
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.files import read_json
from rcdp_hpc.runtime.lock import describe, holder_is_gone, read_lock
from rcdp_hpc.runtime.rundir import RunDirectory


def describe_run(run: RunDirectory) -> str:
    """Return what each stage has done, who works here, and what to type next.

    Raises
    ------
    InputError
        If there is no run directory.
    """
    if not run.path.is_dir():
        raise InputError(f"{run.path}: no such run directory.")
    folds = run.folds()
    if folds:
        return "\n".join([f"run directory {run.path}", *_fold_lines(run, folds)])
    holder = read_lock(run.lock)
    if holder and holder_is_gone(run.lock):
        lines = [f"run directory {run.path}", f"in use by nobody: {describe(holder)} is gone and left its lock"]
        holder = {}
    else:
        lines = [f"run directory {run.path}", f"in use by {describe(holder)}" if holder else "in use by nobody"]
    states = {stage: run.state(stage) for stage in _stages(run)}
    tasks = run.tasks()
    for stage, state in states.items():
        if state or not tasks:
            lines.append(f"  {stage:<9} {_stage_line(run, stage, state, bool(holder))}")
    jobs, alive = describe_jobs(run)
    if jobs:
        lines += ["jobs", *jobs]
    lines += [f"  {task.path.name}: {_task_line(task)}" for task in tasks]
    if tasks and not alive and all(task.state("evaluate").get("status") == "done" for task in tasks):
        lines.append(f"next: compare {_quoted(run.path)}/*/report/summary.json")
        return "\n".join(lines)
    statuses = {stage: str(state.get("status", "")) for stage, state in states.items()}
    lines.append(_next_line(run, statuses, bool(holder), alive))
    return "\n".join(lines)


def _stages(run: RunDirectory) -> list[str]:
    """Return the run's stages; before it has a configuration, all there may be."""
    searches = not run.config_file.exists() or run.config().has_search
    return [stage for stage in STAGES if stage != "search" or searches]


def _fold_lines(run: RunDirectory, folds: list[RunDirectory]) -> list[str]:
    """Return what each fold of a cross-validation has done, what they amount to, and what to type next."""
    jobs, alive = describe_jobs(run)
    lines = [f"  {one.path.name}: {_task_line(one)}" for one in folds]
    lines += ["jobs", *jobs] if jobs else []
    summary = run.report / "summary.json"
    done = sum(one.state("evaluate").get("status") == "done" for one in folds)
    # The first task of an array may not have begun to speak.
    if run.config_file.exists() and done == run.config().data.folds and summary.exists():
        mean, deviation = (read_json(summary)[name] for name in ("mean", "deviation"))
        lines.append(
            f"mean of {len(folds)} folds: accuracy {100 * mean['accuracy']:.2f} % (deviation "
            f"{100 * deviation['accuracy']:.2f}), macro F1 {mean['macro_f1']:.4f} ({deviation['macro_f1']:.4f})"
        )
        return [*lines, f"next: see {_quoted(summary)}, or one fold: rcdp status {_quoted(folds[0].path)}"]
    if alive or any(map(_is_held, folds)):
        return [*lines, f"next: wait, or follow {_quoted(folds[0].log)} and its like"]
    if run.submitted.exists():
        return [*lines, _submit_again(run) if alive is not None else _ask_again(run)]
    return [*lines, f"next: rcdp crossvalidate --out {_quoted(run.path)}   (on several ranks: mpirun -n 2 rcdp ...)"]


def _stage_line(run: RunDirectory, stage: str, state: dict[str, object], held: bool) -> str:
    status = state.get("status")
    if not status:
        return "not started"
    if status == "done":
        return f"done in {state['seconds']:.1f} s on {state['ranks']} ranks{_result_text(state.get('result'))}"
    if status == "running":
        found = headway(run, stage)
        if held:
            age = time.time() - float(str(state["updated"]))
            return f"running for {age:.0f} s" + (f": {found.with_time}" if found else "")
        where = f" ({found.words})" if found else ""
        return f"was killed{where}: started again, it goes on from its last checkpoint"
    return f"{status}: {state['reason']}" if state.get("reason") else str(status)


def _result_text(result: object) -> str:
    """Return the plain numbers of a stage's result."""
    if not isinstance(result, dict):
        return ""
    parts = [
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in result.items()
        if isinstance(value, int | float | str)
    ]
    return ": " + ", ".join(parts) if parts else ""


def _task_line(run: RunDirectory) -> str:
    """Return what a task of an array or a fold has done, in short."""
    stages = _stages(run)
    following = next((stage for stage in stages if run.state(stage).get("status") != "done"), None)
    if following is None:
        return f"done{_result_text(run.state(stages[-1]).get('result'))}"
    return f"{following} {_stage_line(run, following, run.state(following), _is_held(run))}"


def _is_held(run: RunDirectory) -> bool:
    """Tell whether a job that lives works here."""
    return bool(read_lock(run.lock)) and not holder_is_gone(run.lock)


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
    summary = _quoted(run.report / "summary.json")
    return f"next: see {summary}, or label new samples: rcdp predict {_quoted(run.path)} X.npz --to y.csv"


def _ask_again(run: RunDirectory) -> str:
    return (
        f"next: on a login node where Slurm answers: rcdp status {_quoted(run.path)}   "
        "(submit nothing before: the jobs may still run)"
    )


def _submit_again(run: RunDirectory) -> str:
    again = "submit again as before"
    if run.submission.exists():
        before = read_json(run.submission)
        again = f"go on with: cd {_quoted(before['folder'])} && {shlex.join(before['words'])}"
    return f"next: mend what {_quoted(run.path / 'logs')} tells of, then {again}"


def _quoted(path: Path | str) -> str:
    """Return a path as a shell takes it."""
    return shlex.quote(str(path))
