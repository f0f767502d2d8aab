"""Means, deviations and tests of a comparison, from the results of its cells."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from rcdp_hpc.comparison.plan import Plan
from rcdp_hpc.comparison.results import MEASURES, BudgetName, CellResult, PairedTest, Summary
from rcdp_hpc.comparison.statistics import (
    CORRECTED_T,
    MCNEMAR,
    PAIRED_T,
    Tested,
    corrected_t,
    holm,
    mcnemar,
    mean_and_deviation,
    paired_t,
)
from rcdp_hpc.runtime.rundir import RunDirectory

Group = tuple[BudgetName, str]


def groups_of(cells: Sequence[CellResult]) -> list[Group]:
    """Return the pairs of budget and arm, in the order of the cells: one table for each."""
    return list(dict.fromkeys((cell.budget, cell.arm) for cell in cells))


def summarise(plan: Plan, cells: Sequence[CellResult]) -> list[Summary]:
    """Return a summary of each method, budget and arm, in the order of the plan."""
    summaries = []
    for budget, arm in groups_of(cells):
        for method in plan.methods:
            own = [cell for cell in cells if (cell.budget, cell.arm, cell.method) == (budget, arm, method)]
            if own:
                summaries.append(_summary(method, arm, budget, own))
    return summaries


def _summary(method: str, arm: str, budget: BudgetName, cells: Sequence[CellResult]) -> Summary:
    done = [cell for cell in cells if cell.done]
    means, deviations = {}, {}
    for name in MEASURES:
        mean, deviation = mean_and_deviation([cell.measures[name] for cell in done])
        if mean is not None:
            means[name] = mean
        if deviation is not None:
            deviations[name] = deviation
    failed = [cell.name for cell in cells if not cell.done]
    return Summary(method, arm, budget, len(done), len(cells), failed, means, deviations)


def paired_tests(plan: Plan, cells: Sequence[CellResult], run: RunDirectory) -> list[PairedTest]:
    """Return the tests of the first method against each other one, corrected within each budget and arm.

    The test is the paired t-test for seeds, the corrected resampled t-test for folds, and the exact test of McNemar on
    the test samples for a single seed.
    """
    tests = []
    for budget, arm in groups_of(cells):
        own = [cell for cell in cells if (cell.budget, cell.arm) == (budget, arm)]
        methods = [method for method in plan.methods if any(cell.method == method for cell in own)]
        found = [_test(methods[0], other, own, run) for other in methods[1:]]
        corrected = holm([test.p for test in found])
        tests += [PairedTest(**{**vars(test), "p_holm": p}) for test, p in zip(found, corrected, strict=True)]
    return tests


def _test(first: str, other: str, cells: Sequence[CellResult], run: RunDirectory) -> PairedTest:
    of_first, of_other = (
        {cell.repetition: cell for cell in cells if cell.method == method} for method in (first, other)
    )
    planned = [(of_first[key], of_other[key]) for key in of_first if key in of_other]
    pairs = [(one, two) for one, two in planned if one.done and two.done]
    differences = [one.measures["accuracy"] - two.measures["accuracy"] for one, two in pairs]
    if len(planned) == 1 and not planned[0][0].fold:
        name, count, tested = _of_samples(pairs, run)
    else:
        folds = len(planned) if planned[0][0].fold else 0
        name, count = CORRECTED_T if folds else PAIRED_T, len(pairs)
        tested = corrected_t(differences, 1 / (folds - 1)) if folds else paired_t(differences)
    mean, _ = mean_and_deviation(differences)
    return PairedTest(
        first=first,
        other=other,
        arm=cells[0].arm,
        budget=cells[0].budget,
        test=name if tested.p is not None else "",
        pairs=count,
        difference=mean,
        statistic=tested.statistic,
        p=tested.p,
        p_holm=None,
        note=tested.note,
    )


def _of_samples(pairs: Sequence[tuple[CellResult, CellResult]], run: RunDirectory) -> tuple[str, int, Tested]:
    """Return the test of McNemar of the only pair of cells."""
    if not pairs:
        return MCNEMAR, 0, Tested(None, None, "one of the cells failed")
    right = [_right(run.cell(cell.name).report / "predictions.csv") for cell in pairs[0]]
    if not all(right) or right[0].keys() != right[1].keys():
        return MCNEMAR, 0, Tested(None, None, "the predictions of the test samples are missing for one of the methods")
    only_first = sum(right[0][sample] and not right[1][sample] for sample in right[0])
    only_other = sum(right[1][sample] and not right[0][sample] for sample in right[0])
    return MCNEMAR, only_first + only_other, mcnemar(only_first, only_other)


def _right(path: Path) -> dict[tuple[str, str], bool]:
    """Return whether each test sample, by part and row, is predicted correctly; empty without the file."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return {(row["part"], row["row"]): row["correct"] == "yes" for row in csv.DictReader(file)}
