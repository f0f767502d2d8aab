"""The plan of a comparison: its cells, with names and numbers that depend on nothing but the settings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rcdp_hpc.comparison.methods.base import Budget
from rcdp_hpc.comparison.results import BudgetName, LeftOut
from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import METHODS
from rcdp_hpc.config.compare import Arm
from rcdp_hpc.errors import InputError


@dataclass(frozen=True)
class PlannedCell:
    """One method on one seed or fold, with one arm and budget.

    Attributes
    ----------
    number : int
        From 1, for ``--cell``.
    method : str
    arm : {"rows", "extractor"}
    budget : {"evaluations", "seconds"}
    seed, fold : int
        ``run.seed`` and ``data.fold`` of the cell; `fold` is 0 if the comparison repeats with seeds.
    """

    number: int
    method: str
    arm: Arm
    budget: BudgetName
    seed: int
    fold: int

    @property
    def name(self) -> str:
        """Name of the cell's folder, as in ``mfo-seed-1`` or ``ridge-fold-2-extractor-seconds``."""
        repetition = f"fold-{self.fold}" if self.fold else f"seed-{self.seed}"
        parts = [re.sub(r"[^\w.-]", ".", self.method), repetition]
        parts += [self.arm] if self.arm != "rows" else []
        parts += [self.budget] if self.budget != "evaluations" else []
        return "-".join(parts)


@dataclass(frozen=True)
class Plan:
    """All cells of a comparison.

    Attributes
    ----------
    methods : tuple of str
        In the order of the tables.
    cells : tuple of PlannedCell
        By budget, repetition, arm and method, those of methods that are left out included.
    left_out : tuple of LeftOut
        Methods that cannot take the data; their cells are not run.
    """

    methods: tuple[str, ...]
    cells: tuple[PlannedCell, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def run_cells(self) -> tuple[PlannedCell, ...]:
        """The cells of methods that can take the data."""
        missing = {(one.method, one.arm) for one in self.left_out}
        return tuple(cell for cell in self.cells if (cell.method, cell.arm) not in missing)

    def cell(self, number: int) -> PlannedCell:
        """Return a cell by its number.

        Raises
        ------
        InputError
            If there is no such cell.
        """
        if not 1 <= number <= len(self.cells):
            raise InputError(f"--cell {number}: must be between 1 and the number of cells ({len(self.cells)}).")
        return self.cells[number - 1]


def make_plan(config: Config, left_out: tuple[LeftOut, ...] = ()) -> Plan:
    """Return the plan of a comparison.

    Parameters
    ----------
    config : Config
        With ``[compare]``.
    left_out : tuple of LeftOut
        Methods that cannot take the data.
    """
    compare = config.compare
    methods = tuple(compare.methods or METHODS.names)
    budgets: tuple[BudgetName, ...] = ("evaluations", "seconds") if compare.seconds else ("evaluations",)
    places = [
        (budget, seed, fold, arm, method)
        for budget in budgets
        for seed, fold in repetitions(config)
        for arm in compare.arms
        for method in methods
    ]
    cells = tuple(
        PlannedCell(number, method, arm, budget, seed, fold)
        for number, (budget, seed, fold, arm, method) in enumerate(places, 1)
    )
    return Plan(methods, cells, left_out)


def repetitions(config: Config) -> list[tuple[int, int]]:
    """Return the seed and the fold (0 for none) of each repetition."""
    if config.compare.folds:
        return [(config.run.seed, fold) for fold in range(1, config.compare.folds + 1)]
    return [(seed, 0) for seed in config.compare.seeds or [config.run.seed]]


def repeats_by(config: Config) -> Literal["seeds", "folds"]:
    """Return what the comparison repeats with."""
    return "folds" if config.compare.folds else "seeds"


def budget_of(cell: PlannedCell, config: Config) -> Budget:
    """Return what a cell may use."""
    search = config.search
    seconds = config.compare.seconds if cell.budget == "seconds" else 0.0
    return Budget(search.population, search.generations, seconds)
