"""The run directory: where each stage's files lie, and what each stage has done."""

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


@dataclass(frozen=True)
class RunDirectory:
    """All that one configuration produced.

    Attributes
    ----------
    path : Path
        The directory; it need not exist yet.
    """

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.toml"

    @property
    def shards(self) -> Path:
        """HDF5 shards and their index (stage prepare)."""
        return self.path / "shards"

    @property
    def search(self) -> Path:
        """History, best candidate and checkpoint (stage search)."""
        return self.path / "search"

    @property
    def train(self) -> Path:
        """Checkpoints, metrics and the model (stage train)."""
        return self.path / "train"

    @property
    def report(self) -> Path:
        """Summary and pictures (stage evaluate)."""
        return self.path / "report"

    def folder(self, stage: str) -> Path:
        """Return the folder of what `stage` leaves."""
        return {"prepare": self.shards, "search": self.search, "train": self.train, "evaluate": self.report}[stage]

    @property
    def best_candidate(self) -> Path:
        """The search's winner."""
        return self.search / "best.toml"

    @property
    def model(self) -> Path:
        """The trained model."""
        return self.train / "model.pt"

    @property
    def matrices(self) -> Path:
        """The copy of the reservoir matrices that the user gave."""
        return self.path / "matrices.npz"

    @property
    def lock(self) -> Path:
        """The lock of the job that works here."""
        return self.path / "lock"

    @property
    def log(self) -> Path:
        """Everything logged, as JSON lines."""
        return self.path / "log.jsonl"

    @property
    def jobs(self) -> Path:
        """Scripts of the jobs submitted for this run, and what they read."""
        return self.path / "jobs"

    @property
    def submitted(self) -> Path:
        """The jobs' numbers, as JSON lines."""
        return self.jobs / "submitted.jsonl"

    @property
    def submission(self) -> Path:
        """The command that submitted the last of them, and the folder it was typed in."""
        return self.jobs / "submission.json"

    @property
    def position_file(self) -> Path:
        """The step that a training is in within its epoch, written down every few seconds."""
        return self.train / "position.json"

    def tasks(self) -> list[RunDirectory]:
        """Return the run directories of a job array's tasks, as people count."""
        return self._within("seed-*", "config-*")

    def folds(self) -> list[RunDirectory]:
        """Return the run directories of a cross-validation's folds, as people count."""
        return self._within("fold-*")

    def fold(self, number: int) -> RunDirectory:
        """Return the run directory of a fold of a cross-validation, from 1."""
        return RunDirectory(self.path / f"fold-{number}")

    def _within(self, *patterns: str) -> list[RunDirectory]:
        found = [path for pattern in patterns for path in self.path.glob(pattern) if path.is_dir()]
        return [RunDirectory(path) for path in sorted(found, key=lambda path: _as_counted(path.name))]

    def job_script(self, stage: str) -> Path:
        """Return the job script of `stage`."""
        return self.jobs / f"{stage}.sbatch"

    def state_file(self, stage: str) -> Path:
        """Return the file that tells what `stage` has done."""
        return self.path / "state" / f"{stage}.json"

    def state(self, stage: str) -> dict[str, Any]:
        """Return what `stage` has done; empty if it never started.

        Raises
        ------
        DataDamagedError
            If the record was altered.
        """
        path = self.state_file(stage)
        if not os.path.lexists(path):
            return {}
        remedy = f"Remove it and start rcdp {stage} again: what is complete is found again."
        state = read_sealed(path, remedy)
        if not _is_state(state):
            raise DataDamagedError(f"{path}: not the record of a stage. {remedy}")
        return state

    def record_state(self, stage: str, status: Status, **details: Any) -> None:
        """Record what `stage` has done, keeping details recorded earlier but those that are None now."""
        write_sealed(self.state_file(stage), self._noted(stage, status, details))

    def record_failure(self, stage: str, status: Status, keep_earlier: bool = False, **details: Any) -> None:
        """Record as `record_state` why `stage` ended, on a full disk too: in the place of what was recorded before.

        With `keep_earlier` a stage stays what it was before it started again, done or stopped with a checkpoint, and
        the failure is recorded as ``attempt``.
        """
        state = self._noted(stage, status, details)
        earlier = state.pop("earlier", None)
        if keep_earlier and isinstance(earlier, dict):
            state = {**earlier, "attempt": {"status": status, "reason": details.get("reason", "")}}
        try:
            write_sealed(self.state_file(stage), state)
        except StageFailedError:
            overwrite_json(self.state_file(stage), sealed(state))

    def _noted(self, stage: str, status: Status, details: dict[str, Any]) -> dict[str, Any]:
        noted = {**self.state(stage), "stage": stage, "status": status, "updated": time.time(), **details}
        return {name: value for name, value in noted.items() if value is not None}

    def config(self) -> Config:
        """Return the resolved configuration.

        Raises
        ------
        InputError
            If the directory holds none.
        """
        if not self.config_file.exists():
            raise InputError(
                f"{self.path}: not a run directory yet (it has no config.toml). Name a configuration, as in "
                f"`rcdp run digits --out {self.path}`."
            )
        return load_config(self.config_file)

    def write_config(self, config: Config) -> None:
        """Write the resolved configuration, with its comments, unless the file holds it already."""
        if not self._holds(config):
            write_text(self.config_file, commented_toml(config))

    def preserve_user_config(self) -> None:
        """Keep a copy of a config.toml that the user put here before any stage began: the run writes its own there."""
        if not self.config_file.exists() or self.state_file("prepare").parent.exists() or self.folds():
            return
        with os_errors_explained(self.config_file):
            content = self.config_file.read_bytes()
        copies = [self.path / f"{self.config_file.name}.before-{number}" for number in range(1, 100)]
        kept = [copy for copy in copies if copy.exists()]
        if content == commented_toml(self.config()).encode() or any(copy.read_bytes() == content for copy in kept):
            return
        copy = next(copy for copy in copies if copy not in kept)
        write_atomic(copy, lambda file: file.write(content))
        log.warning(
            "%s is a file of your own, and a run keeps its resolved configuration under this name: yours is kept as %s",
            *(self.config_file, copy.name),
        )

    def _holds(self, config: Config) -> bool:
        """Whether the file has all of these values and comments out the same keys: reading is cheaper than writing."""
        try:
            held = load_config(self.config_file)
        except (InputError, OSError):
            return False
        return held == config and held.chosen == config.chosen


def _is_state(state: dict[str, Any]) -> bool:
    """Return whether a record has the keys of a stage's state, each of its type."""
    numbers = [state.get(name, 0.0) for name in ("updated", "started", "seconds", "earlier_seconds")]
    counted = all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers)
    texts = all(isinstance(text, str) for text in (state.get("stage"), state.get("reason", "")))
    return state.get("status") in get_args(Status) and counted and texts and isinstance(state.get("ranks", 1), int)


def _as_counted(name: str) -> list[tuple[int, str]]:
    """Return a key that puts seed-2 before seed-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]
