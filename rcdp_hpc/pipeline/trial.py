"""A trial: all stages on a share of the data and of the work, a minute before a night on the cluster."""

from __future__ import annotations

import shutil
from pathlib import Path

from rcdp_hpc.config import Config, flatten, to_tree, with_settings
from rcdp_hpc.config.paths import absolute_path
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.lock import RunLock
from rcdp_hpc.runtime.owners import writer_of
from rcdp_hpc.runtime.rundir import RunDirectory

# What a trial uses at most. Keys that the configuration leaves out keep the defaults of the kind of data.
MOST = {
    "search.population": 4,
    "search.generations": 1,
    "search.folds": 2,
    "search.train_rows": 1000,
    "search.validation_rows": 500,
    "training.epochs": 3,
    "extractor.patches": 20_000,
}
SAMPLES = 1000


def trial_of(config: Config) -> Config:
    """Return a configuration for a trial: at most `SAMPLES` samples, and no key of `MOST` above its value."""
    settings = flatten(to_tree(config))
    most = config.data.max_samples
    changes = {"data.max_samples": min(most, SAMPLES) if most else SAMPLES}
    for key, value in MOST.items():
        if (config.chosen is None or key in config.chosen) and settings[key] > value:
            changes[key] = value
    if config.data.balance_counts:
        changes["data.balance_counts"] = []  # type: ignore[assignment]
    return with_settings(config, changes, where="of the trial")


def trial_folder(out: Path) -> Path:
    """Return the run directory of the trial of a run, RUN-trial; an earlier trial there is removed.

    Raises
    ------
    InputError
        If there is something else in its place, or a trial is running there.
    """
    place = absolute_path(out).resolve() if out.name in ("", "..") else out
    folder = place.with_name(f"{place.name}-trial")
    if not folder.exists():
        return folder
    run = RunDirectory(folder)
    if not run.config_file.exists() or not 0 < run.config().data.max_samples <= SAMPLES:
        raise InputError(f"{folder}: not an earlier trial, so it is not replaced. Choose another --out, or move it.")
    with RunLock(run.lock), os_errors_explained(folder):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != run.lock and writer_of(path) is None:
                path.unlink()
    return folder
