"""Keys that name the criterion of a choice: of the best candidate, of the ridge penalty, of the best epoch.

Each accepts the criteria of `rcdp_hpc.config.choices.criteria.CRITERIA`, the recall of a class, and its default: an
error or a loss, which has less noise than a criterion of predicted classes (docs/search.md compares them).
"""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable
from rcdp_hpc.config.choices.criteria import CRITERIA, RECALL, criterion_accepted

# Criteria without the classes that implement them: those are looked up in `CRITERIA`.
_NAMED = (
    *(Choice(choice.name, choice.meaning) for choice in CRITERIA),
    Choice(f"{RECALL}CLASS", "recall of the class of this name"),
)
# Criteria of probabilities: a readout that is solved has scores only, until its model is written.
OF_PROBABILITIES = ("log_loss", "brier", "ece")
LOWER_IS_BETTER = OF_PROBABILITIES

FITNESSES = ChoiceTable(
    "search.fitness",
    (
        Choice(
            "eq5",
            "inverse of the validation error, with a penalty on the density (eq. 5)",
            keys=("search.density_weight", "search.density_target"),
        ),
        *_NAMED,
    ),
)
RIDGE_CRITERIA = ChoiceTable(
    "readout.ridge_criterion",
    (
        Choice("squared_error", "squared error of the scores after their best common scaling, with the class weights"),
        *_NAMED,
    ),
)
TRAINING_CRITERIA = ChoiceTable(
    "training.criterion",
    (
        Choice("loss", "validation loss, with the class weights"),
        *_NAMED,
    ),
)


def fitness_accepted(name: str) -> str:
    """Return a value of ``search.fitness``, checked; a `ValueError` if it is none."""
    return criterion_accepted(name, ("eq5",))


def ridge_criterion_accepted(name: str) -> str:
    """Return a value of ``readout.ridge_criterion``, checked; a `ValueError` if it is none."""
    return criterion_accepted(name, ("squared_error",))


def training_criterion_accepted(name: str) -> str:
    """Return a value of ``training.criterion``, checked; a `ValueError` if it is none."""
    return criterion_accepted(name, ("loss",))


def named_criterion(value: str) -> str | None:
    """Return the criterion that a value of one of these keys names; None for the choice by error or loss."""
    return None if value in ("eq5", "squared_error", "loss") else value


def criterion_value(name: str, fitness: float) -> float:
    """Return the value of a criterion from its fitness, which is the negative if lower is better."""
    return -fitness if name in LOWER_IS_BETTER else fitness
