"""The resolved configuration of a run: defaults of the data, own matrices, kernel, winner of the search."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rcdp_hpc.config import Config, with_kind_defaults
from rcdp_hpc.errors import (
    DataDamagedError,
    InputError,
)
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agreed
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.text import wrap_items
from rcdp_hpc.runtime.threads import threads_per_rank

log = logging.getLogger(__name__)


# Samples at once of a reservoir of kind "diagonal", whose cells take as many of them as pay.
DIAGONAL_ROWS = 512


def refuse_impossible_reservoir(config: Config) -> None:
    """Refuse a reservoir that cannot exist, unless its size still waits for the kind of data."""
    if config.chosen is not None and not {"reservoir.nodes", "reservoir.density"} <= config.chosen:
        return
    from rcdp_hpc.reservoir.feasible import check_reservoir

    check_reservoir(config)


def need_torch() -> None:
    """Raise an `InputError` where torch is missing, before a stage imports what builds on it."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise agreed(
            InputError(
                f"this stage needs torch, which cannot be imported ({error}). Run `make setup`, or see `rcdp doctor`."
            )
        ) from None


def with_own_matrices(config: Config, run: RunDirectory, anew: Sequence[str]) -> Config:
    """Let the run read its own copy of matrices that the user gave; make the copy, or see that it is still the same.

    Results of the stages in `anew` do not count: they are about to be put aside.
    """
    given, copy = config.reservoir.matrices, run.matrices
    if any(run.folder(stage).exists() for stage in ("search", "train") if stage not in anew):
        _refuse_other_matrices(given, copy)
    elif given:
        if Path(given) != copy:
            _copy_matrices(config, run)
        else:
            _original_of(copy)
    else:
        copy.unlink(missing_ok=True)
    if not given:
        return config
    return config.model_copy(update={"reservoir": config.reservoir.model_copy(update={"matrices": str(copy)})})


def _refuse_other_matrices(given: str, copy: Path) -> None:
    way_out = "Choose another --out, or start search and train over with --restart."
    if bool(given) != copy.exists():
        before, now = ("given", "to be drawn") if copy.exists() else ("drawn", f"to be read from {given}")
        raise InputError(
            f"{copy.parent}: the reservoir's matrices were {before} and are now {now} (reservoir.matrices). {way_out}"
        )
    if not given:
        return
    original = _original_of(copy)
    # A file that is gone is not missed: the copy is what the run was made with.
    if Path(given) != copy and Path(given).exists() and original not in _digests_of(Path(given)):
        raise InputError(
            f"reservoir.matrices = {given}: the file has changed since {copy.parent} was begun with it, whose copy is "
            f"{copy.name}. Put it back, or: {way_out}"
        )


def _copy_matrices(config: Config, run: RunDirectory) -> None:
    need_torch()
    from rcdp_hpc.data.shards.reader import ShardSet
    from rcdp_hpc.reservoir.kept_steps import input_features
    from rcdp_hpc.reservoir.matrix_files import read_matrices, write_run_copy
    from rcdp_hpc.reservoir.sequencing import Sequencer

    reservoir = config.reservoir
    _, features = Sequencer.of(reservoir).shape(ShardSet(run.shards, verify=False).sample_shape)
    # Only what can be used is copied, so that the message names the user's own file.
    given = read_matrices(reservoir.matrices, reservoir.nodes, input_features(reservoir, features))
    write_run_copy(run.matrices, given, _sha256(Path(reservoir.matrices)))


def _original_of(copy: Path) -> str:
    """Return the SHA-256 of the file that the run's copy of matrices was made of; raise if the copy is damaged."""
    from rcdp_hpc.reservoir.matrix_files import original_of

    try:
        return original_of(copy)
    except DataDamagedError as error:
        raise DataDamagedError(
            f"{error} Put a copy back, or start search and train over with --restart and your own file."
        ) from None


def _digests_of(given: Path) -> tuple[str, ...]:
    """Return the SHA-256 of a file of matrices; of a run's copy also that of its original.

    A run directory that was copied still names the copy of the first one.
    """
    from rcdp_hpc.runtime.sealed_zip import has_seal

    return (_sha256(given), _original_of(given)) if has_seal(given) else (_sha256(given),)


