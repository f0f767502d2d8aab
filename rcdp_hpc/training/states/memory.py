"""The memory in which a rank may store states: that of the device that computes them, of its host, and files.

Ranks of one GPU divide its memory, ranks of one host the memory of the host. On a GPU, a part is left for the network,
its gradients and the values of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rcdp_hpc.config import Config
from rcdp_hpc.reservoir.kernels.slots import SLOT_BYTES
from rcdp_hpc.reservoir.states import DEFAULT_BATCH_ROWS
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.gpus import ranks_of_same_gpu
from rcdp_hpc.runtime.device import CPU, WORKSPACE, free_gpu_memory, total_gpu_memory
from rcdp_hpc.runtime.ram import MIB, machine_memory
from rcdp_hpc.runtime.threads import ranks_on_host
from rcdp_hpc.training.work import network_bytes

# Of a GPU, for gaps between tensors.
GAPS = 0.05
# Of a GPU, for a network of the user's own, whose size is not known.
UNKNOWN_NETWORK = 0.5


def memory_share(comm: Communicator, where: torch.device) -> int:
    """Return the bytes of memory of a device that a rank may use: its share of a host's, or of the free ones of a GPU.

    Collective.
    """
    if where.type != "cuda":
        return machine_memory() // ranks_on_host(comm)
    # Measured before any rank stores something there, since all meet in the next line.
    free = free_gpu_memory(where)
    return free // ranks_of_same_gpu(comm, where)


@dataclass(frozen=True)
class Memories:
    """The bytes that the states of a rank may use.

    Attributes
    ----------
    gpu : int or None
        On the GPU that computes the states; None if the CPU does.
    host : int
        In the memory of the host.
    disk : int
        In a file.
    gpu_name : str
        Name of the GPU, for messages.
    """

    gpu: int | None
    host: int
    disk: int
    gpu_name: str = ""

    @classmethod
    def of_rank(
        cls, config: Config, comm: Communicator, where: torch.device, sample_shape: Sequence[int], width: int
    ) -> Memories:
        """Return the memories of this rank. Collective.

        Parameters
        ----------
        config : Config
        comm : Communicator
        where : torch.device
            The device that computes the states.
        sample_shape : sequence of int
            Shape of a sample.
        width : int
            Features of a row.
        """
        limit = config.states.memory_mib * MIB
        host = limit or memory_share(comm, CPU)
        if where.type != "cuda":
            return cls(None, host, config.states.disk_mib * MIB)
        share, total = memory_share(comm, where), total_gpu_memory(where)
        network = network_bytes(config, sample_shape, width)
        left = int(total * UNKNOWN_NETWORK) if network is None else network + int(GAPS * total)
        block = 0 if config.extractor.trained else _block_bytes(config, width)
        room = max(0, share - WORKSPACE - left - block)
        name = torch.cuda.get_device_name(where)
        return cls(min(limit or room, room), host, config.states.disk_mib * MIB, name)


def _block_bytes(config: Config, width: int) -> int:
    """Return the bytes of a GPU that the states of a block need while they are computed."""
    reservoir = config.reservoir
    nodes = 0 if reservoir.kind == "none" else reservoir.nodes
    return SLOT_BYTES + (reservoir.batch_rows or DEFAULT_BATCH_ROWS) * 4 * (4 * nodes + 3 * width)
