"""A trial run: all stages in a minute, with a part of the data and of the work."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from rcdp_hpc.config import Config, flatten, to_tree, with_settings
from rcdp_hpc.config.paths import absolute_path
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.lock import RunLock
from rcdp_hpc.runtime.owners import writer_of
from rcdp_hpc.runtime.rundir import RunDirectory

# Upper limits of a trial. Keys that the configuration leaves out keep the defaults of the kind of data.
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
    """Return the configuration of a trial: at most `SAMPLES` samples, and keys limited by `MOST`."""
    settings = flatten(to_tree(config))
    most = config.data.max_samples
    changes: dict[str, Any] = {"data.max_samples": min(most, SAMPLES) if most else SAMPLES}
    for key, value in MOST.items():
        if (config.chosen is None or key in config.chosen) and settings[key] > value:
            changes[key] = value
    if config.data.balance_counts:
        changes["data.balance_counts"] = []
    counts = config.data.class_keep_counts
    if counts:
        changes["data.class_keep_counts"] = []
        changes["data.class_keep_fractions"] = [max(count, 1) / max(*counts, 1) for count in counts]
    return with_settings(config, changes, where="of the trial")


def trial_folder(out: Path) -> Path:
    """Return the directory of the trial of a run, RUN-trial, after removing an earlier trial.

    Raises
    ------
    InputError
        If RUN-trial exists and is not a trial, or a trial is running there.
    """
    place = absolute_path(out).resolve() if out.name in ("", "..") else out
    folder = place.with_name(f"{place.name}-trial")
    if not folder.exists():
        return folder
    run = RunDirectory(folder)
    if not run.config_file.exists() or not 0 < run.config().data.max_samples <= SAMPLES:
        raise InputError(
            f"{folder}: exists and is not a trial, so it is not replaced. Choose another --out, or move the folder."
        )
    with RunLock(run.lock), os_errors_explained(folder):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != run.lock and writer_of(path) is None:
                path.unlink()
    return folder
