"""What a search says at its end: how much was tried, what the best fitness means, and whether a bound holds it back."""

from __future__ import annotations

import logging
import math

import numpy as np
from pydantic import ValidationError

from rcdp_hpc.config import SearchSection
from rcdp_hpc.runtime.text import wrap_items
from rcdp_hpc.search.records.archive import Entry
from rcdp_hpc.search.records.best import Best, shown
from rcdp_hpc.search.space import Dimension, Space, owner_of

log = logging.getLogger(__name__)

# A winner this close to a bound, as a share of the range on its scale, is said to be on it.
NEAR = 0.01
# A winner whose accuracy is lower than another candidate's by this share is worth a warning.
WORSE = 0.02


def report_end(
    search: SearchSection, space: Space, best: Best, failed: int = 0, most_accurate: Entry | None = None
) -> None:
    """Log what was searched, the winner, and warnings: values on a bound, and a winner that others beat in accuracy."""
    for line in closing_lines(search, best, failed):
        log.info("%s", line)
    for warning in [*bound_warnings(space, best), *accuracy_warnings(search, space, best, most_accurate)]:
        log.warning("%s", warning)


def closing_lines(search: SearchSection, best: Best, failed: int = 0) -> list[str]:
    """Return the closing lines: candidates and best fitness, its meaning, the winner's values.

    Parameters
    ----------
    search : SearchSection
    best : Best
    failed : int
        Evaluations that failed.
    """
    unit = "evaluations" if search.halving > 1 else "candidates"
    counted = f"{best.evaluations} {unit}" + (f" ({failed} failed)" if failed else "")
    values = [f"{name} = {shown(value)}" for name, value in best.values.items()]
    return [
        f"search done: {counted}, best fitness {best.fitness:.5g}",
        *(f"  {line}" for line in fitness_words(search, best)),
        *(f"  {line}" for line in wrap_items(f"winner (generation {best.generation}): ", values, 76)),
    ]


def fitness_words(search: SearchSection, best: Best) -> list[str]:
    """Return what a fitness means, in short lines."""
    if search.evaluation == "function":
        return [f"fitness: what {search.function} returned, maximised"]
    judged = "solved by ridge" if search.evaluation == "ridge" else f"trained for {search.epochs} epochs"
    # By ridge, few rows are left out one by one, and of many those of the validation judge.
    held_out = "held-out rows" if search.evaluation == "ridge" else "validation rows"
    rows = f"{search.folds} inner folds" if search.folds > 1 else held_out
    scores = [f"with readouts {judged}, {100 * best.accuracy:.2f} % of the {rows} are right"]
    if search.fitness == "accuracy":
        return [f"fitness: the accuracy on {rows}", *scores]
    if search.density_weight:
        words = "fitness: 1/E - lambda (p - p_target)^2 (eq. 5), E the mean squared error,"
        return [words, f"here {best.error:.4g}, of the class scores on {rows}", *scores]
    return [f"fitness: 1/E, E = {best.error:.4g} the mean squared error of the class scores", *scores]


def accuracy_warnings(search: SearchSection, space: Space, best: Best, most_accurate: Entry | None) -> list[str]:
    """Return a warning if another candidate is more accurate than the winner by `WORSE` or more.

    Scores that are shrunk towards the shares of the classes have a small squared error and tell little apart.
    """
    if search.evaluation == "function" or most_accurate is None:
        return []
    accuracy = most_accurate.evaluation.accuracy
    # Accuracies are counts: the tolerance is for the rounding of their difference.
    if not accuracy - best.accuracy >= WORSE - 1e-9:
        return []
    values = ", ".join(f"{name} = {shown(value)}" for name, value in space.named(most_accurate.values).items())
    return [
        f"the winner by search.fitness = {search.fitness!r} has an accuracy of {100 * best.accuracy:.2f} %, and the "
        f"candidate {most_accurate.candidate} of generation {most_accurate.generation} has {100 * accuracy:.2f} % "
        f"({values}): to search for accuracy, set search.fitness = 'accuracy'"
    ]


def bound_warnings(space: Space, best: Best) -> list[str]:
    """Return a warning for each value of the winner that is on, or within 1 % of, a bound of its range.

    A bound beyond which the key accepts no value, as leak = 1, is not worth a warning.
    """
    found = (_on_bound(dimension, best.values[dimension.name]) for dimension in space.dimensions)
    return [warning for warning in found if warning is not None]


def _on_bound(dimension: Dimension, value: float | int | str) -> str | None:
    if dimension.choices or isinstance(value, str):
        return None
    place = math.log10(value) if dimension.log else value
    span = dimension.upper - dimension.lower
    for side, end, bound in (("low", dimension.lower, dimension.low), ("high", dimension.upper, dimension.high)):
        if abs(place - end) <= NEAR * span and _can_widen(dimension, side):
            key = f"search.space.{dimension.name}.{side}"
            return (
                f"the winner's {dimension.name} = {shown(value)} is on the bound {key} = {bound:g}: there may be "
                "better values beyond it. Widen the range and search again."
            )
    return None


def _can_widen(dimension: Dimension, side: str) -> bool:
    """Return whether the key accepts a value beyond a bound."""
    _, owner = owner_of(dimension.name)
    step = 1.0 if dimension.integer else NEAR * (dimension.high - dimension.low)
    if side == "high":
        beyond = dimension.high + step
    elif dimension.log:
        beyond = dimension.low / 2
    else:
        beyond = dimension.low - step
    try:
        owner.model_validate({dimension.name: int(np.rint(beyond)) if dimension.integer else beyond})
    except ValidationError:
        return False
    return True
