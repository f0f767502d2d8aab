"""The run's own copy of the reservoir matrices that the user provides (``reservoir.matrices``).

A run reads its copy, so that it can be resumed and moved after the user's file changed or disappeared. The copy records
the SHA-256 of the user's file; another file in its place is refused.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rcdp_hpc.config import Config
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.pipeline.requirements import require_torch
from rcdp_hpc.runtime.digests import file_sha256
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.rundir import RunDirectory


def use_run_matrices(config: Config, run: RunDirectory, discarded: Collection[str] = ()) -> Config:
    """Return the configuration with ``reservoir.matrices`` set to the run's copy, if the user provides matrices.

    The copy is made by the first stage that needs it. Later stages check that the user's file is still the same.

    Parameters
    ----------
    config : Config
    run : RunDirectory
    discarded : collection of str
        Stages whose results a restart is about to put aside. They do not bind the run to its copy.

    Raises
    ------
    InputError
        If the user's matrices cannot be used, or differ from those that the search or the training used.
    DataDamagedError
        If the copy is damaged.
    """
    source = config.reservoir.matrices
    copy = run.matrices
    if any(run.folder(stage).exists() for stage in ("search", "train") if stage not in discarded):
        _refuse_other_matrices(source, copy)
    elif not source:
        copy.unlink(missing_ok=True)
    elif Path(source) != copy:
        _copy_matrices(config, run)
    else:
        _original_digest(copy)
    if not source:
        return config
    return config.model_copy(update={"reservoir": config.reservoir.model_copy(update={"matrices": str(copy)})})


def _refuse_other_matrices(source: str, copy: Path) -> None:
    remedy = "Choose another --out, or start search and train again with --restart."
    if bool(source) != copy.exists():
        before, now = ("from a file", "random") if copy.exists() else ("random", f"from {source}")
        raise InputError(
            f"{copy.parent}: the reservoir's matrices were {before} when this run started, and are now {now} "
            f"(reservoir.matrices). {remedy}"
        )
    if not source:
        return
    original = _original_digest(copy)
    # The run continues with its copy if the user's file no longer exists.
    if Path(source) != copy and Path(source).exists() and original not in _digests(Path(source)):
        raise InputError(
            f"reservoir.matrices = {source}: the file has changed since {copy.parent} was started with it (its copy is "
            f"{copy.name}). Restore the file, or: {remedy}"
        )


def _copy_matrices(config: Config, run: RunDirectory) -> None:
    require_torch()
    from rcdp_hpc.data.shards.reader import ShardReader
    from rcdp_hpc.reservoir.kept_steps import input_features
    from rcdp_hpc.reservoir.matrix_files import read_matrices, write_run_copy
    from rcdp_hpc.reservoir.sequencing import Sequencer

    reservoir = config.reservoir
    _, features = Sequencer.of(reservoir).shape(ShardReader(run.shards, verify=False).sample_shape)
    # Matrices are checked before they are copied, so that the message names the user's own file.
    matrices = read_matrices(reservoir.matrices, reservoir.nodes, input_features(reservoir, features))
    write_run_copy(run.matrices, matrices, _digest(Path(reservoir.matrices)))


def _original_digest(copy: Path) -> str:
    """Return the SHA-256 of the file that the run's copy was made from; raise a `DataDamagedError` if it is damaged."""
    from rcdp_hpc.reservoir.matrix_files import original_of

    try:
        return original_of(copy)
    except DataDamagedError as error:
        raise DataDamagedError(
            f"{error} Restore the copy from a backup, or start search and train again with --restart and your own file."
        ) from None


def _digests(source: Path) -> tuple[str, ...]:
    """Return the SHA-256 of a file of matrices and, if it is the copy of a run, of that copy's original.

    A run directory that was copied elsewhere still names the copy in the first directory.
    """
    from rcdp_hpc.runtime.sealed_zip import has_seal

    return (_digest(source), _original_digest(source)) if has_seal(source) else (_digest(source),)


def _digest(path: Path) -> str:
    with os_errors_explained(path):
        return file_sha256(path)
