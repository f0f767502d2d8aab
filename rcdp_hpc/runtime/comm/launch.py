"""How this process was started: without a launcher, by an MPI launcher, or by horovodrun with Gloo.

This is read from the environment variables of the launchers, so it works without MPI and Horovod.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rcdp_hpc.errors import InputError

Kind = Literal["single", "mpi", "horovod-gloo"]

# (rank variable, size variable, launcher); the first complete pair decides. Inside a Slurm job, mpirun starts its
# daemons through srun. Slurm's variables come last because they may count these daemons.
_MPI_VARIABLES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "mpirun (Open MPI)"),
    ("PMI_RANK", "PMI_SIZE", "an MPI launcher (PMI)"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "srun"),
)

_GLOO_AND_MPI = (
    "the environment has variables of both mpirun (OMPI_COMM_WORLD_SIZE) and horovodrun with Gloo "
    "(HOROVOD_GLOO_RENDEZVOUS_ADDR), which count different ranks. Start the command with one of them, and unset the "
    "HOROVOD_* variables that an earlier horovodrun has left."
)
_GLOO = ("HOROVOD_RANK", "HOROVOD_SIZE", "horovodrun (Gloo)")
_TORCHRUN = ("RANK", "WORLD_SIZE", "torchrun")


@dataclass(frozen=True)
class Launch:
    """How this process was started.

    Attributes
    ----------
    kind : {"single", "mpi", "horovod-gloo"}
        How the ranks communicate.
    rank, size : int
        Values of the launcher's variables. The communicator's rank and size are checked against them.
    launcher : str
        Name of the launcher, for messages.
    conflict : str
        Why a job cannot be started this way, and what to do instead; empty if it can.
    elastic : bool
        Whether the job continues when a rank is lost (``horovodrun --gloo --min-np``).
    """

    kind: Kind
    rank: int
    size: int
    launcher: str
    conflict: str = ""
    elastic: bool = False


class _NotANumberError(Exception):
    """A variable of a launcher is not a valid rank or size."""


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
        return _detect(env)
    except _NotANumberError as error:
        return Launch("single", 0, 1, "no launcher", str(error))


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


def _detect(env: Mapping[str, str]) -> Launch:
    started_by_mpi = next((found for names in _MPI_VARIABLES if (found := _place(env, names))), None)
    if env.get("HOROVOD_GLOO_RENDEZVOUS_ADDR"):
        by_mpirun, by_gloo = _place(env, _MPI_VARIABLES[0]), _place(env, _GLOO)
        if by_mpirun:
            return Launch("mpi", *by_mpirun, "mpirun", _GLOO_AND_MPI)
        if by_gloo:
            return Launch("horovod-gloo", *by_gloo, _GLOO[2], elastic="HOROVOD_ELASTIC" in env)
    by_torchrun = _started_by_torchrun(env, started_by_mpi)
    if by_torchrun:
        return Launch("single", *by_torchrun, _TORCHRUN[2], _starts_no_ranks(by_torchrun[1]))
    for names in _MPI_VARIABLES:
        place = _place(env, names)
        if place:
            return Launch("mpi", *place, names[2])
    return Launch("single", 0, 1, "no launcher")


def _place(env: Mapping[str, str], names: tuple[str, str, str]) -> tuple[int, int] | None:
    """Return rank and size from the two variables of a launcher; None if one of them is not set or empty."""
    values = [env.get(name, "").strip() for name in names[:2]]
    if not all(values):
        return None
    for name, value in zip(names, values, strict=False):
        if not re.fullmatch(r"[0-9]{1,9}", value):
            raise _NotANumberError(_wrong_variable(name, env[name], names[2], "is not a number"))
    rank, size = map(int, values)
    if rank >= size:
        raise _NotANumberError(
            _wrong_variable(names[0], env[names[0]], names[2], f"is not less than {names[1]} = {size}")
        )
    return rank, size


def _wrong_variable(name: str, value: str, launcher: str, what: str) -> str:
    return (
        f"the environment variable {name} = {value!r} {what}. {launcher} sets it to the rank or the number of ranks. "
        f"Unset it (unset {name}), or start the command with mpirun, srun or horovodrun."
    )


def _started_by_torchrun(env: Mapping[str, str], started_by_mpi: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return rank and size if torchrun started several processes.

    Under mpirun or srun, users set RANK and WORLD_SIZE themselves for torch.distributed. There, torchrun is recognised
    by a variable that nothing else sets, and only if it counts other ranks than the launcher.
    """
    if not env.get("TORCHELASTIC_RUN_ID") and (started_by_mpi or not env.get("LOCAL_RANK")):
        return None
    place = _place(env, _TORCHRUN)
    return place if place and place[1] > 1 and place != started_by_mpi else None


def _starts_no_ranks(count: int) -> str:
    return (
        f"torchrun started {count} processes, which rcdp cannot connect: each of them would do the whole job. Start "
        f"the same command with mpirun -n {count} rcdp ... or horovodrun -np {count} rcdp ... "
        "(on Slurm: srun --mpi=pmix)."
    )
