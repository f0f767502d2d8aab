"""The resolved configuration of a stage: the user's settings, completed by the data, the machine and the search."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from rcdp_hpc.config import Config, ReservoirSection, largest_candidate, with_kind_defaults
from rcdp_hpc.config.choices import KERNELS
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline.devices import search_device, training_device
from rcdp_hpc.pipeline.requirements import require_torch
from rcdp_hpc.pipeline.run_extractor import use_run_extractor
from rcdp_hpc.pipeline.run_matrices import use_run_matrices
from rcdp_hpc.runtime.comm.gpus import RankGPU, most_sharing, ranks_of_gpu
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.text import wrap_items
from rcdp_hpc.search.effective import with_effective_space

log = logging.getLogger(__name__)

# Batch rows of a reservoir of kind "diagonal": its cells compute large blocks most efficiently.
DIAGONAL_ROWS = 512


@dataclass(frozen=True)
class ResolvedConfig:
    """The settings of one stage.

    Attributes
    ----------
    recorded : Config
        The user's settings, completed. State files record them, and the next stage of the job starts from them.
    effective : Config
        The settings that the stage runs with: `recorded`, and for the stage "train" the best candidate of the search
        in place of the configured values.
    """

    recorded: Config
    effective: Config


def resolve(
    config: Config,
    run: RunDirectory,
    stage: str,
    fair_threads: int = 1,
    discarded: Collection[str] = (),
    allow_code: bool = False,
    gpus: Sequence[RankGPU] = (),
) -> ResolvedConfig:
    """Complete the user's settings for one stage of a run.

    The steps, in this order:

    1. All stages: a new run directory gets its ``config.toml``. In an earlier one, ``reservoir.kernel = "auto"`` and
       ``reservoir.batch_rows = 0`` take the values that the run chose before.
    2. After the preparation: keys that depend on the kind of data take their defaults.
    3. With ``extractor.kind = "pretrained"``: the settings of the extractor in ``extractor.model``; search and training
       copy it into the run directory.
    4. Search and training: a reservoir that cannot exist is refused; ``reservoir.matrices`` becomes the run's own copy
       of the user's file.
    5. Search: ``search.device = "auto"`` becomes "cpu" or "gpu", in ``config.toml`` as well.
    6. Search and training: kernel and batch rows are measured on the device that computes most states, unless they are
       set, and written to ``config.toml``. On a GPU batch rows that the command leaves at their default are measured,
       too: it needs larger blocks than a CPU.
    7. Search: ``search.candidates_at_once = 0`` becomes a number, in ``config.toml`` as well.
    8. Training: the best candidate of the search replaces the configured values.
    9. Training and evaluation: ``training.device = "auto"`` becomes "cpu" or "gpu". It is not recorded, and may be
       another one when a run is resumed on another machine.

    The function reads and writes the run directory, so only rank 0 calls it, with the lock held.

    Parameters
    ----------
    config : Config
        Settings of the command; all paths absolute.
    run : RunDirectory
    stage : {"prepare", "search", "train", "evaluate"}
    fair_threads : int
        Threads that each rank may use (`rcdp_hpc.runtime.threads.threads_per_rank`). The kernel is measured with this
        number, unless the configuration sets one.
    discarded : collection of str
        Stages whose results a restart is about to put aside.
    allow_code : bool
        Import a class that the model file of ``extractor.model`` names.
    gpus : sequence of RankGPU
        The GPU of each rank (`rcdp_hpc.pipeline.devices.gpus_for`); empty if none is used.

    Raises
    ------
    InputError
        If the reservoir cannot exist, matrices or extractor are not those the run started with, or no search has
        finished.
    DataDamagedError
        If a file of the run directory is damaged.
    """
    leaves_rows = "batch_rows" not in config.reservoir.model_fields_set
    config = _with_earlier_kernel(config, run, stage, leaves_rows)
    if stage != "prepare":
        config = with_data_defaults(config, run)
    config = use_run_extractor(config, run, stage, discarded, allow_code)
    if stage in ("search", "train"):
        refuse_impossible_reservoir(config)
        refuse_broken_classes(config)
        config = use_run_matrices(config, run, discarded)
        config = _with_search_device(config, run, stage, discarded, gpus)
        device = _most_used_device(config, run, gpus, fair_threads)
        config = _with_kernel(
            config, run, _most_used_threads(config, fair_threads), device, leaves_rows, max(1, len(gpus))
        )
        config = _with_candidates_at_once(config, run, stage, discarded, device, gpus)
    effective = _with_best_candidate(config, run) if stage == "train" else config
    if stage in ("train", "evaluate"):
        chosen = training_device(effective, run, gpus, fair_threads, quiet=stage == "evaluate")
        training = effective.training.model_copy(update={"device": chosen})
        effective = effective.model_copy(update={"training": training})
    return ResolvedConfig(config, effective)


def _with_search_device(
    config: Config, run: RunDirectory, stage: str, discarded: Collection[str], gpus: Sequence[RankGPU]
) -> Config:
    """Return the configuration with the device of the search: that of an earlier start, or the chosen one."""
    if not config.has_search or config.search.device != "auto":
        return config
    device = _earlier_search_device(run, discarded)
    if device is None and stage != "search":
        return config
    if device is None:
        device = search_device(config, run, gpus)
        before = run.config()
        run.write_config(before.model_copy(update={"search": before.search.model_copy(update={"device": device})}))
    return config.model_copy(update={"search": config.search.model_copy(update={"device": device})})


def _earlier_search_device(run: RunDirectory, discarded: Collection[str]) -> str | None:
    """Return the device of a search that has started in this run; None if there is none, or it is put aside."""
    recorded = run.config().search.device
    return recorded if _search_started(run, discarded) and recorded != "auto" else None


def _search_started(run: RunDirectory, discarded: Collection[str]) -> bool:
    """Return whether the run has a search that is not about to be put aside."""
    return "search" not in discarded and run.search.exists() and any(run.search.iterdir())


def _with_candidates_at_once(
    config: Config,
    run: RunDirectory,
    stage: str,
    discarded: Collection[str],
    device: str,
    gpus: Sequence[RankGPU],
) -> Config:
    """Return the configuration with the number of candidates at once: that of an earlier start, or the chosen one."""
    if not config.has_search or config.search.candidates_at_once:
        return config
    recorded = run.config().search.candidates_at_once if _search_started(run, discarded) else 0
    if not recorded and stage != "search":
        return config
    count = recorded or _chosen_at_once(config, run, device, gpus)
    if not recorded:
        before = run.config()
        search = before.search.model_copy(update={"candidates_at_once": count})
        run.write_config(before.model_copy(update={"search": search}))
    return config.model_copy(update={"search": config.search.model_copy(update={"candidates_at_once": count})})


def _chosen_at_once(config: Config, run: RunDirectory, device: str, gpus: Sequence[RankGPU]) -> int:
    """Return the number of candidates at once for a search on this device, and log it if there are several."""
    if device == "cpu" or config.search.evaluation != "ridge":
        return 1
    import torch

    from rcdp_hpc.data.shards.reader import ShardReader
    from rcdp_hpc.search.at_once import chosen_at_once
    from rcdp_hpc.search.effective import evaluated_shape

    shards = ShardReader(run.shards, verify=False)
    shape, classes = evaluated_shape(config, shards.sample_shape), len(shards.classes)
    unequal, rows = bool(shards.layout.has_lengths), shards.rows("train")
    count = chosen_at_once(config, shape, rows, classes, unequal, torch.device(device), most_sharing(gpus))
    if count > 1:
        log.info("search.candidates_at_once = %d was chosen for %s", count, device)
    return count


def _most_used_device(config: Config, run: RunDirectory, gpus: Sequence[RankGPU], threads: int) -> str:
    """Return torch's name of the device with which most states of the run are computed, on this rank."""
    if not ranks_of_gpu(gpus):
        return "cpu"
    from rcdp_hpc.runtime.device import device

    if config.has_search and config.search.device != "auto":
        return str(device(config.search.device, "search.device"))
    return str(device(training_device(config, run, gpus, threads, quiet=True)))


