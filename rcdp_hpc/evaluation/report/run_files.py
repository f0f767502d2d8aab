"""The files of a run directory, read for its report. What cannot be read is collected, and the rest is shown."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import STAGES, Config, flatten, to_tree
from rcdp_hpc.data.shards.index import INDEX_NAME, load_index
from rcdp_hpc.errors import DataDamagedError, RcdpError
from rcdp_hpc.evaluation.confusion import read_confusion
from rcdp_hpc.evaluation.reliability import FILE, read_reliability
from rcdp_hpc.runtime.digests import read_sealed, read_sealed_lines
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.lock_file import current_holder
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.search.records.best import Best, read_best_record
from rcdp_hpc.search.records.efficiency import Usage, read_usage

log = logging.getLogger(__name__)

Content = TypeVar("Content")
Record = dict[str, Any]
LEVELS = ("WARNING", "ERROR", "CRITICAL")
# A log is read up to this size, from its end.
MOST_LOG_BYTES = 50_000_000


@dataclass(frozen=True)
class Problem:
    """A file that cannot be read.

    Attributes
    ----------
    message : str
        Names the file, the problem and the remedy.
    damaged : bool
        Whether the content is damaged; otherwise the file is of another version, or cannot be opened.
    """

    message: str
    damaged: bool


@dataclass(frozen=True)
class LogMessage:
    """A warning or error of the log, and how often it occurs.

    Attributes
    ----------
    level, text : str
    count : int
    last : float
        Time of the last occurrence, in seconds since 1970.
    """

    level: str
    text: str
    count: int
    last: float


@dataclass
class RunFiles:
    """What the files of a run contain. Files that do not exist yet are None or empty.

    Attributes
    ----------
    run : RunDirectory
    problems : list of Problem
        Files that could not be read so far.
    """

    run: RunDirectory
    problems: list[Problem] = field(default_factory=list)

    def _read(self, path: Path, read: Callable[[], Content]) -> Content | None:
        """Return what `read` returns; None if the file is missing, or cannot be read, which is recorded."""
        try:
            with os_errors_explained(path):
                return read() if path.exists() else None
        except RcdpError as error:
            problem = Problem(str(error), isinstance(error, DataDamagedError))
            if problem not in self.problems:
                self.problems.append(problem)
            return None

    def read_everything(self) -> None:
        """Read all files, so that `problems` is complete."""
        for name in ("config", "states", "index", "summary", "history", "metrics", "best", "confusion", "reliability"):
            getattr(self, name)

    @cached_property
    def config(self) -> Config | None:
        """The resolved configuration."""
        return self._read(self.run.config_file, self.run.config)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The dotted keys of the configuration with their values."""
        return {} if self.config is None else flatten(to_tree(self.config))

    @cached_property
    def states(self) -> dict[str, Record]:
        """The state of each stage; empty for a stage that has not started."""
        read = {stage: partial(self.run.state, stage) for stage in STAGES}
        return {stage: self._read(self.run.state_file(stage), read[stage]) or {} for stage in STAGES}

    def status(self, stage: str) -> str:
        """Return the status of a stage: "not started", "running", "killed", "stopped", "failed" or "done"."""
        status = str(self.states[stage].get("status", "not started"))
        return "killed" if status == "running" and not self.is_held else status

    @cached_property
    def is_held(self) -> bool:
        """Whether a job uses the run directory."""
        return current_holder(self.run.lock) is not None

    @cached_property
    def stages(self) -> list[str]:
        """The stages that belong to the run."""
        searches = self.config is None or self.config.has_search or bool(self.states["search"].get("result"))
        return [stage for stage in STAGES if stage != "search" or searches]

    @cached_property
    def index(self) -> Record | None:
        """The index of the shards."""
        return self._read(self.run.shards / INDEX_NAME, lambda: load_index(self.run.shards))

    @cached_property
    def summary(self) -> Record | None:
        """The results of the test, or those of the folds of a cross-validation."""
        path = self.run.report / "summary.json"
        command = "crossvalidate" if self.run.folds() else "evaluate"
        remedy = f"Write it again with rcdp {command} --out {self.run.path}."
        return self._read(path, lambda: read_sealed(path, remedy))

    @cached_property
    def test(self) -> Record | None:
        """The scores on the test, of a run or of all folds of a cross-validation."""
        if self.summary is None:
            return None
        scores = self.summary.get("test", self.summary)
        return scores if isinstance(scores, dict) else None

    @cached_property
    def confusion(self) -> NDArray[np.int64] | None:
        """The complete confusion matrix."""
        path = self.run.report / "summary.json"
        content = None if self.test is None else self.test.get("confusion")
        return None if content is None else self._read(path, lambda: read_confusion(content, self.run.report))

    @cached_property
    def reliability(self) -> Record | None:
        """The bins of the reliability diagram."""
        return self._read(self.run.report / FILE, lambda: read_reliability(self.run.report))

    @cached_property
    def history(self) -> list[Record]:
        """The evaluated candidates of the search."""
        path = self.run.search / "history.jsonl"
        remedy = "Run rcdp search again, which writes it again from its checkpoint."
        return self._read(path, lambda: read_sealed_lines(path, self.is_held, remedy)) or []

    @cached_property
    def complete(self) -> list[Record]:
        """The candidates that were evaluated on all rows: fewer rows give fitness that is not comparable."""
        return [line for line in self.history if line.get("share", 1) == 1]

    @cached_property
    def usage(self) -> list[Usage]:
        """How busy the ranks were in each generation of the search."""
        return self._read(self.run.search, lambda: read_usage(self.run.search)) or []

    @cached_property
    def best(self) -> Best | None:
        """The winner of the search."""
        return self._read(self.run.best_candidate, lambda: read_best_record(self.run.best_candidate))

    @cached_property
    def metrics(self) -> list[Record]:
        """The epochs of the training."""
        path = self.run.train / "metrics.jsonl"
        remedy = "Start rcdp train again, which keeps the undamaged lines."
        return self._read(path, lambda: read_sealed_lines(path, self.is_held, remedy)) or []

    @cached_property
    def messages(self) -> list[LogMessage]:
        """The warnings and errors of the log; equal ones once, in the order of their first occurrence."""
        return self._read(self.run.log, lambda: _messages(self.run.log)) or []


def _messages(path: Path) -> list[LogMessage]:
    found: dict[tuple[str, str], LogMessage] = {}
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - MOST_LOG_BYTES))
        for line in file:
            entry = None
            with contextlib.suppress(ValueError, RecursionError):  # a line that was cut short by kill -9
                entry = json.loads(line)
            if not isinstance(entry, dict) or entry.get("level") not in LEVELS:
                continue
            key = (str(entry["level"]), str(entry.get("message", "")))
            time, earlier = entry.get("time"), found.get(key)
            last = float(time) if isinstance(time, int | float) else 0.0
            found[key] = LogMessage(*key, 1 + (earlier.count if earlier else 0), last)
    return list(found.values())
