"""The criterion of ``readout.ridge_criterion``, by which the ridge penalty is chosen.

A criterion of predicted classes has plateaus and noise, so that a local maximum over the penalties says little: all
penalties are tried. Of penalties with an equal criterion, the one with the least squared error after scaling is chosen
(`rcdp_hpc.reservoir.ridge.scaled_error`), and of equal errors the larger penalty.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices.chosen_by import criterion_value, named_criterion
from rcdp_hpc.model.criteria import Criterion, criterion
from rcdp_hpc.runtime.text import plain_name

log = logging.getLogger(__name__)


def penalty_criterion(config: Config, classes: Sequence[str]) -> Criterion | None:
    """Return the criterion that chooses the penalty; None for the squared error after scaling.

    Parameters
    ----------
    config : Config
    classes : sequence of str
        Class names, in the order of the class numbers.

    Raises
    ------
    InputError
        If it is the recall of a class that does not exist.
    """
    name = named_criterion(config.readout.ridge_criterion)
    return None if name is None else criterion(name, classes)


def worth_of_scores(
    by: Criterion | None, labels: NDArray[np.integer[Any]]
) -> Callable[[NDArray[np.floating[Any]]], float] | None:
    """Return the function of scores, shape (rows, classes), that the best penalty maximises; None without a criterion.

    Parameters
    ----------
    by : Criterion or None
    labels : ndarray, shape (rows,)
        Labels of the rows that are scored. They count without weights.
    """
    if by is None:
        return None
    return lambda scores: fitness_of_scores(by, labels, scores)


def penalty_worth(
    config: Config, classes: Sequence[str], labels: NDArray[np.integer[Any]]
) -> Callable[[NDArray[np.floating[Any]]], float] | None:
    """Return `worth_of_scores` by the criterion of a configuration; parameters as of `penalty_criterion`."""
    return worth_of_scores(penalty_criterion(config, classes), labels)


def report_criterion(by: Criterion, fitness: float, penalty: float, rows: str, level: int) -> None:
    """Log the criterion of the chosen penalty on the rows that chose it, or that it is undefined there."""
    if not math.isfinite(fitness):
        log.log(
            max(level, logging.WARNING) if level >= logging.INFO else level,
            "ridge: readout.ridge_criterion, %s, is undefined on %s: the squared error chose the penalty %g",
            plain_name(by.name), rows, penalty,
        )  # fmt: skip
        return
    value = criterion_value(by.name, fitness)
    log.log(
        level, "ridge: penalty %g by readout.ridge_criterion, %s %.4f on %s", penalty, plain_name(by.name), value, rows
    )


def fitness_of_scores(by: Criterion, labels: NDArray[np.integer[Any]], scores: NDArray[np.floating[Any]]) -> float:
    """Return a criterion of scores, shape (rows, classes), negative if lower is better; NaN if it is undefined."""
    return by.fitness(labels, scores.argmax(axis=1), scores if by.needs != "labels" else None)
