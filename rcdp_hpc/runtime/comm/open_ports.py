"""What listens on the network while a job runs, and how much of it can be avoided.

Neither Open MPI nor Horovod can bind all of its ports to one interface, and neither asks for a password. On one node,
ranks need no port at all: Open MPI's messages go through shared memory, and NCCL's first contact through the loopback
interface. docs/security.md has the whole table.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from rcdp_hpc.runtime.comm.launch import Launch

# Without the components that open ports, and without the one that bootstrap.py takes out of the installed Open MPI.
BTL = "OMPI_MCA_btl"
NO_PORTS = "^ofi,tcp"
NCCL_INTERFACE = "NCCL_SOCKET_IFNAME"
LOOPBACK = "lo"
SHARED_MEMORY = Path("/dev/shm")
# What Open MPI's shared memory takes at most for each rank of a node.
RANK_BYTES = 2**25
# (ranks on this node, ranks of the job), by launcher.
_COUNTS = (("OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_SIZE"), ("MPI_LOCALNRANKS", "PMI_SIZE"))
SEE = "docs/security.md"


def avoid_open_ports(launch: Launch, environ: MutableMapping[str, str] | None = None) -> None:
    """Have the ranks of a job on one node open no port to the network; to be called before MPI starts.

    Parameters
    ----------
    launch : Launch
    environ : mutable mapping, optional
        Default: the process's own environment. A user's own choice of components or of NCCL's interface stays.
    """
    env = os.environ if environ is None else environ
    if launch.kind != "mpi" or not on_one_node(env):
        return
    if _has_shared_memory(launch.size):
        env[BTL] = exclude_tcp(env.get(BTL, ""))
    env.setdefault(NCCL_INTERFACE, LOOPBACK)


def exclude_tcp(chosen: str) -> str:
    """Return Open MPI's choice of components (``OMPI_MCA_btl``) without TCP, where a user's choice allows it.

    A list of components is the user's, and so is one that excludes shared memory. Other exclusions, as horovodrun sets
    one, are made longer.
    """
    if not chosen.strip():
        return NO_PORTS
    excluded = [name.strip() for name in chosen.removeprefix("^").split(",")]
    if not chosen.startswith("^") or set(excluded) & {"self", "sm", "vader", "tcp"}:
        return chosen
    return f"{chosen},tcp"


def on_one_node(environ: Mapping[str, str]) -> bool:
    """Return whether a launcher says that all ranks of the job are on one node."""
    for local, everywhere in _COUNTS:
        if environ.get(local) and environ.get(everywhere):
            return environ[local] == environ[everywhere]
    return environ.get("SLURM_STEP_NUM_NODES") == "1"


def describe_open_ports(launch: Launch, environ: Mapping[str, str] | None = None) -> str:
    """Return in a line what will listen on the network in a job that is started as this process was."""
    env = dict(os.environ if environ is None else environ)
    if launch.kind == "horovod-gloo":
        interface = env.get("HOROVOD_GLOO_IFACE") or "one interface"
        return (
            f"horovodrun listens on all interfaces and asks for no password, ranks on {interface}: for private "
            f"networks only ({SEE})"
        )
    if launch.kind == "single":
        return f"one process opens no port; mpirun and horovodrun listen on all interfaces ({SEE})"
    starter = "mpirun listens on all interfaces" if launch.launcher.startswith("mpirun") else "the launcher listens"
    avoid_open_ports(launch, env)
    chosen = env.get(BTL, "")
    excluded = chosen.startswith("^")
    if chosen and excluded == ("tcp" in chosen.removeprefix("^").split(",")):
        return f"{starter}, the ranks open no port ({SEE})"
    return f"{starter}, and so does every rank, without a password: for private networks only ({SEE})"


def _has_shared_memory(ranks: int) -> bool:
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return False
    return os.access(SHARED_MEMORY, os.W_OK) and free >= ranks * RANK_BYTES
