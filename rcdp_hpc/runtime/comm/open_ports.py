"""The network ports that a job opens, and how ranks on one node avoid them.

Neither Open MPI nor Horovod can bind all of its ports to one interface, and neither asks for a password. On one node,
ranks need no port: Open MPI sends messages through shared memory, and NCCL connects through the loopback interface.
torch.distributed binds the ports of ranks to one interface (`rcdp_hpc.runtime.comm.interfaces`), but torchrun does not.
docs/security.md has the complete table.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path

from rcdp_hpc.runtime.comm.launcher import Launch

# Excludes tcp, which opens ports, and ofi, which tools/bootstrap.py also excludes in the Open MPI that it installs.
BTL = "OMPI_MCA_btl"
NO_PORTS = "^ofi,tcp"
NCCL_INTERFACE = "NCCL_SOCKET_IFNAME"
LOOPBACK = "lo"
GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"
SHARED_MEMORY = Path("/dev/shm")
# Shared memory that Open MPI needs at most for each rank of a node.
RANK_BYTES = 2**25
SEE = "docs/security.md"
ADVICE = "use it in private networks only"


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
    if launch.size == 1 or not launch.on_one_node(env):
        return
    if launch.uses_mpi and _has_shared_memory(launch.size):
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


def describe_open_ports(launch: Launch, environ: Mapping[str, str] | None = None) -> str:
    """Return one line on the ports that a job opens if it is started like this process."""
    env = dict(os.environ if environ is None else environ)
    return f"{_DESCRIPTIONS[launch.transport](launch, env)} ({SEE})"


def _of_one_process(launch: Launch, env: dict[str, str]) -> str:
    return "one process opens no port; mpirun, horovodrun and torchrun listen on all interfaces"


def _of_horovodrun(launch: Launch, env: dict[str, str]) -> str:
    interface = env.get("HOROVOD_GLOO_IFACE") or "one interface"
    return f"{launch.launcher.port_text} and the ranks on {interface}, without a password: {ADVICE}"


def _of_torchrun(launch: Launch, env: dict[str, str]) -> str:
    interface = env.get(GLOO_INTERFACE) or ("loopback" if launch.on_one_node(env) else "one interface")
    return f"{launch.launcher.port_text} and the ranks on {interface}, without a password: {ADVICE}"


def _of_mpi(launch: Launch, env: dict[str, str]) -> str:
    avoid_open_ports(launch, env)
    chosen = env.get(BTL, "")
    excluded = chosen.startswith("^")
    if chosen and excluded == ("tcp" in chosen.removeprefix("^").split(",")):
        return f"{launch.launcher.port_text}, the ranks open no port"
    return f"{launch.launcher.port_text}, and so does every rank, without a password: {ADVICE}"


_DESCRIPTIONS: Mapping[str, Callable[[Launch, dict[str, str]], str]] = {
    "none": _of_one_process,
    "mpi": _of_mpi,
    "horovod": _of_horovodrun,
    "torch": _of_torchrun,
}


def _has_shared_memory(ranks: int) -> bool:
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return False
    return os.access(SHARED_MEMORY, os.W_OK) and free >= ranks * RANK_BYTES
