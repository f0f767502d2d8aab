"""The device of a rank: a GPU or the CPU."""

from __future__ import annotations

import os

import torch

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.launch import detect, number_from_environment

# For ranks whose launcher sets none: the first that is set counts.
_LOCAL_RANK_VARIABLES = ("OMPI_COMM_WORLD_LOCAL_RANK", "HOROVOD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")

CPU = torch.device("cpu")


def device() -> torch.device:
    """Return the GPU of this rank if torch sees any, otherwise the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    names = (detect().launcher.local_rank_variable, *_LOCAL_RANK_VARIABLES)
    local_rank = next((number_from_environment(name, 0) for name in names if os.environ.get(name)), 0)
    # At some sites each task sees only one device, with the number 0.
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def set_up_device(where: torch.device, config: Config) -> None:
    """Select the GPU of this rank and, in deterministic mode, algorithms that repeat to the bit; nothing on a CPU.

    torch warns about operations without such an algorithm. Call this before any computation, because cuBLAS reads its
    variable only once.

    Parameters
    ----------
    where : torch.device
        The device of this rank.
    config : Config
    """
    if where.type != "cuda":
        return
    torch.cuda.set_device(where)
    if config.parallel.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Filling each new tensor with NaN takes a launch of its own; no operation here reads what it has not written.
        torch.utils.deterministic.fill_uninitialized_memory = False


def refuse_without_gpu(config: Config, where: torch.device) -> None:
    """Raise an `InputError` if settings for GPUs are used on another device."""
    if where.type == "cuda":
        return
    if config.training.precision == "fp16":
        raise InputError(
            "training.precision = 'fp16' is for GPUs, and torch sees none here: few CPUs multiply float16. Set it to "
            "'bf16', which needs no scaling, or to 'fp32'."
        )
    if config.training.graph == "on":
        raise InputError(
            "training.graph = 'on' is for GPUs, and this training runs on the CPU: CUDA graphs need a GPU. "
            "Set it to 'auto'."
        )
