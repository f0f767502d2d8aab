"""Job arrays: seeds or configurations over the same shards, folds, or the cells of a comparison."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rcdp_hpc.config import Config, differing_keys, flatten, may_change, with_settings
from rcdp_hpc.data.shards.index import shard_settings
from rcdp_hpc.errors import InputError


@dataclass(frozen=True)
class Array:
    """The tasks of a job array. Seeds and configurations share the shards of one preparation.

    Attributes
    ----------
    stage : {"seeds", "configs", "folds", "cells"}
        What differs between the tasks.
    shared : Config
        Configuration of the preparation, of the cross-validation or of the comparison.
    names : tuple of str
        Run directories of the tasks, within the run directory of the array.
    configs : tuple of Config
        Configuration of each task. Empty if only the seed or the fold differs, which is then the number of the task.
    """

    stage: Literal["seeds", "configs", "folds", "cells"]
    shared: Config
    names: tuple[str, ...]
    configs: tuple[Config, ...] = ()


def make_array(text: str, load: Callable[[str | None], Config]) -> Array:
    """Return the job array for the value of ``--array``.

    Parameters
    ----------
    text : str
        ``seeds=N``, ``folds=K``, or ``configs=PLACE`` with a folder of TOML files or a pattern of file names.
    load : callable
        Returns the configuration of a file; for None, the configuration of the command.

    Raises
    ------
    InputError
        If the text has another form, no file matches, two files have the same name, or their shards would differ.
    """
    kind, _, value = text.partition("=")
    if kind == "seeds" and re.fullmatch(r"[1-9]\d{0,3}", value):
        names = tuple(f"seed-{seed}" for seed in range(1, int(value) + 1))
        return Array("seeds", _with_shard_seed(load(None)), names)
    if kind == "folds" and re.fullmatch(r"[1-9]\d{0,2}", value):
        names = tuple(f"fold-{fold}" for fold in range(1, int(value) + 1))
        folds = {"data.folds": int(value), "data.fold": 0}
        return Array("folds", with_settings(load(None), folds, where=f"of --array {text}"), names)
    if kind == "configs" and value:
        return _of_configurations(text, _files(value), load)
    raise InputError(
        f"--array {text}: expected seeds=N with N from 1 to 9999, as in --array seeds=10, folds=K with K from 2 to "
        "999, configs=FOLDER with a folder of TOML files, or cells (of a comparison)."
    )


def _files(place: str) -> list[Path]:
    path = Path(place).expanduser()
    matches = path.glob("*.toml") if path.is_dir() else map(Path, glob.glob(str(path), recursive=True))
    return sorted(file for file in matches if file.is_file())


def _of_configurations(text: str, files: list[Path], load: Callable[[str | None], Config]) -> Array:
    if not files:
        raise InputError(f"--array {text}: no TOML file matches.")
    names = [f"config-{file.stem}" for file in files]
    for at, name in enumerate(names):
        if name in names[:at]:
            raise InputError(
                f"--array {text}: {files[names.index(name)]} and {files[at]} would share the run directory {name}. "
                "Rename one."
            )
    configs = tuple(_with_shard_seed(load(str(file))) for file in files)
    for file, config in zip(files, configs, strict=True):
        _refuse_other_shards(files[0], configs[0], file, config)
    return Array("configs", configs[0], tuple(names), configs)


def _refuse_other_shards(first_file: Path, first: Config, file: Path, config: Config) -> None:
    one, other = shard_settings(first), shard_settings(config)
    differing = [key for key in differing_keys(one, other) if not may_change(key)]
    if differing:
        key = differing[0]
        values = [flatten(tree).get(key, "not set") for tree in (one, other)]
        raise InputError(
            f"{first_file} and {file} cannot share shards: {key} is {values[0]} in one and {values[1]} in the other. "
            "Submit configurations with different shards separately."
        )


def _with_shard_seed(config: Config) -> Config:
    """Return the configuration with an explicit seed of its shards, which the seeds of the tasks do not change."""
    return with_settings(config, {"data.seed": config.shard_seed}, where="the configuration")