def refuse_impossible_reservoir(config: Config) -> None:
    """Raise an `InputError` if a reservoir cannot exist; one whose size depends on the data is checked later."""
    if config.chosen is not None and not {"reservoir.nodes", "reservoir.density"} <= config.chosen:
        return
    from rcdp_hpc.reservoir.feasible import check_reservoir

    check_reservoir(config)


def refuse_empty_search(config: Config) -> None:
    """Raise an `InputError` if the search that the user asks for has no dimension that has an effect."""
    if config.chosen is None or "search.generations" in config.chosen:
        with_effective_space(config)


def refuse_broken_classes(config: Config) -> None:
    """Raise an `InputError` if the user's own optimiser, loss or schedule of the training breaks its contract."""
    from rcdp_hpc.training.optim.user_choices import check_user_choices

    check_user_choices(config)


def with_data_defaults(config: Config, run: RunDirectory) -> Config:
    """Return the configuration with the defaults that depend on the kind of data; ``config.toml`` gets them, too.

    Before the preparation has written an index, and if no key is left to complete, nothing changes.
    """
    if config.chosen is None:
        return config
    from rcdp_hpc.data.shards.index import INDEX_NAME, facts_in, load_index

    if not (run.shards / INDEX_NAME).exists():
        return config
    facts = facts_in(load_index(run.shards))
    # The stage may still refuse the settings of this command, so config.toml keeps its own, completed.
    with suppress(InputError):
        run.write_config(with_kind_defaults(run.config(), facts))
    return with_kind_defaults(config, facts)


