"""The run directory: paths of the files of each stage, and the recorded state of each stage."""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rcdp_hpc.config import Config, commented_toml, load_config
from rcdp_hpc.errors import DataDamagedError, InputError, StageFailedError
from rcdp_hpc.runtime.digests import read_sealed, sealed, write_sealed
from rcdp_hpc.runtime.files import os_errors_explained, overwrite_json, write_atomic, write_text

log = logging.getLogger(__name__)

Status = Literal["running", "stopped", "failed", "done"]


# Number of configurations that are remembered.
REMEMBERED = 8
_configs: dict[bytes, Config] = {}


@dataclass(frozen=True)
class RunDirectory:
    """The directory with all results of one configuration.

    Attributes
    ----------
    path : Path
        The directory, which need not exist yet.
    """

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.toml"

    @property
    def shards(self) -> Path:
        """Folder of HDF5 shards and their index (stage prepare)."""
        return self.path / "shards"

    @property
    def search(self) -> Path:
        """Folder of history, best candidate and checkpoint (stage search)."""
        return self.path / "search"

    @property
    def train(self) -> Path:
        """Folder of checkpoints, metrics and the model (stage train)."""
        return self.path / "train"

    @property
    def report(self) -> Path:
        """Folder of summary and pictures (stage evaluate)."""
        return self.path / "report"

    def folder(self, stage: str) -> Path:
        """Return the folder of the results of `stage`."""
        return {"prepare": self.shards, "search": self.search, "train": self.train, "evaluate": self.report}[stage]

    @property
    def best_candidate(self) -> Path:
        """The best candidate of the search."""
        return self.search / "best.toml"

    @property
    def model(self) -> Path:
        """The trained model."""
        return self.train / "model.pt"

    @property
    def trained_config(self) -> Path:
        """The configuration of the training, with the values of the search's best candidate."""
        return self.train / "config.toml"

    @property
    def matrices(self) -> Path:
        """The copy of the user's reservoir matrices."""
        return self.path / "matrices.npz"

    @property
    def extractor(self) -> Path:
        """The copy of the trained extractor of another model."""
        return self.path / "extractor.pt"

    @property
    def lock(self) -> Path:
        """The lock of the job that uses this directory."""
        return self.path / "lock"

    @property
    def log(self) -> Path:
        """The log, as JSON lines."""
        return self.path / "log.jsonl"

    @property
    def jobs(self) -> Path:
        """Folder of the job scripts of this run and the files that they read."""
        return self.path / "jobs"

    @property
    def submitted(self) -> Path:
        """Numbers of the submitted jobs, as JSON lines."""
        return self.jobs / "submitted.jsonl"

    @property
    def submission(self) -> Path:
        """The command of the last submission and its working directory."""
        return self.jobs / "submission.json"

    @property
    def position_file(self) -> Path:
        """The current step within the epoch of a training, recorded every few seconds."""
        return self.train / "position.json"

    @property
    def plan(self) -> Path:
        """The settings and the plan of a comparison, which only the folder of a comparison has."""
        return self.path / "plan.json"

    def cell(self, name: str) -> RunDirectory:
        """Return the run directory of a cell of a comparison."""
        return RunDirectory(self.path / "cells" / name)

    @property
    def cell_record(self) -> Path:
        """How this cell of a comparison ended."""
        return self.path / "cell.json"

    def refuse_comparison(self) -> None:
        """Raise an `InputError` if this is the folder of a comparison."""
        if self.plan.exists():
            raise InputError(
                f"{self.path}: is the folder of a comparison (rcdp compare); choose another --out for a run."
            )

    def tasks(self) -> list[RunDirectory]:
        """Return the run directories of the tasks of a job array, in numerical order."""
        return self._within("seed-*", "config-*")

    def folds(self) -> list[RunDirectory]:
        """Return the run directories of the folds of a cross-validation, in numerical order."""
        return self._within("fold-*")

    def fold(self, number: int) -> RunDirectory:
        """Return the run directory of a fold of a cross-validation, counted from 1."""
        return RunDirectory(self.path / f"fold-{number}")

    def _within(self, *patterns: str) -> list[RunDirectory]:
        folders = [path for pattern in patterns for path in self.path.glob(pattern) if path.is_dir()]
        return [RunDirectory(path) for path in sorted(folders, key=lambda path: _numerical_key(path.name))]

    def job_script(self, stage: str) -> Path:
        """Return the job script of `stage`."""
        return self.jobs / f"{stage}.sbatch"

    def state_file(self, stage: str) -> Path:
        """Return the file with the state of `stage`."""
        return self.path / "state" / f"{stage}.json"

    def state(self, stage: str) -> dict[str, Any]:
        """Return the recorded state of `stage`; empty if it has never started.

        Raises
        ------
        DataDamagedError
            If the record is damaged or altered.
        """
        path = self.state_file(stage)
        if not os.path.lexists(path):
            return {}
        remedy = f"Remove it and start rcdp {stage} again; complete results are used again."
        state = read_sealed(path, remedy)
        if not _is_state(state):
            raise DataDamagedError(f"{path}: not the record of a stage. {remedy}")
        return state

    def record_state(self, stage: str, status: Status, **details: Any) -> None:
        """Record the status of `stage`. Details that were recorded before are kept, except those that are now None."""
        write_sealed(self.state_file(stage), self._new_state(stage, status, details))

    def record_failure(self, stage: str, status: Status, keep_earlier: bool = False, **details: Any) -> None:
        """Record why `stage` failed. On a full disk, the earlier record is overwritten in place.

        Parameters
        ----------
        stage : str
        status : str
        keep_earlier : bool
            Keep the status of an earlier start (done or stopped), and record the failure as ``attempt``.
        **details
            As for `record_state`.
        """
        state = self._new_state(stage, status, details)
        earlier = state.pop("earlier", None)
        if keep_earlier and isinstance(earlier, dict):
            state = {**earlier, "attempt": {"status": status, "reason": details.get("reason", "")}}
        try:
            write_sealed(self.state_file(stage), state)
        except StageFailedError:
            overwrite_json(self.state_file(stage), sealed(state))

    def _new_state(self, stage: str, status: Status, details: dict[str, Any]) -> dict[str, Any]:
        state = {**self.state(stage), "stage": stage, "status": status, "updated": time.time(), **details}
        return {name: value for name, value in state.items() if value is not None}

    def config(self) -> Config:
        """Return the resolved configuration.

        Raises
        ------
        InputError
            If the directory has none.
        """
        if not self.config_file.exists():
            raise InputError(
                f"{self.path}: not a run directory yet (it has no config.toml). Name a configuration, as in "
                f"`rcdp run digits --out {self.path}`."
            )
        return _read_config(self.config_file).model_copy(deep=True)

    def write_config(self, config: Config) -> None:
        """Write the resolved configuration with comments, unless the file has it already."""
        if not self._has_config(config):
            write_text(self.config_file, commented_toml(config))

    def preserve_user_config(self) -> None:
        """Copy a config.toml of the user, before the first stage writes its own file of this name."""
        if not self.config_file.exists() or self.state_file("prepare").parent.exists() or self.folds():
            return
        with os_errors_explained(self.config_file):
            content = self.config_file.read_bytes()
        copies = [self.path / f"{self.config_file.name}.before-{number}" for number in range(1, 100)]
        existing = [copy for copy in copies if copy.exists()]
        if content == commented_toml(self.config()).encode() or any(copy.read_bytes() == content for copy in existing):
            return
        copy = next(copy for copy in copies if copy not in existing)
        write_atomic(copy, lambda file: file.write(content))
        log.warning(
            "%s: the run writes its resolved configuration to this file. Your file of this name is kept as %s",
            *(self.config_file, copy.name),
        )

    def _has_config(self, config: Config) -> bool:
        """Return whether the file has these values and the same keys commented out. Reading is cheaper than writing."""
        try:
            current = _read_config(self.config_file)
        except (InputError, OSError):
            return False
        return current == config and current.chosen == config.chosen


def _read_config(path: Path) -> Config:
    """Return the configuration in a file. A stage reads it several times: the last ones are remembered by content."""
    try:
        content = path.read_bytes()
    except OSError:
        return load_config(path)  # which reports the error
    if content not in _configs:
        config = load_config(path)
        if len(_configs) >= REMEMBERED:
            _configs.clear()
        _configs[content] = config
    return _configs[content]


def _is_state(state: dict[str, Any]) -> bool:
    """Return whether a record has the keys and types of the state of a stage."""
    numbers = [state.get(name, 0.0) for name in ("updated", "started", "seconds", "earlier_seconds")]
    has_numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers)
    has_texts = all(isinstance(text, str) for text in (state.get("stage"), state.get("reason", "")))
    return (
        state.get("status") in get_args(Status) and has_numbers and has_texts and isinstance(state.get("ranks", 1), int)
    )


def _numerical_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key that places seed-2 before seed-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]
