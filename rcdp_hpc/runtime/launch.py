"""How this process was started: alone, by an MPI launcher, or by horovodrun with Gloo.

Read from the launchers' environment variables alone, so that it works before, and without, MPI or Horovod.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["single", "mpi", "horovod-gloo"]

# (rank variable, size variable, what sets them); the first pair that is complete decides. mpirun inside a Slurm
# job starts its daemons through srun, so Slurm's own counts come last: they may be those of the daemons.
_MPI_VARIABLES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "mpirun (Open MPI)"),
    ("PMI_RANK", "PMI_SIZE", "an MPI launcher (PMI)"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "srun"),
)

_CONFLICT = (
    "both mpirun (OMPI_COMM_WORLD_SIZE) and horovodrun with Gloo (HOROVOD_GLOO_RENDEZVOUS_ADDR) seem to have started "
    "this process, and they count different ranks. Start with one of them; unset the HOROVOD_* variables that an "
    "earlier horovodrun left behind."
)


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
        Why the environment makes no sense; empty where it does.
    elastic : bool
        Whether the job goes on where a rank is lost (``horovodrun --gloo --min-np``).
    """

    kind: Kind
    rank: int
    size: int
    launcher: str
    conflict: str = ""
    elastic: bool = False


def detect(environ: Mapping[str, str] | None = None) -> Launch:
    """Return how this process was started, from `environ` (default: the process's own)."""
    env = os.environ if environ is None else environ
    if env.get("HOROVOD_GLOO_RENDEZVOUS_ADDR") and "OMPI_COMM_WORLD_SIZE" in env:
        return Launch("mpi", int(env["OMPI_COMM_WORLD_RANK"]), int(env["OMPI_COMM_WORLD_SIZE"]), "mpirun", _CONFLICT)
    if env.get("HOROVOD_GLOO_RENDEZVOUS_ADDR") and "HOROVOD_RANK" in env:
        rank, size, elastic = int(env["HOROVOD_RANK"]), int(env.get("HOROVOD_SIZE", "1")), "HOROVOD_ELASTIC" in env
        return Launch("horovod-gloo", rank, size, "horovodrun (Gloo)", elastic=elastic)
    for rank_name, size_name, launcher in _MPI_VARIABLES:
        if rank_name in env and size_name in env:
            return Launch("mpi", int(env[rank_name]), int(env[size_name]), launcher)
    return Launch("single", 0, 1, "no launcher")
