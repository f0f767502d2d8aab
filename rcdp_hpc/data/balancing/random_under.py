"""Random under-sampling: random samples are left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from imblearn.under_sampling import RandomUnderSampler
from numpy.typing import NDArray

from rcdp_hpc.data.balancing.base import BalancingMethod, BalancingTask
from rcdp_hpc.data.balancing.row_numbers import class_seed, sampled_rows
from rcdp_hpc.data.rows import RowTable, original_rows


class RandomUnder(BalancingMethod):
    """imbalanced-learn's RandomUnderSampler, one class at a time."""

    def rows(self, task: BalancingTask) -> RowTable:
        """Return the samples that remain."""
        remaining = np.sort(np.concatenate(remaining_samples(task.members, task.targets, task.seed)))
        return original_rows(task.source.train.y[remaining], remaining)


def remaining_samples(
    members: Sequence[NDArray[np.int64]], targets: Sequence[int], seed: int
) -> list[NDArray[np.int64]]:
    """Return the samples of each class that remain, ascending; the parameters are those of `plan_copies`."""
    return [
        np.sort(indices[sampled_rows(RandomUnderSampler, len(indices), target, class_seed(seed, label))])
        if target < len(indices)
        else indices
        for label, (indices, target) in enumerate(zip(members, targets, strict=True))
    ]