def _sha256(path: Path) -> str:
    with os_errors_explained(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def with_defaults_of_data(config: Config, run: RunDirectory) -> Config:
    """Set the keys that wait for the kind of data, once there are shards, here and in config.toml."""
    if config.chosen is None:
        return config
    from rcdp_hpc.data.shards.index import INDEX_NAME, facts_in, load_index

    if not (run.shards / INDEX_NAME).exists():
        return config
    facts = facts_in(load_index(run.shards))
    # Whether a stage accepts the settings of this command is not known yet: the file's own are completed.
    with suppress(InputError):
        run.write_config(with_kind_defaults(run.config(), facts))
    return with_kind_defaults(config, facts)


def threads_of(config: Config, comm: Communicator) -> int:
    """Return the threads that most states will be computed with. Collective."""
    if config.has_search:
        return config.search.threads
    return config.training.threads or threads_per_rank(comm)


def with_kernel(config: Config, run: RunDirectory, threads: int) -> Config:
    """Choose the reservoir's kernel by measuring, where that is not done yet, and record the choice."""
    chosen = config.reservoir.kernel != "auto" and config.reservoir.batch_rows
    if config.training.extractor.kind not in ("none", "kernels") or config.reservoir.kind == "none" or chosen:
        return config
    if config.reservoir.kind == "diagonal":
        pinned = "dense-fp32" if config.reservoir.kernel == "auto" else str(config.reservoir.kernel)
        rows = config.reservoir.batch_rows or DIAGONAL_ROWS
        run.write_config(_pinned(run.config(), pinned, rows))
        return _pinned(config, pinned, rows)
    need_torch()
    from rcdp_hpc.data.shards.reader import ShardSet
    from rcdp_hpc.reservoir.calibrate import choose_batch_rows, choose_kernel, default_cache
    from rcdp_hpc.reservoir.precision import ROWS, Rounding, furthest, measure_rounding
    from rcdp_hpc.reservoir.sequencing import Sequencer

    reservoir, cache = config.reservoir, default_cache()
    shards = ShardSet(run.shards, verify=False)
    _, features = Sequencer.of(reservoir).shape(shards.sample_shape)
    kernel, rows = str(reservoir.kernel), reservoir.batch_rows
    if kernel == "auto":
        density = 1.0 if reservoir.weights == "orthogonal" else reservoir.density

        def rounding(name: str) -> Rounding:
            found = shards.read("train", 0, min(ROWS, shards.rows("train")))
            return measure_rounding(furthest(config), name, found.x, found.y, found.length)

        kernel = choose_kernel(
            reservoir.nodes, features, rows, threads, density=density, cache=cache, rounding=rounding
        )
    if not rows:
        rows = choose_batch_rows(reservoir.nodes, features, kernel, threads, cache=cache)
    # Only the choice is recorded now; whether the stage accepts the other settings is not known yet.
    run.write_config(_pinned(run.config(), kernel, rows))
    return _pinned(config, kernel, rows)


def with_winner(config: Config, run: RunDirectory) -> Config:
    """Put the search's winner into the settings that training reads."""
    if not config.has_search:
        return config
    from rcdp_hpc.search.records.best import read_best, shown
    from rcdp_hpc.search.space import with_values

    if not run.best_candidate.exists():
        raise InputError(
            f"{run.best_candidate}: no search has been finished there. Run `rcdp prepare` and `rcdp search` first, or "
            "train with the configured reservoir: --set search.generations=0."
        )
    best = read_best(run.best_candidate)
    for line in wrap_items("best candidate: ", [f"{name} = {shown(value)}" for name, value in best.items()]):
        log.info("%s", line)
    return with_values(config, best)


def _pinned(config: Config, kernel: str, rows: int) -> Config:
    pinned = {"kernel": kernel, "batch_rows": rows}
    return config.model_copy(update={"reservoir": config.reservoir.model_copy(update=pinned)})


def with_recorded_kernel(config: Config, run: RunDirectory, stages: Sequence[str]) -> Config:
    """Return the configuration with the kernel and block chosen here before; write it down if there is none yet."""
    if not run.config_file.exists():
        if list(stages) != ["evaluate"]:
            run.write_config(config)
    else:
        run.preserve_user_config()
        before, now = run.config().reservoir, config.reservoir
        kernel = before.kernel if now.kernel == "auto" else now.kernel
        config = _pinned(config, kernel, now.batch_rows or before.batch_rows)
    return config
