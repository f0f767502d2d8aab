"""The results of a comparison: ``DIR/comparison.json`` and ``DIR/timings.json``, and the classes that hold them.

`read_comparison` and `read_timings` are what reports and tables read. ``comparison.json`` has no times: the same
comparison gives the same bytes, also after a kill and for any number of ranks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.runtime.digests import read_sealed, write_sealed

FORMAT = "rcdp-comparison"
FORMAT_VERSION = 1
FILE = "comparison.json"
TIMINGS_FILE = "timings.json"

# What a comparison measures in each cell, in the order of the tables.
MEASURES = ("accuracy", "macro_f1", "balanced_accuracy", "validation_accuracy", "evaluations", "parameters")

Status = Literal["done", "failed"]
BudgetName = Literal["evaluations", "seconds"]


@dataclass(frozen=True)
class MethodInfo:
    """A method of the comparison.

    Attributes
    ----------
    name, meaning, source : str
        As in `rcdp_hpc.config.choices.methods`.
    """

    name: str
    meaning: str
    source: str


@dataclass(frozen=True)
class LeftOut:
    """A method that was not compared because it cannot take the data.

    Attributes
    ----------
    method, arm, reason : str
    """

    method: str
    arm: str
    reason: str


@dataclass(frozen=True)
class CellResult:
    """How one cell ended.

    Attributes
    ----------
    name : str
        Its folder in ``DIR/cells``.
    method, arm : str
    budget : {"evaluations", "seconds"}
        What was equal for all methods.
    seed : int
        ``run.seed`` of the cell.
    fold : int
        The fold that is the test part; 0 if the comparison repeats with seeds.
    status : {"done", "failed"}
    reason : str
        Why it failed; empty if it is done. The following values are empty if it failed.
    measures : dict of str to float
        The `MEASURES`: ``accuracy``, ``macro_f1`` and ``balanced_accuracy`` (mean recall of the classes with test
        samples) of the test rows, ``validation_accuracy``, ``evaluations``, ``parameters``.
    chosen : dict
        What the search chose, by name.
    test : dict
        All scores of the test rows, as `rcdp_hpc.evaluation.confusion.result_of_test` returns them.
    """

    name: str
    method: str
    arm: str
    budget: BudgetName
    seed: int
    fold: int
    status: Status
    reason: str = ""
    measures: dict[str, float] = field(default_factory=dict)
    chosen: dict[str, Any] = field(default_factory=dict)
    test: dict[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether the cell has results."""
        return self.status == "done"

    @property
    def repetition(self) -> tuple[int, int]:
        """Seed and fold, which cells of different methods have in common."""
        return self.seed, self.fold


@dataclass(frozen=True)
class Summary:
    """One method over its repetitions, with one arm and budget.

    Attributes
    ----------
    method, arm : str
    budget : {"evaluations", "seconds"}
    done, planned : int
        Cells with results, and all cells.
    failed : list of str
        Names of the cells that failed.
    mean : dict of str to float
        Mean of each of the `MEASURES` over the cells with results; empty without any.
    deviation : dict of str to float
        Sample standard deviation, s^2 = sum (x - mean)^2 / (n - 1); empty for fewer than two cells.
    """

    method: str
    arm: str
    budget: BudgetName
    done: int
    planned: int
    failed: list[str]
    mean: dict[str, float]
    deviation: dict[str, float]


