"""The criteria of a test over all ranks: the same for any number of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.model.answers import Answers
from rcdp_hpc.model.criteria.measured import (
    Measured,
    RankingScores,
    RowNumbers,
    measure_confusion,
    measure_probabilities,
)
from rcdp_hpc.model.metrics import confusion_matrix
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import run_on_root


@dataclass(frozen=True)
class TestRows:
    """True and predicted classes of all test rows, in the order of the shards.

    Attributes
    ----------
    labels, predicted : ndarray of int64, shape (rows,)
    ridge : ndarray of int64, shape (rows,), or None
        What the ridge baseline predicts, if there is one.
    """

    # Tells pytest that the class is not a test.
    __test__ = False

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    ridge: NDArray[np.int64] | None


class TestScores:
    """What the criteria use of this rank's test rows, in the order of the shards.

    Parameters
    ----------
    classes : sequence of str
        Class names.
    """

    __test__ = False

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = list(classes)
        self._rows: list[NDArray[np.float64]] = []
        self._probabilities: list[NDArray[np.float32]] = []
        self._raw: list[NDArray[np.float64]] = []
        self._calibrated = False
        self._has_ridge = False

    def add(self, labels: NDArray[np.int32], answers: Answers, ridge: NDArray[np.float32] | None = None) -> None:
        """Add a block of rows.

        Parameters
        ----------
        labels : ndarray of int32, shape (n,)
            Class number of each row.
        answers : Answers
            Of the model for the rows.
        ridge : ndarray of float32, shape (n, classes), or None
            Scores of the ridge baseline.
        """
        numbers = RowNumbers.of(labels, answers.probabilities).columns()
        by_ridge = np.full(len(labels), -1) if ridge is None else ridge.argmax(1)
        self._has_ridge |= ridge is not None
        self._rows.append(np.column_stack([labels, answers.predicted, by_ridge, numbers]).astype(np.float64))
        self._probabilities.append(answers.probabilities)
        if answers.probabilities is not answers.raw:
            self._calibrated = True
            self._raw.append(RowNumbers.of(labels, answers.raw).columns())

    def measure(self, comm: Communicator, seed: int = 0) -> tuple[Measured, dict[str, float], TestRows | None]:
        """Measure all criteria of the rows of all ranks. Collective.

        The scores of a class at a time are sent to rank 0, which therefore never holds those of all classes, unless
        they are few enough for a bootstrap.

        Returns
        -------
        measured : Measured
        uncalibrated : dict of str to float
            The criteria of the probabilities before calibration; empty if the model is not calibrated.
        rows : TestRows or None
            On rank 0; None on the others.
        """
        rows = comm.gather_rows(np.concatenate([np.empty((0, 7)), *self._rows]))
        calibrated, has_ridge = comm.allreduce(np.array([self._calibrated, self._has_ridge], float), "max")
        raw = comm.gather_rows(np.concatenate([np.empty((0, 4)), *self._raw])) if calibrated else None
        test = None if rows is None else _test_rows(rows, bool(has_ridge))
        ranking = self._ranking(comm, test)
        numbers = None if rows is None else RowNumbers.of_columns(rows[:, 3:])
        measured = run_on_root(comm, lambda: _measured(test, numbers, ranking, self._classes, seed))
        return measured, run_on_root(comm, lambda: _values(raw)), test

    def _ranking(self, comm: Communicator, test: TestRows | None) -> RankingScores | None:
        """Return the scores of each class against the rest, on rank 0. Collective."""
        ranking = None if test is None else RankingScores(test.labels, self._classes)
        here = np.concatenate([np.empty((0, len(self._classes)), np.float32), *self._probabilities])
        for label in range(len(self._classes)):
            # Exact, there and back.
            column = comm.gather_rows(here[:, label : label + 1].astype(np.float64))
            if ranking is not None and column is not None:
                ranking.add(label, column[:, 0].astype(np.float32))
        return ranking


def _test_rows(rows: NDArray[np.float64], has_ridge: bool) -> TestRows:
    labels, predicted, ridge = rows[:, :3].astype(np.int64).T
    return TestRows(labels, predicted, ridge if has_ridge else None)


def _measured(
    test: TestRows | None, numbers: RowNumbers | None, ranking: RankingScores | None, classes: Sequence[str], seed: int
) -> Measured:
    if test is None or numbers is None or ranking is None:
        raise RuntimeError("rows are gathered on rank 0 only")
    of_matrix = measure_confusion(confusion_matrix(test.labels, test.predicted, len(classes)), classes, seed)
    of_rows = measure_probabilities(test.labels, numbers, classes, seed)
    return of_matrix.joined(ranking.measured(seed)).joined(of_rows)


def _values(raw: NDArray[np.float64] | None) -> dict[str, float]:
    """Return the criteria of probabilities; empty without rows."""
    if raw is None or not len(raw):
        return {}
    return {name: float(value(None)) for name, value in RowNumbers.of_columns(raw).statistics().items()}
