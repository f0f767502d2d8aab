"""The one door to Slurm's commands; none of them goes through a shell."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rcdp_hpc.errors import InputError, StageFailedError
from rcdp_hpc.runtime.digests import append_sealed, read_sealed_lines
from rcdp_hpc.runtime.text import on_one_line

PATIENCE_SECONDS = 60
# What scontrol says of a job that ended long ago, whatever else can be wrong.
_UNKNOWN_JOB = "Invalid job id"
# A field of `scontrol --oneliner`; its value may have blanks.
_FIELD = re.compile(r"(?:^|(?<=\s))([\w/:]+)=(.*?)(?=\s+[\w/:]+=|\s*$)")


@dataclass(frozen=True)
class Submission:
    """A job that was submitted for a run directory.

    Attributes
    ----------
    stage : str
        What it does: a stage, "all", or "seeds".
    job : str
        Its number.
    """

    stage: str
    job: str


def sbatch(arguments: Sequence[str]) -> str:
    """Submit a job and return its number.

    Raises
    ------
    InputError
        If there is no Slurm here.
    StageFailedError
        If Slurm refuses the job.
    """
    # The number stands before the cluster's name, where several clusters share a controller.
    return _call(["sbatch", "--parsable", *arguments]).strip().partition(";")[0]


def scancel(jobs: Sequence[str]) -> None:
    """Cancel jobs. Raises as `sbatch`."""
    _call(["scancel", *jobs])


def scontrol(arguments: Sequence[str]) -> str:
    """Return what scontrol prints, an entry a line. Raises as `sbatch`."""
    return _call(["scontrol", "--oneliner", *arguments])


def sinfo(form: str) -> str:
    """Return a line for each kind of node of each partition, in a format of sinfo. Raises as `sbatch`."""
    return _call(["sinfo", "--noheader", "--exact", f"--format={form}"])


def fields_of(text: str, first: str) -> list[dict[str, str]]:
    """Return the fields of each line of `scontrol --oneliner` that begins with the field `first`."""
    # The first of a name counts: what stands behind, a path above all, may look like another field.
    return [dict(reversed(_FIELD.findall(line))) for line in text.splitlines() if line.startswith(f"{first}=")]


def job_facts(job: str) -> list[dict[str, str]]:
    """Return what Slurm says of a job, or of each task of an array; empty where it knows it no more.

    Raises
    ------
    InputError
        If there is no Slurm here.
    StageFailedError
        If Slurm cannot be asked: nothing is known of the job then.
    """
    try:
        text = scontrol(["show", "job", job])
    except StageFailedError as error:
        if _UNKNOWN_JOB in str(error):
            return []
        raise
    return fields_of(text, "JobId")


def record_submission(file: Path, submitted: Submission) -> None:
    """Note a submitted job in the run directory."""
    append_sealed(file, asdict(submitted))


def read_submissions(file: Path) -> list[Submission]:
    """Return the jobs noted in a run directory, oldest first.

    Raises
    ------
    DataDamagedError
        If a line was altered: a job that is not listed would be submitted a second time.
    """
    remedy = "squeue --me lists your jobs. When none of this run is left, remove the file and submit again."
    found = [
        Submission(str(entry.get("stage")), str(entry.get("job"))) for entry in read_sealed_lines(file, remedy=remedy)
    ]
    return [one for one in found if re.fullmatch(r"\d+", one.job)]


def _call(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    except FileNotFoundError:
        raise InputError(f"{command[0]} is not on the PATH: run this on a login node of a Slurm cluster.") from None
    except subprocess.TimeoutExpired:
        raise StageFailedError(f"{command[0]} did not answer within {PATIENCE_SECONDS} s: try again later.") from None
    if done.returncode:
        raise StageFailedError(f"{command[0]} failed: {on_one_line(done.stderr or done.stdout)}")
    return done.stdout
