"""Which device computes a stage: ``search.device`` and ``training.device``, for the ranks of a job.

"auto" is the GPU if every rank has one and the estimated work of a rank (`rcdp_hpc.training.work`) takes longer on its
processors. Small work is faster there, because a GPU needs seconds to start and a call of torch as long as the work of
many small steps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline.requirements import require_torch
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed
from rcdp_hpc.runtime.comm.gpus import RankGPU, gather_gpus, most_sharing, ranks_of_gpu, refuse_shared_gpus
from rcdp_hpc.runtime.comm.gpus import sharing_text as sharing
from rcdp_hpc.runtime.rundir import RunDirectory

if TYPE_CHECKING:
    from rcdp_hpc.training.work import Work

log = logging.getLogger(__name__)

COMPUTING = ("search", "train", "evaluate")


def gpus_for(stages: Collection[str], comm: Communicator) -> list[RankGPU]:
    """Return the GPU that each rank can use, by rank; an empty list for stages that use none. Collective."""
    if not set(stages) & set(COMPUTING):
        return []
    require_torch()
    from rcdp_hpc.runtime.device import device

    return gather_gpus(comm, device())


def set_up_libraries(config: Config, gpu: RankGPU) -> None:
    """Set what libraries of a rank's GPU read once, before the measurement of a kernel uses them; nothing on a CPU."""
    if gpu.identity:
        from rcdp_hpc.runtime.device import set_workspaces

        set_workspaces(config)


def refuse_missing_gpus(config: Config, stages: Collection[str], comm: Communicator) -> None:
    """Refuse settings that demand GPUs which ranks lack, before the preparation. Collective.

    Raises
    ------
    InputError
        On all ranks, if a key is "gpu" and a rank has no GPU, or ranks that train together share one.
    """
    keys = _demanding(config, stages)
    trains = "train" in stages and config.readout.trained
    if not keys and not (trains and _demands(config)):
        return
    from rcdp_hpc.runtime.device import CPU, no_gpu_text, refuse_without_gpu, without_gpu

    gpus = gpus_for(stages, comm)
    texts = comm.allgather("" if gpus[comm.rank].identity else no_gpu_text())
    without = [rank for rank, text in enumerate(texts) if text]
    if without and not keys:
        agree(comm, lambda: refuse_without_gpu(config, CPU))
    if without:
        first = without[0]
        place = f" (rank {first}, host {gpus[first].host}; {len(without)} of {comm.size} ranks)"
        found = texts[first] + (place if comm.size > 1 else "")
        raise agreed(InputError(f"{keys[0]} = 'gpu', and {found}: {without_gpu(keys[0])}"))
    if trains and ("training.device" in keys or _demands(config)):
        refuse_shared_gpus(gpus)


def _demanding(config: Config, stages: Collection[str]) -> list[str]:
    """Return the keys that are "gpu" and that one of the stages reads."""
    keys = []
    if "search" in stages and config.has_search and config.search.device == "gpu":
        keys.append("search.device")
    if {"train", "evaluate"} & set(stages) and config.training.device == "gpu":
        keys.append("training.device")
    return keys


def refuse_shared_later(config: Config, run: RunDirectory, gpus: Sequence[RankGPU], threads: int) -> None:
    """Raise an `InputError` before a search if the training after it will use GPUs that ranks share."""
    if config.readout.trained and sharing(gpus) and training_device(config, run, gpus, threads, quiet=True) == "gpu":
        refuse_shared_gpus(gpus)


def training_device(
    config: Config, run: RunDirectory, gpus: Sequence[RankGPU], threads: int, quiet: bool = False
) -> str:
    """Return "cpu" or "gpu" for training and evaluation, and log the choice of "auto" and its reason.

    Parameters
    ----------
    config : Config
        With the values of the best candidate.
    run : RunDirectory
        Its shards are prepared.
    gpus : sequence of RankGPU
        Of all ranks.
    threads : int
        Threads that each rank may use.
    quiet : bool
        Log nothing.
    """
    from rcdp_hpc.training.work import training_work

    if config.training.device != "auto":
        return config.training.device
    doing = "trains" if config.readout.trained else "solves the readout"
    threads = config.training.threads or threads
    estimate = partial(_work, config, run, len(gpus), training_work)
    return _chosen("training.device", doing, gpus, threads, estimate, _demands(config), quiet)


def _demands(config: Config) -> bool:
    """Return whether settings of a training need a GPU."""
    training = config.training
    needs = training.precision == "fp16" or training.graph == "on" or config.parallel.horovod.hierarchical
    return needs and config.readout.trained


def search_device(config: Config, run: RunDirectory, gpus: Sequence[RankGPU]) -> str:
    """Return "cpu" or "gpu" for a search, and log the choice of "auto" and its reason; parameters as above."""
    from rcdp_hpc.search.work import search_work

    if config.search.device != "auto" or config.search.evaluation == "function":
        return "gpu" if config.search.device == "gpu" else "cpu"
    estimate = partial(_work, config, run, len(gpus), search_work)
    return _chosen("search.device", "evaluates candidates", gpus, config.search.threads, estimate)


def _work(
    config: Config, run: RunDirectory, ranks: int, estimate: Callable[[Config, Sequence[int], int, int], Work | None]
) -> Work | None:
    """Return an estimate for the prepared data; None if it is not known, as for settings that the stage refuses."""
    from rcdp_hpc.data.shards.index import load_index

    with suppress(InputError):
        index = load_index(run.shards)
        return estimate(config, tuple(index["sample_shape"]), index["splits"]["train"]["rows"], max(1, ranks))
    return None


def _chosen(
    key: str,
    doing: str,
    gpus: Sequence[RankGPU],
    threads: int,
    estimate: Callable[[], Work | None],
    demands: bool = False,
    quiet: bool = False,
) -> str:
    """Return "cpu" or "gpu", and log why if a rank has a GPU."""
    ranks = ranks_of_gpu(gpus)
    if not ranks:
        _report_hidden_gpus(key, quiet or not gpus)
        return "cpu"
    tell = log.debug if quiet else log.info
    without = sum(not gpu.identity for gpu in gpus)
    if without:
        tell("the CPU %s (%s = auto): %d of %d ranks have no GPU", doing, key, without, len(gpus))
        return "cpu"
    name, work = next(iter(ranks)).name, None if demands else estimate()
    if work is None:
        reason = "its settings are for GPUs" if demands else "the size of the work is not known"
        tell("the GPU %s %s (%s = auto): %s", name, doing, key, reason)
        return "gpu"
    on_cpu, on_gpu = work.cpu_seconds(threads), work.gpu_seconds(most_sharing(gpus))
    choice = "gpu" if on_gpu < on_cpu else "cpu"
    tell(
        "the %s %s (%s = auto): about %.0f s on %d thread%s, %.0f s on %s with its start",
        "CPU" if choice == "cpu" else "GPU", doing, key, on_cpu, threads, "" if threads == 1 else "s", on_gpu, name,
    )  # fmt: skip
    return choice


def _report_hidden_gpus(key: str, quiet: bool) -> None:
    """Log a warning if this host has GPUs and torch sees none."""
    from rcdp_hpc.runtime.device import gpus_of_driver, no_gpu_text

    if gpus_of_driver() and not quiet:
        log.warning("%s = auto: the CPU is used, because %s", key, no_gpu_text())
