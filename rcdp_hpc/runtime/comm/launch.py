"""How this process was started: alone, by an MPI launcher, or by horovodrun with Gloo.

Read from the launchers' environment variables alone, so that it works before, and without, MPI or Horovod.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rcdp_hpc.errors import InputError

Kind = Literal["single", "mpi", "horovod-gloo"]

# (rank variable, size variable, what sets them); the first pair that is complete decides. mpirun inside a Slurm
# job starts its daemons through srun, so Slurm's own counts come last: they may be those of the daemons.
_MPI_VARIABLES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "mpirun (Open MPI)"),
    ("PMI_RANK", "PMI_SIZE", "an MPI launcher (PMI)"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "srun"),
)

_GLOO_AND_MPI = (
    "both mpirun (OMPI_COMM_WORLD_SIZE) and horovodrun with Gloo (HOROVOD_GLOO_RENDEZVOUS_ADDR) seem to have started "
    "this process, and they count different ranks. Start with one of them; unset the HOROVOD_* variables that an "
    "earlier horovodrun left behind."
)
_GLOO = ("HOROVOD_RANK", "HOROVOD_SIZE", "horovodrun (Gloo)")
_TORCHRUN = ("RANK", "WORLD_SIZE", "torchrun")


@dataclass(frozen=True)
class Launch:
    """How this process was started.

    Attributes
    ----------
    kind : {"single", "mpi", "horovod-gloo"}
        What the ranks talk through.
    rank, size : int
        What the launcher's environment says; the communicator's own numbers are checked against it.
    launcher : str
        The launcher's name, for messages.
    conflict : str
        Why no job can be started this way and what to do; empty if it can.
    elastic : bool
        Whether the job continues if a rank is lost (``horovodrun --gloo --min-np``).
    """

    kind: Kind
    rank: int
    size: int
    launcher: str
    conflict: str = ""
    elastic: bool = False


class _NotANumberError(Exception):
    """A launcher's variable holds something else than a rank or a size; the message says what to do."""


def detect(environ: Mapping[str, str] | None = None) -> Launch:
    """Return how this process was started, from `environ` (default: the process's own).

    A variable that is set but empty counts as not set. One that is not a number gives a single process whose
    `conflict` names it: this function raises nothing, since every message asks it for the rank.
    """
    env = os.environ if environ is None else environ
    try:
        return _detect(env)
    except _NotANumberError as error:
        return Launch("single", 0, 1, "no launcher", str(error))


def number_from_environment(name: str, default: int, environ: Mapping[str, str] | None = None) -> int:
    """Return the whole number that an environment variable holds, `default` if it is not set or empty.

    Raises
    ------
    InputError
        If it holds something else.
    """
    value = (os.environ if environ is None else environ).get(name, "").strip()
    if not value:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise InputError(f"the environment variable {name} = {value!r} is not a whole number. Mend it or unset it.")
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
    """Return rank and size as a launcher's two variables give them, None if one of them is not set or empty."""
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
        f"the environment variable {name} = {value!r} {what}: {launcher} sets it to the rank or the number of ranks. "
        f"Unset it (unset {name}), or start the command with mpirun, srun or horovodrun."
    )


def _started_by_torchrun(env: Mapping[str, str], started_by_mpi: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return rank and size if torchrun started several processes.

    Under mpirun or srun, users set RANK and WORLD_SIZE themselves for torch.distributed: then only what torchrun alone
    sets tells, and only if it counts other ranks.
    """
    if not env.get("TORCHELASTIC_RUN_ID") and (started_by_mpi or not env.get("LOCAL_RANK")):
        return None
    place = _place(env, _TORCHRUN)
    return place if place and place[1] > 1 and place != started_by_mpi else None


def _starts_no_ranks(count: int) -> str:
    return (
        f"torchrun started {count} processes. It starts no ranks here: each of them would do the whole job. Start the "
        f"same command with mpirun -n {count} rcdp ... or horovodrun -np {count} rcdp ... "
        "(on Slurm: srun --mpi=pmix)."
    )
