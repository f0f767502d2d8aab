"""Which GPU each rank of a job has, and what is refused because of it."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agreed
from rcdp_hpc.runtime.comm.launch import detect

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

# Ranks and hosts that a message names.
MOST_NAMED = 4
WITHOUT_LAUNCHER = "one rank for each GPU"


class RankGPU(NamedTuple):
    """The GPU of a rank.

    Attributes
    ----------
    host : str
        Name of the rank's host.
    identity : str
        The same for ranks of one host with the same GPU, and for no others; empty if the rank has none.
    name : str
        Name of the GPU for messages.
    sharing : int
        Ranks of the job that use this GPU.
    """

    host: str
    identity: str = ""
    name: str = ""
    sharing: int = 1


def gpu_of_rank(where: torch.device) -> RankGPU:
    """Return the GPU of this rank; without an identity if its device is the CPU.

    The numbers that torch gives GPUs are those of a process, because CUDA_VISIBLE_DEVICES differs between processes.
    The driver's identifier (UUID) is the same in all of them. Instances of a GPU that is divided (MIG) are named by the
    variable and count as separate GPUs.
    """
    host = socket.gethostname()
    if where.type != "cuda":
        return RankGPU(host)
    import torch

    index = torch.cuda.current_device() if where.index is None else where.index
    facts = torch.cuda.get_device_properties(index)
    identity = str(getattr(facts, "uuid", "")) or f"number {index}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if index < len(visible) and visible[index].strip().startswith("MIG-"):
        identity = visible[index].strip()
    return RankGPU(host, identity, str(facts.name))


def gather_gpus(comm: Communicator, where: torch.device) -> list[RankGPU]:
    """Return the GPU of every rank, by rank. Collective; no GPU takes part in the messages.

    Of a job whose ranks form several groups, a group knows the hosts of all ranks, not their GPUs: it counts as many
    ranks for each visible GPU as there may be.
    """
    found = comm.allgather((gpu_of_rank(where), _visible() if where.type == "cuda" else 0))
    gpus = [gpu for gpu, _ in found]
    hosts = [host for host, _ in comm.job_placement or ()]
    return [
        gpu._replace(sharing=max(gpus.count(gpu), math.ceil(hosts.count(gpu.host) / visible))) if gpu.identity else gpu
        for gpu, visible in found
    ]


def _visible() -> int:
    import torch

    return max(1, torch.cuda.device_count())


def ranks_of_same_gpu(comm: Communicator, where: torch.device) -> int:
    """Return the number of ranks of the job that use the GPU of this rank, itself included. Collective."""
    return gather_gpus(comm, where)[comm.rank].sharing


def most_sharing(gpus: Sequence[RankGPU]) -> int:
    """Return the largest number of ranks that use one GPU; 1 without GPUs."""
    return max((gpu.sharing for gpu in gpus if gpu.identity), default=1)


def ranks_of_gpu(gpus: Sequence[RankGPU]) -> dict[RankGPU, list[int]]:
    """Return the ranks of each GPU."""
    ranks: dict[RankGPU, list[int]] = {}
    for rank, gpu in enumerate(gpus):
        if gpu.identity:
            ranks.setdefault(gpu, []).append(rank)
    return ranks


def refuse_shared_gpus(gpus: Sequence[RankGPU]) -> None:
    """Raise an `InputError`, the same on all ranks, if ranks of one training share a GPU, or only some have one.

    NCCL refuses ranks that share a GPU, with an error at the first sum that looks like a lost rank. Sums by way of host
    memory would work, but the ranks would wait for one another at each step: one rank is faster.

    Parameters
    ----------
    gpus : sequence of RankGPU
        Of all ranks.
    """
    ranks = ranks_of_gpu(gpus)
    without = [rank for rank, gpu in enumerate(gpus) if not gpu.identity]
    if ranks and without:
        raise agreed(
            InputError(
                f"{len(gpus) - len(without)} of {len(gpus)} ranks train on a GPU, but {_ranks(without)} (host "
                f"{gpus[without[0]].host}) has none. Start all ranks on nodes with GPUs, or train on the CPUs: "
                "training.device = 'cpu'."
            )
        )
    shared = {gpu: its for gpu, its in ranks.items() if len(its) > 1}
    if not shared:
        return
    host = next(iter(shared)).host
    of_host = sum(gpu.host == host for gpu in ranks)
    parts = [f"{_ranks(its)} share {gpu.name} ({gpu.identity})" for gpu, its in shared.items() if gpu.host == host]
    others = len({gpu.host for gpu in shared}) - 1
    if len(parts) > MOST_NAMED:
        parts[MOST_NAMED:] = [f"{len(parts) - MOST_NAMED} more GPUs are shared"]
    if others:
        parts.append(f"likewise on {_count(others, 'other host')}")
    raise agreed(
        InputError(
            f"{sum(gpu.host == host for gpu in gpus)} ranks train on {_count(of_host, 'GPU')} of host {host}: "
            f"{'; '.join(parts)}. Ranks that sum gradients need a GPU each: NCCL refuses others. Start one rank for "
            f"each GPU ({one_rank_per_gpu(of_host)}), or train on the CPUs: training.device = 'cpu'."
        )
    )


def one_rank_per_gpu(count: int) -> str:
    """Return the launcher's option for this number of ranks on each node."""
    return (detect().launcher.ranks_option or WITHOUT_LAUNCHER).format(count=count)


def sharing_text(gpus: Sequence[RankGPU]) -> str:
    """Return how many ranks share how many GPUs of a host; empty if every rank has a GPU of its own, or none."""
    ranks = ranks_of_gpu(gpus)
    host = next((gpu.host for gpu, its in ranks.items() if len(its) > 1), None)
    if host is None:
        return ""
    found = sum(gpu.host == host for gpu in ranks)
    return f"{sum(gpu.host == host for gpu in gpus)} ranks share {_count(found, 'GPU')} of host {host}"


def report_shared_gpus(comm: Communicator, where: torch.device, doing: str) -> None:
    """Log a warning with the numbers if ranks share GPUs in work that allows it. Collective.

    Parameters
    ----------
    comm : Communicator
    where : torch.device
        The device of this rank.
    doing : str
        What the ranks do, as a verb.
    """
    gpus = gather_gpus(comm, where)
    text = sharing_text(gpus)
    if text and comm.is_root:
        host = next(gpu.host for gpu, ranks in ranks_of_gpu(gpus).items() if len(ranks) > 1)
        count = len({gpu.identity for gpu in gpus if gpu.host == host and gpu.identity})
        log.warning(
            "%s, take turns while they %s, and divide its memory. One rank for each GPU is as fast: %s",
            *(text, doing, one_rank_per_gpu(count)),
        )


def _ranks(ranks: Sequence[int]) -> str:
    shown = ", ".join(map(str, ranks[:MOST_NAMED]))
    more = len(ranks) - MOST_NAMED
    return f"rank{'s' if len(ranks) > 1 else ''} {shown}{f' and {more} more' if more > 0 else ''}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