def _with_earlier_kernel(config: Config, run: RunDirectory, stage: str, leaves_rows: bool) -> Config:
    """Return the configuration with the kernel and batch rows that the run chose before; write a first config.toml."""
    if not run.config_file.exists():
        if stage != "evaluate":
            run.write_config(config)
        return config
    run.preserve_user_config()
    before, now = run.config().reservoir, config.reservoir
    # A measurement chooses a kernel of the table. Any other name in the file is code, which the command did not name.
    measured = now.kernel == "auto" and before.kernel in KERNELS
    rows = 0 if leaves_rows else now.batch_rows
    return _with_fixed_kernel(config, before.kernel if measured else now.kernel, rows or before.batch_rows)


def _most_used_threads(config: Config, fair_threads: int) -> int:
    """Return the threads with which most states of the run are computed."""
    if config.has_search:
        return config.search.threads
    return config.training.threads or fair_threads


def _with_kernel(
    config: Config, run: RunDirectory, threads: int, device: str, leaves_rows: bool = False, ranks: int = 1
) -> Config:
    """Return the configuration with a kernel and batch rows, measured if they are not set, and record them."""
    reservoir = config.reservoir
    if config.extractor.makes_sequences or reservoir.kind == "none":
        return config
    is_default = leaves_rows and reservoir.batch_rows == ReservoirSection().batch_rows
    rows = 0 if device != "cpu" and is_default else reservoir.batch_rows
    if reservoir.kernel != "auto" and rows:
        return config
    if reservoir.kind == "diagonal":
        kernel = "dense-fp32" if reservoir.kernel == "auto" else str(reservoir.kernel)
        rows = rows or DIAGONAL_ROWS
    else:
        unmeasured = _with_fixed_kernel(config, str(reservoir.kernel), rows)
        kernel, rows = _measured_kernel(unmeasured, run, threads, device, ranks)
    # The stage may still refuse the other settings of this command, so only the choice is recorded now.
    run.write_config(_with_fixed_kernel(run.config(), kernel, rows))
    return _with_fixed_kernel(config, kernel, rows)


def _measured_kernel(config: Config, run: RunDirectory, threads: int, device: str, ranks: int = 1) -> tuple[str, int]:
    """Return the fastest kernel whose rounding does no harm, and its batch rows, for this device and these samples."""
    require_torch()
    from rcdp_hpc.data.shards.reader import ShardReader
    from rcdp_hpc.reservoir.calibrate import choose_batch_rows, choose_kernel, default_cache
    from rcdp_hpc.reservoir.precision import ROWS, Rounding, furthest, measure_rounding
    from rcdp_hpc.reservoir.sequencing import Sequencer

    # The largest candidate of a search takes most of the time.
    reservoir, cache = largest_candidate(config).reservoir, default_cache()
    shards = ShardReader(run.shards, verify=False)
    steps, features = Sequencer.of(reservoir).shape(shards.sample_shape)
    kernel, rows = str(reservoir.kernel), reservoir.batch_rows
    if kernel == "auto":
        density = 1.0 if reservoir.weights == "orthogonal" else config.reservoir.density

        def rounding(name: str) -> Rounding:
            block = shards.read("train", 0, min(ROWS, shards.rows("train")))
            return measure_rounding(furthest(config), name, block.x, block.y, block.length, device)

        kernel = choose_kernel(
            reservoir.nodes, features, rows, threads, device, density=density, cache=cache, rounding=rounding
        )
    most = math.ceil(shards.rows("train") / ranks)
    return kernel, rows or choose_batch_rows(
        reservoir.nodes, features, kernel, threads, device, cache=cache, steps=steps, rows=most
    )


def _with_fixed_kernel(config: Config, kernel: str, rows: int) -> Config:
    reservoir = config.reservoir.model_copy(update={"kernel": kernel, "batch_rows": rows})
    return config.model_copy(update={"reservoir": reservoir})


def _with_best_candidate(config: Config, run: RunDirectory) -> Config:
    """Return the configuration with the values of the search's best candidate; unchanged if there is no search."""
    if not config.has_search:
        return config
    from rcdp_hpc.search.records.best import format_value, read_best
    from rcdp_hpc.search.space import with_values

    if not run.best_candidate.exists():
        raise InputError(
            f"{run.best_candidate}: does not exist, so no search has finished. Run `rcdp prepare` and `rcdp search` "
            "first, or train with the configured reservoir: --set search.generations=0."
        )
    best = read_best(run.best_candidate)
    for line in wrap_items("best candidate: ", [f"{name} = {format_value(value)}" for name, value in best.items()]):
        log.info("%s", line)
    return with_values(config, best)
