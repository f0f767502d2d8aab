"""What became of a run's jobs, in words."""

from __future__ import annotations

import re

from rcdp_hpc.cluster.slurm import Submission, job_facts, read_submissions
from rcdp_hpc.errors import RcdpError
from rcdp_hpc.runtime.rundir import RunDirectory

_REASONS = {
    "Dependency": "waits for the job before it",
    "DependencyNeverSatisfied": "the job it waited for did not end well",
    "Resources": "waits for free nodes",
    "Priority": "jobs of a higher priority come first",
    "BeginTime": "was requeued and starts again shortly",
    "NodeDown": "its node failed",
}
_ALIVE = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "STOPPED"}
# Shown where an array has more tasks.
_MOST_TASKS = 20


def describe_jobs(run: RunDirectory) -> tuple[list[str], bool | None]:
    """Return a line for each job submitted for a run, and whether any of them is still to end.

    Without Slurm on this machine, or where it gives no answer, the lines say so, and None stands for not known.
    """
    lines: list[str] = []
    alive = False
    for submitted in _latest(read_submissions(run.submitted)):
        try:
            facts = sorted(job_facts(submitted.job), key=_task_number)
        except RcdpError as error:
            return [f"  jobs were submitted, but Slurm cannot be asked for them: {error}"], None
        if not facts:
            lines.append(f"  {submitted.stage:<9} job {submitted.job}: over for so long that Slurm has forgotten it")
        lines += [f"  {submitted.stage:<9} {_in_words(task)}" for task in facts[:_MOST_TASKS]]
        if len(facts) > _MOST_TASKS:
            lines.append(f"  {submitted.stage:<9} and {len(facts) - _MOST_TASKS} more tasks")
        alive |= any(task.get("JobState") in _ALIVE for task in facts)
    return lines, alive


def _latest(submitted: list[Submission]) -> list[Submission]:
    """Return the last job of each stage."""
    return list({one.stage: one for one in submitted}.values())


def _task_number(task: dict[str, str]) -> int:
    """Return a task's place in its array; those that still wait are one entry, such as 4-9, and come by the first."""
    numbers = re.findall(r"\d+", task.get("ArrayTaskId", ""))
    return int(numbers[0]) if numbers else 0


def _in_words(task: dict[str, str]) -> str:
    number = task["JobId"]
    if "ArrayTaskId" in task:
        number = f"{task['ArrayJobId']}_{task['ArrayTaskId']}"
    state, reason = task.get("JobState", "?"), task.get("Reason", "None")
    parts = [f"job {number}: {state.lower()}"]
    if reason not in ("None", ""):
        parts.append(f"({reason}: {_REASONS[reason]})" if reason in _REASONS else f"({reason})")
    code, _, number_of_signal = task.get("ExitCode", "0:0").partition(":")
    if state not in _ALIVE and (code, number_of_signal) != ("0", "0"):
        parts.append(f"exit code {code}" if code != "0" else f"ended by signal {number_of_signal}")
    if state == "RUNNING":
        parts.append(f"on {task.get('NodeList', '?')} for {task.get('RunTime', '?')} of {task.get('TimeLimit', '?')}")
    if task.get("Restarts", "0") != "0":
        parts.append(f"requeued {task['Restarts']} times")
    if state not in _ALIVE and state != "COMPLETED" and "StdOut" in task:
        parts.append(f"see {task['StdOut']}")
    return ", ".join(parts).replace(", (", " (")
