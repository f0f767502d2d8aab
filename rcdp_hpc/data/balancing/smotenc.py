"""SMOTENC: SMOTE for tables with categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from imblearn.over_sampling import SMOTENC
from numpy.typing import NDArray

from rcdp_hpc.data.balancing.whole_set import WholeSetOverSampling, other_than_itself
from rcdp_hpc.data.rows import RowTable, synthetic_rows


class SmoteNC(WholeSetOverSampling):
    """imbalanced-learn's SMOTENC: a synthetic row takes the most frequent categories of the neighbours."""

    def _resample(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        strategy: Mapping[int, int],
        neighbours: int,
        seed: int,
        categories: Sequence[int],
    ) -> list[RowTable]:
        sampler = _RecordingSMOTENC(
            categorical_features=list(categories),
            sampling_strategy=dict(strategy),
            k_neighbors=neighbours,
            random_state=seed,
        )
        sampler.recipes = []
        resampled, labels = sampler.fit_resample(x, y)
        tables, start = [], len(x)
        for (rows, others, steps), label in zip(sampler.recipes, strategy, strict=True):
            members = np.flatnonzero(y == label)
            stop = start + len(rows)
            assert (labels[start:stop] == label).all()
            values = resampled[start:stop][:, list(categories)].astype(np.float32)
            ends = other_than_itself(x, members, members[rows], members[others])
            tables.append(synthetic_rows(label, members[rows], ends, steps.astype(np.float32), values))
            start = stop
        return tables


class _RecordingSMOTENC(SMOTENC):  # type: ignore[misc]
    recipes: list[tuple[Any, Any, Any]]

    def _generate_samples(self, X: Any, nn_data: Any, nn_num: Any, rows: Any, cols: Any, steps: Any, *rest: Any) -> Any:
        self.recipes.append((rows, nn_num[rows, cols], steps[:, 0]))
        return super()._generate_samples(X, nn_data, nn_num, rows, cols, steps, *rest)
