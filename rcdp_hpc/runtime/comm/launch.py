"""How this process was started: by one of the launchers of `rcdp_hpc.runtime.comm.launchers`, or by none."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.launcher import NO_LAUNCHER, Launch, WrongVariableError
from rcdp_hpc.runtime.comm.launchers import LAUNCHERS

# For ranks whose launcher sets none: the first that is set counts.
_LOCAL_RANK_VARIABLES = (
    "OMPI_COMM_WORLD_LOCAL_RANK", "HOROVOD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK",
    "PALS_LOCAL_RANKID", "JSM_NAMESPACE_LOCAL_RANK", "FLUX_TASK_LOCAL_ID", "SLURM_LOCALID",
)  # fmt: skip


def detect(environ: Mapping[str, str] | None = None) -> Launch:
    """Return how this process was started.

    This function raises no error, because every log message asks it for the rank: an invalid variable gives a single
    process whose `conflict` names the variable. Empty variables count as not set.

    Parameters
    ----------
    environ : mapping of str to str, optional
        Default: the environment of this process.
    """
    env = os.environ if environ is None else environ
    try:
        found = (launcher.detect(env) for launcher in LAUNCHERS)
        return next((launch for launch in found if launch is not None), Launch(NO_LAUNCHER, 0, 1))
    except WrongVariableError as error:
        return Launch(NO_LAUNCHER, 0, 1, str(error))


def number_from_environment(name: str, default: int, environ: Mapping[str, str] | None = None) -> int:
    """Return the value of an environment variable as an integer; `default` if it is not set or empty.

    Raises
    ------
    InputError
        If the value is not an integer of at most nine digits.
    """
    value = (os.environ if environ is None else environ).get(name, "").strip()
    if not value:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise InputError(f"the environment variable {name} = {value!r} is not a whole number. Correct or unset it.")
    return int(value)


def local_rank() -> int:
    """Return the number of this process among those of its job on its node; 0 without a launcher that says so."""
    names = (detect().launcher.local_rank_variable, *_LOCAL_RANK_VARIABLES)
    return next((number_from_environment(name, 0) for name in names if os.environ.get(name)), 0)
