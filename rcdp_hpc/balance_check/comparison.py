"""The comparison of methods: measures of all held-out rows together, and paired differences to no balancing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.balance_check.intervals import corrected, fold_interval
from rcdp_hpc.balance_check.measures import Measure
from rcdp_hpc.model.criteria.bootstrap import Interval
from rcdp_hpc.model.criteria.confusion import Counts
from rcdp_hpc.model.criteria.paired import drawn_pairs


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers of a method for all rows.

    Attributes
    ----------
    name, meaning : str
    predicted : ndarray, shape (rows,), int64
    rows : int
        Rows of a training with all rows.
    penalties : list of float
        By fold.
    chosen : mapping
        What the method chose.
    """

    name: str
    meaning: str
    predicted: NDArray[np.int64]
    rows: int
    penalties: list[float]
    chosen: Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """The difference of a measure to that of another method.

    Attributes
    ----------
    value : float
    over_rows, over_folds, interval : (float, float), or None
        Intervals of 95 %: over rows, over folds, and over rows with the correction for folds, which decides.
    """

    value: float
    over_rows: Interval
    over_folds: Interval | None
    interval: Interval

    @property
    def better(self) -> bool:
        """Whether the method is better: the interval is above 0."""
        return self.interval[0] > 0

    @property
    def worse(self) -> bool:
        """Whether the method is worse: the interval is below 0."""
        return self.interval[1] < 0


@dataclass(frozen=True, eq=False)
class Compared:
    """A method and its measures.

    Attributes
    ----------
    answers : Answers
    values : dict of str to float
        By measure, over all held-out rows.
    recall : list of float or None
        By class; None for a class without rows.
    differences : dict of str to Difference
        To no balancing, by measure; empty for no balancing itself.
    """

    answers: Answers
    values: dict[str, float]
    recall: list[float | None]
    differences: dict[str, Difference]


@dataclass(frozen=True, eq=False)
class Comparing:
    """The rows that methods are compared on.

    Attributes
    ----------
    labels, folds : ndarray, shape (rows,), int64
    classes : int
    measures : dict of str to callable
    seed : int
        Of the bootstrap.
    """

    labels: NDArray[np.int64]
    folds: NDArray[np.int64]
    classes: int
    measures: dict[str, Measure]
    seed: int

    def compared(self, all_answers: list[Answers]) -> list[Compared]:
        """Return the comparison of several methods with the first one."""
        results: list[Compared] = []
        for one in all_answers:
            counts = self._counts(one)
            values = {name: float(measure(counts)) for name, measure in self.measures.items()}
            recall = [None if np.isnan(value) else float(value) for value in counts.recall]
            differences = self.differences(all_answers[0], one) if results else {}
            results.append(Compared(one, values, recall, differences))
        return results

    def differences(self, first: Answers, other: Answers) -> dict[str, Difference]:
        """Return the difference of every measure of two methods: the other minus the first."""
        draws = drawn_pairs(self.labels, other.predicted, first.predicted, self.classes, self.seed)
        whole, by_fold = self._counts(first), self._by_fold(first)
        other_whole, other_by_fold = self._counts(other), self._by_fold(other)
        found = {}
        for name, measure in self.measures.items():
            over_rows = draws.interval(measure, (other_whole, whole))
            over_folds = fold_interval((measure(other_by_fold) - measure(by_fold)).tolist())
            value = float(measure(other_whole) - measure(whole))
            found[name] = Difference(
                value, over_rows, over_folds, corrected(value, over_rows, int(self.folds.max()) + 1)
            )
        return found

    def _counts(self, answers: Answers) -> Counts:
        return Counts.of_rows(self.labels, answers.predicted, self.classes)

    def _by_fold(self, answers: Answers) -> Counts:
        """Return the counts of each fold, shape (folds, classes)."""
        parts = [
            Counts.of_rows(self.labels[self.folds == fold], answers.predicted[self.folds == fold], self.classes)
            for fold in range(int(self.folds.max()) + 1)
        ]
        return Counts(*(np.stack([getattr(part, name) for part in parts]) for name in ("hits", "true", "predicted")))
