"""The evaluation of one candidate, and eq. 5 of the paper."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackError

from rcdp_hpc.config import SearchSection
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.runtime.ram import is_out_of_memory
from rcdp_hpc.search.space import Values

SMALLEST_ERROR = 1e-12
REASON_LENGTH = 300
# Errors that the values of a candidate can cause; any other error is a defect or wrong input of the user.
FAILURES = (CandidateError, np.linalg.LinAlgError, ArpackError, MemoryError, FloatingPointError, OverflowError)


@dataclass(frozen=True)
class Evaluation:
    """The outcome of one candidate.

    Attributes
    ----------
    fitness : float
        The maximised number, without the density term of eq. 5; -inf for a candidate that failed.
    error : float
        Mean squared validation error E of the class scores; NaN for a candidate that failed.
    accuracy : float
        Share of the validation rows whose class is predicted correctly; NaN for a candidate that failed.
    seconds : float
        Duration of the evaluation.
    reason : str or None
        Why the candidate failed; None if it did not.
    rank : int
        Rank that evaluated it.
    """

    fitness: float
    error: float
    accuracy: float
    seconds: float = 0.0
    reason: str | None = None
    rank: int = 0


class Measured(NamedTuple):
    """What is measured of a candidate.

    Attributes
    ----------
    error : float
        Mean over rows and classes of the squared difference between scores and one-hot targets.
    accuracy : float
        Share of the rows with the largest score for their class.
    value : float or None
        The criterion that ``search.fitness`` names, negative if lower is better; None if the fitness follows from error
        or accuracy.
    scores : numpy.ndarray, shape (rows, classes), or None
        Scores of the held-out rows of a fold, for a criterion of all folds together; None otherwise.
    """

    error: float
    accuracy: float
    value: float | None = None
    scores: NDArray[np.floating] | None = None


Measure = Callable[[Values], Measured | tuple[float, float]]


def score(search: SearchSection, error: float, accuracy: float, value: float | None = None) -> float:
    """Return the number that ``search.fitness`` maximises, from error, accuracy and the criterion that it names.

    For eq. 5 it is 1/E, with E at least 1e-12. The density term is not in it: its unit is the error of the first
    candidate, which rank 0 knows (`rcdp_hpc.search.density_term`).
    """
    if value is not None:
        return value
    return accuracy if search.fitness == "accuracy" else 1.0 / max(error, SMALLEST_ERROR)


def evaluate_candidate(measure: Measure, values: Values, search: SearchSection) -> Evaluation:
    """Measure one candidate; if it fails, its fitness is -inf, with the reason.

    Parameters
    ----------
    measure : callable
        Returns what is measured for the candidate's values, or error and accuracy alone.
    values : dict
        The candidate.
    search : SearchSection

    Returns
    -------
    Evaluation
    """
    started = time.perf_counter()
    try:
        error, accuracy, value, _ = Measured(*measure(values))
    except FAILURES as failure:
        return _failed(explain(failure), started)
    except RuntimeError as failure:
        if not is_out_of_memory(failure):
            raise
        return _failed("out of memory", started)
    if not (np.isfinite(error) and np.isfinite(accuracy)):
        return _failed(f"the validation error is {error}", started)
    fitness = score(search, error, accuracy, value)
    if np.isnan(fitness):
        return _failed(f"search.fitness = {search.fitness} is undefined for its scores", started)
    return Evaluation(fitness, error, accuracy, time.perf_counter() - started)


def _failed(reason: str, started: float) -> Evaluation:
    return Evaluation(-np.inf, np.nan, np.nan, time.perf_counter() - started, reason[:REASON_LENGTH])


def explain(failure: BaseException) -> str:
    """Return the reason of a failure, the same text on every rank and in every run."""
    if isinstance(failure, MemoryError):  # its text has addresses and sizes that differ between runs
        return "out of memory"
    text = " ".join(str(failure).split())
    return text if isinstance(failure, CandidateError) and text else f"{type(failure).__name__}: {text}"
