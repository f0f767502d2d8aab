"""Statistics of a comparison: mean and deviation, paired tests of two methods, and the correction for several tests.

- `paired_t`: seeds. Student's paired t-test of the differences d of n repetitions, t = mean(d) / (s / sqrt(n)) with
  n - 1 degrees of freedom. Seeds change split, search and training.
- `corrected_t`: folds. Training parts of folds overlap, so that the paired t-test finds differences too often. The
  corrected resampled t-test replaces the variance s^2 / n by (1/n + n_test / n_train) s^2 (Nadeau & Bengio, "Inference
  for the generalization error", Machine Learning 52, 2003).
- `mcnemar`: a single seed. The exact test of McNemar: of the test samples on which exactly one of both methods is
  right, each method should be right on half (a sign test, binomial). It tests these two trained models, not methods.

All are two-sided. `holm` corrects for several tests (Holm, Scandinavian Journal of Statistics 6, 1979).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rcdp_hpc.model.criteria.paired import mcnemar_p

PAIRED_T = "paired t-test"
CORRECTED_T = "corrected resampled t-test"
MCNEMAR = "exact test of McNemar"
EQUAL = 1e-12


@dataclass(frozen=True)
class Tested:
    """The result of a test.

    Attributes
    ----------
    statistic, p : float or None
        None if the test cannot be made.
    note : str
        Why it cannot be made; empty otherwise.
    """

    statistic: float | None
    p: float | None
    note: str = ""


def mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the mean and the sample standard deviation; None for too few values."""
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None


def paired_t(differences: Sequence[float]) -> Tested:
    """Return Student's paired t-test of the differences of two methods over seeds."""
    return _t(differences, 1 / max(1, len(differences)))


def corrected_t(differences: Sequence[float], test_over_train: float) -> Tested:
    """Return the corrected resampled t-test of the differences of two methods over folds.

    Parameters
    ----------
    differences : sequence of float
        One for each fold.
    test_over_train : float
        Samples of a test part over those of a training part: 1 / (k - 1) for k folds.
    """
    return _t(differences, 1 / max(1, len(differences)) + test_over_train)


def _t(differences: Sequence[float], factor: float) -> Tested:
    """Return the t-test of a mean whose variance is `factor` times the variance of the differences."""
    if len(differences) < 2:
        return Tested(None, None, "needs two or more repetitions in which both methods have results")
    mean, variance = statistics.fmean(differences), statistics.variance(differences)
    # Equal accuracies may differ in their last digits.
    if max(differences) - min(differences) < EQUAL:
        if abs(mean) < EQUAL:
            return Tested(0.0, 1.0)
        return Tested(None, None, "the difference is the same in every repetition, so its variance is unknown")
    from scipy.stats import t

    statistic = mean / math.sqrt(factor * variance)
    return Tested(statistic, 2 * float(t.sf(abs(statistic), len(differences) - 1)))


def mcnemar(only_first: int, only_other: int) -> Tested:
    """Return the exact test of McNemar.

    Parameters
    ----------
    only_first, only_other : int
        Test samples on which only the first, or only the other method is right.

    Returns
    -------
    Tested
        The statistic is `only_first`.
    """
    return Tested(float(only_first), mcnemar_p(only_first, only_other))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return p values corrected by Holm: the i-th smallest of m, times m - i + 1, but no less than the one before.

    Parameters
    ----------
    values : sequence of float or None
        None for a test that could not be made, which is not counted.
    """
    order = sorted((value, place) for place, value in enumerate(values) if value is not None)
    corrected: list[float | None] = [None] * len(values)
    least = 0.0
    for rank, (value, place) in enumerate(order):
        least = min(1.0, max(least, value * (len(order) - rank)))
        corrected[place] = least
    return corrected
