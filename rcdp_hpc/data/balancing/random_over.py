"""Random over-sampling: copies of random samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from imblearn.over_sampling import RandomOverSampler
from numpy.typing import NDArray

from rcdp_hpc.data.balancing.base import BalancingTask, OverSampling
from rcdp_hpc.data.balancing.row_numbers import class_seed, sampled_rows
from rcdp_hpc.data.rows import RowTable, synthetic_rows


class RandomOver(OverSampling):
    """imbalanced-learn's RandomOverSampler, one class at a time."""

    def synthetic(self, task: BalancingTask) -> list[RowTable]:
        """Return the copies of each class that is below its target."""
        return plan_copies(task.members, task.targets, task.seed)


def plan_copies(members: Sequence[NDArray[np.int64]], targets: Sequence[int], seed: int) -> list[RowTable]:
    """Plan the copies that bring every class up to its target.

    Parameters
    ----------
    members : sequence of ndarray of int64
        Ascending indices of the training samples of each class.
    targets : sequence of int
        Rows that each class should have.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    list of RowTable
        One for each class that is below its target.
    """
    tables = []
    for label, (indices, target) in enumerate(zip(members, targets, strict=True)):
        if len(indices) < target:
            # The sampler selects every row once and then the copies.
            copies = sampled_rows(RandomOverSampler, len(indices), target, class_seed(seed, label))[len(indices) :]
            rows = indices[copies]
            tables.append(synthetic_rows(label, rows, rows.copy(), np.zeros(len(rows), np.float32)))
    return tables
