"""BorderlineSMOTE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from imblearn.over_sampling import BorderlineSMOTE
from numpy.typing import NDArray

from rcdp_hpc.data.balancing.whole_set import Recording, WholeSetOverSampling, recorded_rows
from rcdp_hpc.data.rows import RowTable


class Borderline(WholeSetOverSampling):
    """imbalanced-learn's BorderlineSMOTE."""

    def _resample(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        strategy: Mapping[int, int],
        neighbours: int,
        seed: int,
        categories: Sequence[int],
    ) -> list[RowTable]:
        sampler = _RecordingBorderlineSMOTE(sampling_strategy=dict(strategy), k_neighbors=neighbours, random_state=seed)
        return recorded_rows(sampler, x, y, strategy)


class _RecordingBorderlineSMOTE(Recording, BorderlineSMOTE):  # type: ignore[misc]
    pass
