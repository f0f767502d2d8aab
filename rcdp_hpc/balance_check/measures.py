"""Measures of answers: criteria of the confusion matrix, for many draws of rows at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config.choices.criteria import CRITERIA
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.criteria import criterion
from rcdp_hpc.model.criteria.base import Floats
from rcdp_hpc.model.criteria.confusion import ConfusionCriterion, Counts

# Values of counts of hits, samples and predictions by class, shape (..., classes) each.
Measure = Callable[[Counts], Floats]

WORST_RECALL = "worst_recall"
# Measures in the table, in this order; `worst_recall` is the recall of the class with the lowest one.
SHOWN = ("balanced_accuracy", "macro_f1", WORST_RECALL, "accuracy")


def worst_recall(counts: Counts) -> Floats:
    """Return the recall of the class with the lowest one, of those with rows."""
    return np.asarray(np.nanmin(counts.recall, axis=-1))


def measures_of(deciding: str, classes: Sequence[str]) -> dict[str, Measure]:
    """Return the measures of a check by name, the one that decides first.

    Raises
    ------
    InputError
        If the one that decides is not a criterion of answers.
    """
    names = [deciding, *(name for name in SHOWN if name != deciding)]
    return {name: measure_of(name, classes) for name in names}


def refuse_undefined(deciding: str, labels: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Raise an `InputError` if the measure that decides is not one of answers, or undefined for these true classes."""
    measure_of(deciding, classes)
    reason = None if deciding == WORST_RECALL else criterion(deciding, classes).undefined(labels, classes)
    if reason is not None:
        raise InputError(f"--criterion {deciding}: it is undefined without the test part, which is not used: {reason}.")


def measure_of(name: str, classes: Sequence[str]) -> Measure:
    """Return a measure; errors as `measures_of`."""
    if name == WORST_RECALL:
        return worst_recall
    found = criterion(name, classes)
    if not isinstance(found, ConfusionCriterion):
        accepted = [one for one in CRITERIA.names if isinstance(criterion(one, classes), ConfusionCriterion)]
        raise InputError(
            f"--criterion {name}: this check decides by answers, not by probabilities: expected worst_recall, "
            f"recall:CLASS or one of {', '.join(accepted)}."
        )
    return found.of_counts
