"""What is measured of a candidate: its error and accuracy, and the criterion that ``search.fitness`` names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config, SearchSection
from rcdp_hpc.config.choices.chosen_by import named_criterion
from rcdp_hpc.model.criteria import Criterion, criterion
from rcdp_hpc.reservoir.ridge import one_hot
from rcdp_hpc.search.evaluation.candidate import Measured
from rcdp_hpc.search.evaluation.rows import FitnessData
from rcdp_hpc.training.criterion_checks import refuse_undefined
from rcdp_hpc.training.solve.penalty_choice import fitness_of_scores

Scores = NDArray[np.floating]


def error_and_accuracy(scores: Scores, labels: NDArray[np.integer]) -> tuple[float, float]:
    """Return the mean squared error against one-hot targets, and the accuracy.

    Parameters
    ----------
    scores : ndarray, shape (rows, classes)
    labels : ndarray, shape (rows,)
        Labels.
    """
    difference = scores.astype(np.float64) - one_hot(labels, scores.shape[1])
    return float(np.mean(np.square(difference))), float(np.mean(scores.argmax(axis=1) == labels))


def evaluated(scores: Scores, labels: NDArray[np.integer], by: Criterion | None) -> Measured:
    """Return what is measured of rows.

    Parameters
    ----------
    scores : ndarray, shape (rows, classes)
    labels : ndarray, shape (rows,)
    by : Criterion or None
        What `fitness_criterion` returns.
    """
    return Measured(*error_and_accuracy(scores, labels), None if by is None else fitness_of_scores(by, labels, scores))


def evaluated_fold(scores: Scores, labels: NDArray[np.integer], by: Criterion | None) -> Measured:
    """Return what is measured of the held-out rows of a fold, for `over_folds`; parameters as of `evaluated`."""
    return Measured(*error_and_accuracy(scores, labels), None, None if by is None else scores)


def over_folds(results: Sequence[Measured], folds: Sequence[FitnessData], by: Criterion | None) -> Measured:
    """Return what is measured of the held-out rows of all folds together.

    A mean over folds of a criterion of uneven classes would depend on which fold has the rare rows.

    Parameters
    ----------
    results : sequence of Measured
        Of each fold, by `evaluated_fold`.
    folds : sequence of FitnessData
    by : Criterion or None
    """
    rows = np.array([len(fold.y_val) for fold in folds], dtype=np.float64)
    error, accuracy = (rows / rows.sum()) @ np.array([one[:2] for one in results])
    if by is None:
        return Measured(float(error), float(accuracy))
    scores = np.concatenate([one.scores for one in results if one.scores is not None])
    labels = np.concatenate([fold.y_val for fold in folds])
    return Measured(float(error), float(accuracy), fitness_of_scores(by, labels, scores))


def fitness_criterion(search: SearchSection, classes: Sequence[str]) -> Criterion | None:
    """Return the criterion that ``search.fitness`` names; None if the fitness follows from error or accuracy.

    Parameters
    ----------
    search : SearchSection
    classes : sequence of str
        Class names, in the order of the class numbers.

    Raises
    ------
    InputError
        If it is the recall of a class that does not exist.
    """
    name = named_criterion(search.fitness)
    return None if name in (None, "accuracy") or search.evaluation == "function" else criterion(str(name), classes)


def check_fitness_rows(config: Config, data: FitnessData) -> None:
    """Raise an `InputError` if the rows that evaluate candidates leave the criterion of ``search.fitness`` undefined.

    Parameters
    ----------
    config : Config
    data : FitnessData
    """
    by = fitness_criterion(config.search, data.class_names)
    if by is None:
        return
    search = config.search
    if data.parent_folds is not None:
        labels, rows = data.originals.y, "the held-out rows of all folds"
    elif data.folds:
        labels, rows = np.concatenate([fold.y_val for fold in data.folds]), "the held-out rows of all folds"
    elif search.evaluation == "ridge" and config.readout.ridge_selection != "validation":
        part = data.first(least_share(search))
        # Not of `left_out_rows`, which copies all samples.
        original = slice(None) if part.synthetic is None else ~part.synthetic
        labels = np.concatenate([part.y_train[original], part.y_val])
        rows = "the rows that evaluate candidates"
    else:
        labels, rows = data.first(least_share(search)).y_val, "the validation rows that evaluate candidates"
    refuse_undefined(by, "search.fitness", np.bincount(labels, minlength=data.classes), rows)


def least_share(search: SearchSection) -> float:
    """Return the smallest share of the rows that candidates are evaluated on."""
    return 1 / search.halving**search.halving_steps
