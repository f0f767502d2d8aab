"""The network ports that a job opens, and how ranks on one node avoid them.

Neither Open MPI nor Horovod can bind all of its ports to one interface, and neither asks for a password. On one node,
ranks need no port: Open MPI sends messages through shared memory, and NCCL connects through the loopback interface.
docs/security.md has the complete table.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from rcdp_hpc.runtime.comm.launch import Launch

# Excludes tcp, which opens ports, and ofi, which tools/bootstrap.py also excludes in the Open MPI that it installs.
BTL = "OMPI_MCA_btl"
NO_PORTS = "^ofi,tcp"
NCCL_INTERFACE = "NCCL_SOCKET_IFNAME"
LOOPBACK = "lo"
SHARED_MEMORY = Path("/dev/shm")
# Shared memory that Open MPI needs at most for each rank of a node.
RANK_BYTES = 2**25
# (ranks on this node, ranks of the job), by launcher.
_COUNTS = (("OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_SIZE"), ("MPI_LOCALNRANKS", "PMI_SIZE"))
SEE = "docs/security.md"


def avoid_open_ports(launch: Launch, environ: MutableMapping[str, str] | None = None) -> None:
    """Set Open MPI and NCCL so that ranks on a single node open no port; call this before MPI starts.

    Parameters
    ----------
    launch : Launch
    environ : mutable mapping of str to str, optional
        Modified in place. Default: the environment of this process. Components and interfaces that the user has chosen
        are kept.
    """
    env = os.environ if environ is None else environ
    if launch.kind != "mpi" or not on_one_node(env):
        return
    if _has_shared_memory(launch.size):
        env[BTL] = exclude_tcp(env.get(BTL, ""))
    env.setdefault(NCCL_INTERFACE, LOOPBACK)


def exclude_tcp(chosen: str) -> str:
    """Return a list of Open MPI components (``OMPI_MCA_btl``) without TCP, if the user has not decided otherwise.

    A list that names components to use, or excludes shared memory, is the user's decision and is returned unchanged.
    Other lists of exclusions, such as the one that horovodrun sets, are extended.
    """
    if not chosen.strip():
        return NO_PORTS
    excluded = [name.strip() for name in chosen.removeprefix("^").split(",")]
    if not chosen.startswith("^") or set(excluded) & {"self", "sm", "vader", "tcp"}:
        return chosen
    return f"{chosen},tcp"


def on_one_node(environ: Mapping[str, str]) -> bool:
    """Return whether all ranks of the job are on one node, according to the launcher's variables."""
    for local, everywhere in _COUNTS:
        if environ.get(local) and environ.get(everywhere):
            return environ[local] == environ[everywhere]
    return environ.get("SLURM_STEP_NUM_NODES") == "1"


def describe_open_ports(launch: Launch, environ: Mapping[str, str] | None = None) -> str:
    """Return one line on the ports that a job opens if it is started like this process."""
    env = dict(os.environ if environ is None else environ)
    if launch.kind == "horovod-gloo":
        interface = env.get("HOROVOD_GLOO_IFACE") or "one interface"
        return (
            f"horovodrun listens on all interfaces and the ranks on {interface}, without a password: use it in private "
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
    return f"{starter}, and so does every rank, without a password: use it in private networks only ({SEE})"


def _has_shared_memory(ranks: int) -> bool:
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return False
    return os.access(SHARED_MEMORY, os.W_OK) and free >= ranks * RANK_BYTES
