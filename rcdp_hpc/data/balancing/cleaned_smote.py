"""SMOTE, followed by a method that removes rows."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.balancing.base import READ_BYTES, BalancingMethod, BalancingTask
from rcdp_hpc.data.balancing.smote import Smote
from rcdp_hpc.data.rows import RowTable, make_samples
from rcdp_hpc.runtime.threads import limit_threads


class CleanedSmote(BalancingMethod):
    """SMOTE, followed by one of imbalanced-learn's cleaning samplers on all rows.

    Attributes
    ----------
    cleaner : class
        The sampler. It selects the rows that remain.
    """

    cleaner: ClassVar[Any]

    def rows(self, task: BalancingTask) -> RowTable:
        """Return the samples and synthetic rows that remain."""
        rows = Smote().rows(task)
        return rows.part(self.remaining(_values(task, rows), rows.y))

    def remaining(self, x: NDArray[np.float32], y: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the rows that the cleaner leaves, ascending.

        Parameters
        ----------
        x : ndarray of float32, shape (N, width)
            Samples and synthetic rows, flattened.
        y : ndarray of int32, shape (N,)
            Their classes.
        """
        with limit_threads(1):
            cleaner = self.cleaner(sampling_strategy="all")
            cleaner.fit_resample(x, y)
        selected: NDArray[np.int64] = np.sort(cleaner.sample_indices_)
        return selected


def _values(task: BalancingTask, rows: RowTable) -> NDArray[np.float32]:
    """Return the values of rows, flattened, computed in blocks."""
    x = np.empty((len(rows), math.prod(task.source.sample_shape)), np.float32)
    size = max(1, READ_BYTES // (4 * x.shape[1]))
    for start in range(0, len(rows), size):
        part = rows.part(slice(start, start + size))
        x[start : start + size] = make_samples(task.source, part, task.storage).reshape(len(part), -1)
    return x
