"""The device that a rank computes on."""

from __future__ import annotations

import os

import torch

_LOCAL_RANK_VARIABLES = ("OMPI_COMM_WORLD_LOCAL_RANK", "HOROVOD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")


def device() -> torch.device:
    """Return this rank's GPU where torch sees any, and the CPU otherwise."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local_rank = next((int(os.environ[name]) for name in _LOCAL_RANK_VARIABLES if name in os.environ), 0)
    # Some sites show each task a single device, number 0.
    return torch.device("cuda", local_rank % torch.cuda.device_count())
