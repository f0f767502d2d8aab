"""The status of the submitted jobs of a run, as lines of text."""

from __future__ import annotations

import re

from rcdp_hpc.cluster.slurm import Submission, job_facts, read_submissions
from rcdp_hpc.errors import RcdpError
from rcdp_hpc.runtime.rundir import RunDirectory

_REASONS = {
    "Dependency": "waits for the previous job",
    "DependencyNeverSatisfied": "the previous job failed",
    "Resources": "waits for free nodes",
    "Priority": "waits for jobs of higher priority",
    "BeginTime": "was requeued and starts again soon",
    "NodeDown": "its node failed",
}
_ALIVE = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "STOPPED"}
# Maximum number of tasks of an array that are shown.
_MOST_TASKS = 20


def describe_jobs(run: RunDirectory) -> tuple[list[str], bool | None]:
    """Return a line for each submitted job of a run, and whether any of them has not ended.

    Without Slurm on this machine, or if it does not respond, a line says so, and the second value is None for unknown.
    """
    lines: list[str] = []
    alive = False
    for submitted in _latest(read_submissions(run.submitted)):
        try:
            facts = sorted(job_facts(submitted.job), key=_task_number)
        except RcdpError as error:
            return [f"  jobs were submitted, but their status is unknown: {error}"], None
        if not facts:
            lines.append(f"  {submitted.stage:<9} job {submitted.job}: finished; no longer in Slurm's records")
        lines += [f"  {submitted.stage:<9} {_task_text(task)}" for task in facts[:_MOST_TASKS]]
        if len(facts) > _MOST_TASKS:
            lines.append(f"  {submitted.stage:<9} and {len(facts) - _MOST_TASKS} more tasks")
        alive |= any(task.get("JobState") in _ALIVE for task in facts)
    return lines, alive


def _latest(submitted: list[Submission]) -> list[Submission]:
    """Return the last job of each stage."""
    return list({one.stage: one for one in submitted}.values())


def _task_number(task: dict[str, str]) -> int:
    """Return the number of a task in its array; of several waiting tasks in one entry, such as 4-9, the first."""
    numbers = re.findall(r"\d+", task.get("ArrayTaskId", ""))
    return int(numbers[0]) if numbers else 0


def _task_text(task: dict[str, str]) -> str:
    number = task["JobId"]
    if "ArrayTaskId" in task:
        number = f"{task['ArrayJobId']}_{task['ArrayTaskId']}"
    state, reason = task.get("JobState", "?"), task.get("Reason", "None")
    parts = [f"job {number}: {state.lower()}"]
    if reason not in ("None", ""):
        parts.append(f"({reason}: {_REASONS[reason]})" if reason in _REASONS else f"({reason})")
    code, _, signal_number = task.get("ExitCode", "0:0").partition(":")
    if state not in _ALIVE and (code, signal_number) != ("0", "0"):
        parts.append(f"exit code {code}" if code != "0" else f"ended by signal {signal_number}")
    if state == "RUNNING":
        parts.append(f"on {task.get('NodeList', '?')} for {task.get('RunTime', '?')} of {task.get('TimeLimit', '?')}")
    if task.get("Restarts", "0") != "0":
        parts.append(f"requeued {task['Restarts']} times")
    if state not in _ALIVE and state != "COMPLETED" and "StdOut" in task:
        parts.append(f"see {task['StdOut']}")
    return ", ".join(parts).replace(", (", " (")
