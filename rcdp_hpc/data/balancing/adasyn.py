"""ADASYN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from imblearn.over_sampling import ADASYN
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from rcdp_hpc.data.balancing.whole_set import WholeSetOverSampling, other_than_itself
from rcdp_hpc.data.rows import RowTable, synthetic_rows


class Adasyn(WholeSetOverSampling):
    """imbalanced-learn's ADASYN, one class at a time.

    ADASYN does not report which samples it combines. They follow from the random numbers, which are recorded.
    """

    def _resample(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        strategy: Mapping[int, int],
        neighbours: int,
        seed: int,
        categories: Sequence[int],
    ) -> list[RowTable]:
        tables = []
        for label, target in strategy.items():
            draws = _RecordingState(seed + label)
            sampler = ADASYN(sampling_strategy={label: target}, n_neighbors=neighbours, random_state=draws)
            sampler.fit_resample(x, y)
            members = np.flatnonzero(y == label)
            starts = np.repeat(np.arange(len(members)), _rows_of_each(x, y, members, target, neighbours))
            nearest = _neighbours(x[members], x[members], neighbours)
            seeds = members[starts]
            others = other_than_itself(x, members, seeds, members[nearest[starts, draws.chosen]])
            tables.append(synthetic_rows(label, seeds, others, draws.steps[:, 0].astype(np.float32)))
        return tables


def _rows_of_each(
    x: NDArray[np.float32], y: NDArray[np.int64], members: NDArray[np.int64], target: int, neighbours: int
) -> NDArray[np.int64]:
    """Return how many rows each sample of a class gets: in proportion to its neighbours of other classes."""
    label = y[members[0]]
    around = _neighbours(x, x[members], neighbours)
    foreign = np.sum(y[around] != label, axis=1) / neighbours
    return np.rint(foreign / np.sum(foreign) * (target - len(members))).astype(np.int64)


def _neighbours(x: NDArray[np.float32], wanted: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the `count` nearest rows of `x` to each wanted row, without the nearest, which is the row itself."""
    search = NearestNeighbors(n_neighbors=count + 1).fit(x)
    nearest: NDArray[np.int64] = search.kneighbors(wanted, return_distance=False)
    return nearest[:, 1:]


class _RecordingState(np.random.RandomState):
    """A random state that records the last choice and the last steps."""

    chosen: NDArray[np.int64]
    steps: NDArray[np.float64]

    def choice(self, *args: Any, **options: Any) -> Any:
        self.chosen = super().choice(*args, **options)
        return self.chosen

    def uniform(self, *args: Any, **options: Any) -> Any:
        self.steps = super().uniform(*args, **options)
        return self.steps
