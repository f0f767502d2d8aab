"""The report at the end of a search: number of candidates, meaning of the best fitness, winner, and warnings."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np

from rcdp_hpc.config import Config, SearchSection
from rcdp_hpc.config.choices.chosen_by import LOWER_IS_BETTER, named_criterion
from rcdp_hpc.config.choices.criteria import CRITERIA, RECALL
from rcdp_hpc.runtime.text import plain_name, wrap_items
from rcdp_hpc.search.records.archive import Entry
from rcdp_hpc.search.records.best import Best, format_value
from rcdp_hpc.search.space import Dimension, Space, owner_of

log = logging.getLogger(__name__)

# A winner within this share of the range from a bound, on the scale of the search, counts as on the bound.
NEAR_BOUND = 0.01
# Least difference between the accuracies of another candidate and of the winner for a warning.
ACCURACY_GAP = 0.02


def report_end(config: Config, space: Space, best: Best, failed: int = 0, most_accurate: Entry | None = None) -> None:
    """Log the summary, the winner, and warnings: values on a bound, and a candidate of higher accuracy."""
    search = config.search
    for line in closing_lines(search, best, failed, config.readout.trained):
        log.info("%s", line)
    if is_minimization(search):  # no keys of the configuration to change
        return
    for warning in [*bound_warnings(space, best), *accuracy_warnings(search, space, best, most_accurate)]:
        log.warning("%s", warning)


def closing_lines(search: SearchSection, best: Best, failed: int = 0, trained: bool = True) -> list[str]:
    """Return the summary: number of candidates, best fitness and its meaning, the winner's values.

    Parameters
    ----------
    search : SearchSection
    best : Best
    failed : int
        Number of evaluations that failed.
    trained : bool
        Whether gradient steps train the configured readout.
    """
    unit = "evaluations" if search.halving > 1 else "candidates"
    counted = f"{best.evaluations} {unit}" + (f" ({failed} failed)" if failed else "")
    values = [f"{name} = {format_value(value)}" for name, value in best.values.items()]
    return [
        f"search done: {counted}, best fitness {best.fitness:.5g}",
        *(f"  {line}" for line in fitness_meaning(search, best, trained)),
        *(f"  {line}" for line in wrap_items(f"winner (generation {best.generation}): ", values, 76)),
    ]


def all_failed(search: SearchSection, history: Path, reason: str) -> str:
    """Return the message of a search without a single candidate that did not fail."""
    if is_minimization(search):
        return (
            f"minimize: the function failed for every candidate, the first time because: {reason}. Call it with values "
            "from the space, and look at what it returns."
        )
    return (
        f"{history.parent}: every candidate of the search failed, the first one because: {reason}. See {history} for "
        "the others; narrow [search.space] or look at the data."
    )


def is_minimization(search: SearchSection) -> bool:
    """Return whether the fitness is a Python object of `rcdp_hpc.minimize`, which no setting names."""
    return search.evaluation == "function" and not search.function


def fitness_meaning(search: SearchSection, best: Best, trained: bool = True) -> list[str]:
    """Return the meaning of the fitness, in short lines."""
    if is_minimization(search):
        return ["fitness: minus the value of the function"]
    if search.evaluation == "function":
        return [f"fitness: the value that {search.function} returned, maximised"]
    fitted = f"trained for {search.epochs} epochs" if trained else "solved"
    fitted = "solved by ridge" if search.evaluation == "ridge" else fitted
    # With ridge, few rows are left out one by one; of many rows, the validation rows are used.
    held_out = "held-out rows" if search.evaluation == "ridge" else "validation rows"
    rows = f"{search.folds} inner folds" if search.folds > 1 else held_out
    scores = [f"accuracy on {rows}, with readouts {fitted}: {100 * best.accuracy:.2f} %"]
    if named_criterion(search.fitness) is not None:
        return [*_criterion_lines(search.fitness, rows), *scores]
    if best.first_error is not None:
        return [
            f"fitness: {fitness_formula(search, best.first_error)} (eq. 5)",
            f"E is the mean squared error, here {best.error:.4g}, of the class scores on {rows}",
            *scores,
        ]
    return [f"fitness: 1/E, E = {best.error:.4g} the mean squared error of the class scores", *scores]


def _criterion_lines(name: str, rows: str) -> list[str]:
    """Return what a criterion is, in plain words."""
    if name == "accuracy":
        return [f"fitness: the accuracy on {rows}"]
    if name not in CRITERIA:
        return [f"fitness: the recall of class {plain_name(name.removeprefix(RECALL))} on {rows}"]
    sign = "minus " if name in LOWER_IS_BETTER else ""
    return [f"fitness: {sign}{name} on {rows}", *(f"  {line}" for line in wrap_items("", [CRITERIA[name].meaning], 76))]


def fitness_formula(search: SearchSection, first_error: float | None) -> str:
    """Return what the fitness of a search is, in a few words.

    Parameters
    ----------
    search : SearchSection
    first_error : float or None
        E_0 of the density term; None if the fitness has no such term.
    """
    if search.evaluation == "function":
        return search.function or "minus the value of the function"
    if named_criterion(search.fitness) is not None:
        return f"minus {search.fitness}" if search.fitness in LOWER_IS_BETTER else search.fitness
    if first_error is None:
        return "1/E"
    return f"1/E - {search.density_weight:g}/E_0 (p - {search.density_target:g})^2, E_0 = {first_error:.4g}"


def accuracy_warnings(search: SearchSection, space: Space, best: Best, most_accurate: Entry | None) -> list[str]:
    """Return a warning if the accuracy of another candidate is higher than the winner's by `ACCURACY_GAP` or more.

    Scores close to the shares of the classes have a small squared error, but separate the classes badly. There is no
    warning if ``search.fitness`` names a criterion: the best by one criterion is not always the best by another.
    """
    if search.evaluation == "function" or most_accurate is None or named_criterion(search.fitness) is not None:
        return []
    accuracy = most_accurate.evaluation.accuracy
    # Accuracies are fractions of counts; the tolerance allows for the rounding of their difference.
    if not accuracy - best.accuracy >= ACCURACY_GAP - 1e-9:
        return []
    values = ", ".join(f"{name} = {format_value(value)}" for name, value in space.named(most_accurate.values).items())
    return [
        f"the winner by search.fitness = {search.fitness!r} has an accuracy of {100 * best.accuracy:.2f} %, and the "
        f"candidate {most_accurate.candidate} of generation {most_accurate.generation} has {100 * accuracy:.2f} % "
        f"({values}): to search for accuracy, set search.fitness = 'accuracy'"
    ]


def bound_warnings(space: Space, best: Best) -> list[str]:
    """Return a warning for each value of the winner on a bound of its range, or within 1 % of the range from it.

    There is no warning for a bound beyond which the key accepts no value, such as leak = 1.
    """
    warnings = (_bound_warning(dimension, best.values[dimension.name]) for dimension in space.dimensions)
    return [warning for warning in warnings if warning is not None]


def _bound_warning(dimension: Dimension, value: float | int | str) -> str | None:
    if dimension.choices or isinstance(value, str):
        return None
    coordinate = math.log10(value) if dimension.log else value
    span = dimension.upper - dimension.lower
    for side, bound in (("low", dimension.low), ("high", dimension.high)):
        end = math.log10(bound) if dimension.log else bound
        if abs(coordinate - end) <= NEAR_BOUND * span and _can_widen(dimension, side):
            key = f"search.space.{dimension.name}.{side}"
            return (
                f"the winner's {dimension.name} = {format_value(value)} is on the bound {key} = {bound:g}: there may "
                "be better values beyond it. Widen the range and search again."
            )
    return None


def _can_widen(dimension: Dimension, side: str) -> bool:
    """Return whether the key accepts a value beyond a bound."""
    step = 1.0 if dimension.integer else NEAR_BOUND * (dimension.high - dimension.low)
    if side == "high":
        beyond = dimension.high + step
    elif dimension.log:
        beyond = dimension.low / 2
    else:
        beyond = dimension.low - step
    return owner_of(dimension.name).accepts(int(np.rint(beyond)) if dimension.integer else beyond) is None
