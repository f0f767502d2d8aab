"""The files of a comparison, read for its report. What cannot be read is collected, and the rest is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from rcdp_hpc.comparison.plan import make_plan
from rcdp_hpc.comparison.records import read_record
from rcdp_hpc.comparison.results import (
    FILE,
    TIMINGS_FILE,
    CellResult,
    Comparison,
    LeftOut,
    Timings,
    read_comparison,
    read_timings,
)
from rcdp_hpc.config import parse_config
from rcdp_hpc.errors import DataDamagedError, RcdpError
from rcdp_hpc.evaluation.report.run_files import LogMessage, Problem, RunFiles
from rcdp_hpc.runtime.digests import read_sealed
from rcdp_hpc.runtime.files import os_errors_explained
from rcdp_hpc.runtime.rundir import RunDirectory

Content = TypeVar("Content")


def is_comparison(path: Path) -> bool:
    """Return whether a folder is that of a comparison."""
    return RunDirectory(path).plan.exists() or (path / FILE).exists()


@dataclass(frozen=True)
class CellState:
    """A cell of a comparison that has not ended, or whose record is shown before all cells have ended.

    Attributes
    ----------
    name, status, reason : str
        The status is "done", "failed" or "not ended".
    accuracy : float or None
        On the test.
    """

    name: str
    status: str
    reason: str = ""
    accuracy: float | None = None


@dataclass
class ComparisonFiles:
    """What the files of a comparison contain. Files that do not exist yet are None or empty.

    Attributes
    ----------
    run : RunDirectory
    page : Path
        The file of the report, from which links to the cells' reports lead.
    problems : list of Problem
        Files that could not be read so far.
    """

    run: RunDirectory
    page: Path
    problems: list[Problem] = field(default_factory=list)
    _cells: dict[str, RunFiles] = field(default_factory=dict)

    def read_everything(self) -> None:
        """Read all files, so that `problems` is complete."""
        for name in ("comparison", "timings", "settings", "states" if self.comparison is None else "messages"):
            getattr(self, name)
        if self.comparison is None:
            return
        for cell in self.comparison.cells:
            files = self.cell(cell.name)
            if cell.done and not files.history:
                self.problems += files.problems

    def _read(self, path: Path, read: Callable[[], Content]) -> Content | None:
        try:
            with os_errors_explained(path):
                return read() if path.exists() else None
        except RcdpError as error:
            self.problems.append(Problem(str(error), isinstance(error, DataDamagedError)))
            return None

    @cached_property
    def comparison(self) -> Comparison | None:
        """The results; None if the comparison has not ended."""
        return self._read(self.run.path / FILE, lambda: read_comparison(self.run.path))

    @cached_property
    def timings(self) -> Timings | None:
        """The times of all cells."""
        return self._read(self.run.path / TIMINGS_FILE, lambda: read_timings(self.run.path))

    @cached_property
    def planned(self) -> dict[str, Any] | None:
        """The content of ``plan.json``."""
        path = self.run.plan
        return self._read(path, lambda: read_sealed(path, "Start over with rcdp compare --restart."))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Settings by section."""
        if self.comparison is not None:
            return self.comparison.settings
        return (self.planned or {}).get("settings", {})

    @cached_property
    def states(self) -> list[CellState]:
        """All planned cells, those that have not ended included."""
        if self.planned is None:
            return []
        config = parse_config(self.planned["settings"], str(self.run.plan))
        plan = make_plan(config, tuple(LeftOut(**one) for one in self.planned.get("left_out", ())))
        return [self._state(cell.name) for cell in plan.run_cells]

    def _state(self, name: str) -> CellState:
        run = self.run.cell(name)
        record = self._read(run.cell_record, lambda: read_record(run))
        if record is None:
            return CellState(name, "not ended")
        accuracy = None if record.outcome is None else record.outcome.test.get("accuracy")
        return CellState(name, record.status, record.reason, accuracy)

    def cell(self, name: str) -> RunFiles:
        """Return the files of a cell's run directory."""
        if name not in self._cells:
            self._cells[name] = RunFiles(self.run.cell(name))
        return self._cells[name]

    def cells_of(self, method: str, budget: str, arm: str) -> list[CellResult]:
        """Return the cells of a method, with one budget and arm."""
        cells = self.comparison.cells if self.comparison else []
        return [cell for cell in cells if (cell.method, cell.budget, cell.arm) == (method, budget, arm)]

    @cached_property
    def messages(self) -> list[LogMessage]:
        """The warnings and errors of the logs of the comparison and of its cells, which may both have one."""
        merged: dict[tuple[str, str], LogMessage] = {}
        names = [cell.name for cell in self.comparison.cells] if self.comparison else [one.name for one in self.states]
        for files in (RunFiles(self.run), *map(self.cell, names)):
            for one in files.messages:
                before = merged.get((one.level, one.text))
                count, last = (before.count, before.last) if before else (0, 0.0)
                merged[one.level, one.text] = LogMessage(
                    one.level, one.text, max(count, one.count), max(last, one.last)
                )
        return list(merged.values())
