"""The device of a rank: a GPU or the CPU."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.launch import local_rank

CPU = torch.device("cpu")
# Bytes of a GPU that libraries use besides tensors: workspaces, recordings, code.
WORKSPACE = 512 * 2**20


def device(choice: str = "auto", key: str = "training.device") -> torch.device:
    """Return the device of this rank.

    Parameters
    ----------
    choice : {"auto", "cpu", "gpu"}
        "auto" is the GPU of this rank if torch sees any, otherwise the CPU. The stages choose by the size of the work
        before (`rcdp_hpc.pipeline.devices`).
    key : str
        The key of the configuration, for the message.

    Raises
    ------
    InputError
        If `choice` is "gpu" and torch sees none.
    """
    if choice == "cpu":
        return CPU
    if not torch.cuda.is_available():
        if choice == "gpu":
            raise InputError(f"{key} = 'gpu', and {no_gpu_text()}: {without_gpu(key)}")
        return CPU
    # At some sites each task sees only one device, with the number 0.
    return torch.device("cuda", local_rank() % torch.cuda.device_count())


def no_gpu_text() -> str:
    """Return why torch sees no GPU here, as far as it is known."""
    drivers = gpus_of_driver()
    if not drivers:
        return "torch sees no GPU here"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return f"torch sees none of the {drivers} GPUs of this host: CUDA_VISIBLE_DEVICES hides them"
    if not torch.version.cuda:
        return f"torch sees none of the {drivers} GPUs of this host: torch {torch.__version__} is a build for CPUs"
    old = f"their driver may be older than CUDA {torch.version.cuda}"
    return f"torch sees none of the {drivers} GPUs of this host ({old})"


def without_gpu(key: str) -> str:
    """Return what to do if a setting demands a GPU and there is none."""
    return f"set {key} = 'cpu' (or 'auto'), or start on nodes with GPUs, with a build of torch for GPUs"


def free_gpu_memory(where: torch.device) -> int:
    """Return the free bytes of a GPU, including those that torch holds unused in this process."""
    free, _ = torch.cuda.mem_get_info(where)
    return int(free + torch.cuda.memory_reserved(where) - torch.cuda.memory_allocated(where))


def total_gpu_memory(where: torch.device) -> int:
    """Return the bytes of a GPU, whoever uses them."""
    return int(torch.cuda.get_device_properties(where).total_memory)


def gpus_of_driver(root: Path = Path("/proc/driver/nvidia/gpus")) -> int:
    """Return the number of GPUs that NVIDIA's driver reports; 0 without the driver."""
    try:
        return sum(1 for _ in root.iterdir())
    except OSError:
        return 0


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
    set_workspaces(config)
    if config.parallel.deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Filling each new tensor with NaN takes a launch of its own; no operation here reads what it has not written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def set_workspaces(config: Config) -> None:
    """In deterministic mode, set the workspaces with which cuBLAS repeats to the bit, before it is used first."""
    if config.parallel.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def refuse_without_gpu(config: Config, where: torch.device) -> None:
    """Raise an `InputError` if settings for GPUs are used on another device."""
    if where.type == "cuda":
        return
    if config.training.precision == "fp16":
        raise InputError(
            "training.precision = 'fp16' is for GPUs, and this training runs on the CPU: few CPUs multiply float16. "
            "Set it to 'bf16', which needs no scaling, or to 'fp32'."
        )
    if config.training.graph == "on":
        raise InputError(
            "training.graph = 'on' is for GPUs, and this training runs on the CPU: CUDA graphs need a GPU. "
            "Set it to 'auto'."
        )