@dataclass(frozen=True)
class PairedTest:
    """The first method against another one, by their test accuracy in the same repetitions.

    Attributes
    ----------
    first, other : str
        The methods.
    arm : str
    budget : {"evaluations", "seconds"}
    test : str
        Name of the test, as in ``rcdp_hpc.comparison.statistics``; empty if none could be made.
    pairs : int
        Repetitions in which both methods have results; test samples on which exactly one of them is right for the
        test of McNemar.
    difference : float or None
        Mean accuracy of the first method less that of the other, over these repetitions.
    statistic, p : float or None
        None if no test could be made.
    p_holm : float or None
        `p`, corrected by Holm for the number of methods of this arm and budget.
    note : str
        Why there is no test; empty if there is one.
    """

    first: str
    other: str
    arm: str
    budget: BudgetName
    test: str
    pairs: int
    difference: float | None
    statistic: float | None
    p: float | None
    p_holm: float | None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """The content of ``comparison.json``.

    Attributes
    ----------
    settings : dict
        Settings by section that decide the results, with seed and fold of no cell in particular.
    methods : list of MethodInfo
        In the order of the tables. The first is tested against each other one.
    left_out : list of LeftOut
    repeats : {"seeds", "folds"}
        What is repeated.
    arms : list of str
    budgets : dict
        ``evaluations``: ``population`` and ``generations`` of every search; ``seconds``, if times are compared, too.
    data : dict
        ``description``, ``kind``, ``sample_shape``, ``classes`` and ``rows`` by split, of the first repetition.
    cells : list of CellResult
        By budget, repetition, arm and method.
    summaries : list of Summary
    tests : list of PairedTest
    versions : dict of str to str
        Versions of the libraries.
    """

    settings: dict[str, Any]
    methods: list[MethodInfo]
    left_out: list[LeftOut]
    repeats: Literal["seeds", "folds"]
    arms: list[str]
    budgets: dict[str, Any]
    data: dict[str, Any]
    cells: list[CellResult]
    summaries: list[Summary]
    tests: list[PairedTest]
    versions: dict[str, str]

    @property
    def failed(self) -> list[CellResult]:
        """The cells that failed."""
        return [cell for cell in self.cells if not cell.done]

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as a JSON object."""
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, content: dict[str, Any], where: Path | str = FILE) -> Comparison:
        """Return the comparison in the content of a file.

        Raises
        ------
        InputError
            If it has another format version.
        DataDamagedError
            If it is not the content of such a file.
        """
        version = content.get("format_version")
        if content.get("format") == FORMAT and isinstance(version, int) and version != FORMAT_VERSION:
            raise InputError(
                f"{where}: has format version {version}, this package reads version {FORMAT_VERSION}. Run rcdp compare "
                "again, or use the version of rcdp_hpc that wrote it."
            )
        values = {name: part for name, part in content.items() if name not in ("format", "format_version")}
        parts = {
            "methods": MethodInfo,
            "left_out": LeftOut,
            "cells": CellResult,
            "summaries": Summary,
            "tests": PairedTest,
        }
        try:
            for name, kind in parts.items():
                values[name] = [kind(**entry) for entry in values[name]]
            return cls(**values)
        except (TypeError, KeyError):
            raise DataDamagedError(f"{where}: not the results of a comparison. Run rcdp compare again.") from None


@dataclass(frozen=True)
class CellTiming:
    """The times of a cell, which differ between repetitions.

    Attributes
    ----------
    seconds : dict of str to float
        By stage: ``search``, ``train``, ``evaluate`` or what the method reports.
    total : float
        Seconds of the cell, all starts together.
    ranks : int
        Ranks that worked on it.
    utilisation : dict
        Processor time over wall time and cores of the ranks, in percent, of the last start: ``mean`` and ``deviation``
        over time, ``every`` (seconds of an interval) and ``over_time`` (its value in each interval).
    """

    seconds: dict[str, float]
    total: float
    ranks: int
    utilisation: dict[str, Any]


@dataclass(frozen=True)
class Timings:
    """The content of ``timings.json``.

    Attributes
    ----------
    cells : dict of str to CellTiming
        By name of the cell; those without results are left out.
    data : dict of str to dict
        By name of the prepared data, seconds of ``prepare`` and, with the arm "extractor", of ``extractor``.
    """

    cells: dict[str, CellTiming]
    data: dict[str, dict[str, float]]


def read_comparison(folder: Path) -> Comparison:
    """Return the results of the comparison in a folder.

    Raises
    ------
    InputError
        If the comparison has not ended, or the folder has none.
    DataDamagedError
        If the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        raise InputError(
            f"{path}: missing, so no comparison has ended in this folder. Run rcdp compare --out {folder}."
        )
    return Comparison.from_json(read_sealed(path, "Run rcdp compare again, which writes it."), path)


def read_timings(folder: Path) -> Timings:
    """Return the times of the comparison in a folder; raises the errors of `read_comparison`."""
    path = folder / TIMINGS_FILE
    if not path.exists():
        raise InputError(
            f"{path}: missing, so no comparison has ended in this folder. Run rcdp compare --out {folder}."
        )
    content = read_sealed(path, "Run rcdp compare again, which writes it.")
    try:
        cells = {name: CellTiming(**entry) for name, entry in content["cells"].items()}
        return Timings(cells, content["data"])
    except (TypeError, KeyError, AttributeError):
        raise DataDamagedError(f"{path}: not the times of a comparison. Run rcdp compare again.") from None


def write_results(folder: Path, comparison: Comparison, timings: Timings) -> None:
    """Write ``comparison.json`` and ``timings.json``, each atomically."""
    write_sealed(folder / TIMINGS_FILE, asdict(timings))
    write_sealed(folder / FILE, comparison.as_json())
