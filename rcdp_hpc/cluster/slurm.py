"""Slurm's commands, called without a shell, and the record of submitted jobs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rcdp_hpc.errors import InputError, StageFailedError
from rcdp_hpc.runtime.digests import append_sealed, read_sealed_lines
from rcdp_hpc.runtime.text import on_one_line

TIMEOUT_SECONDS = 60
# Message of scontrol for a job that is no longer in Slurm's records.
_UNKNOWN_JOB = "Invalid job id"
# A field of `scontrol --oneliner`, whose value may contain blanks.
_FIELD = re.compile(r"(?:^|(?<=\s))([\w/:]+)=(.*?)(?=\s+[\w/:]+=|\s*$)")


@dataclass(frozen=True)
class Submission:
    """A submitted job of a run.

    Attributes
    ----------
    stage : str
        The work of the job: a stage, "all", or a kind of array.
    job : str
        Number of the job.
    """

    stage: str
    job: str


def sbatch(arguments: Sequence[str]) -> str:
    """Submit a job and return its number.

    Raises
    ------
    InputError
        If Slurm is not installed here.
    StageFailedError
        If Slurm refuses the job.
    """
    # If several clusters share a controller, the output is the number, a semicolon and the name of the cluster.
    return _call(["sbatch", "--parsable", *arguments]).strip().partition(";")[0]


def scancel(jobs: Sequence[str]) -> None:
    """Cancel jobs; raises the same errors as `sbatch`."""
    _call(["scancel", *jobs])


def scontrol(arguments: Sequence[str]) -> str:
    """Return the output of scontrol, one line per entry; raises the same errors as `sbatch`."""
    return _call(["scontrol", "--oneliner", *arguments])


def sinfo(form: str) -> str:
    """Return the output of sinfo, one line per partition and kind of node; raises the same errors as `sbatch`."""
    return _call(["sinfo", "--noheader", "--exact", f"--format={form}"])


def fields_of(text: str, first: str) -> list[dict[str, str]]:
    """Return the fields of each line of `scontrol --oneliner` that begins with the field `first`."""
    # The first value of a field counts, because later text, such as a path, may look like another field.
    return [dict(reversed(_FIELD.findall(line))) for line in text.splitlines() if line.startswith(f"{first}=")]


def job_facts(job: str) -> list[dict[str, str]]:
    """Return Slurm's fields of a job, or of each task of an array; empty if the job is no longer in its records.

    Raises
    ------
    InputError
        If Slurm is not installed here.
    StageFailedError
        If Slurm does not respond.
    """
    try:
        text = scontrol(["show", "job", job])
    except StageFailedError as error:
        if _UNKNOWN_JOB in str(error):
            return []
        raise
    return fields_of(text, "JobId")


def record_submission(file: Path, submitted: Submission) -> None:
    """Append a submitted job to the record in the run directory."""
    append_sealed(file, asdict(submitted))


def read_submissions(file: Path) -> list[Submission]:
    """Return the recorded jobs of a run, oldest first.

    Raises
    ------
    DataDamagedError
        If a line was altered. Without the error, a missing job could be submitted a second time.
    """
    remedy = "squeue --me lists your jobs. When no job of this run is left, remove the file and submit again."
    entries = read_sealed_lines(file, remedy=remedy)
    submitted = [Submission(str(entry.get("stage")), str(entry.get("job"))) for entry in entries]
    return [one for one in submitted if re.fullmatch(r"\d+", one.job)]


def _call(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except FileNotFoundError:
        raise InputError(f"{command[0]} is not on the PATH: run this on a login node of a Slurm cluster.") from None
    except subprocess.TimeoutExpired:
        raise StageFailedError(f"{command[0]} did not respond within {TIMEOUT_SECONDS} s: try again later.") from None
    if done.returncode:
        raise StageFailedError(f"{command[0]} failed: {on_one_line(done.stderr or done.stdout)}")
    return done.stdout
