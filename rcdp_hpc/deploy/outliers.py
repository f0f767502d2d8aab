"""Single samples far outside the training values: counted while samples are predicted, reported once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.ranges import BLOCK_VALUES
from rcdp_hpc.data.sources import NewSamples
from rcdp_hpc.deploy.comparison import Expected, far_values
from rcdp_hpc.runtime.comm.base import Communicator

NAMED = 5
# Among many values of one sample a few are far by chance.
FAR_SHARE = 0.01


class Outliers:
    """Samples with values beyond the training's minimum or maximum by more than its span.

    Parameters
    ----------
    expected : Expected
        What the model knows of its training values.
    new : NewSamples
        The samples that are predicted.
    """

    def __init__(self, expected: Expected, new: NewSamples) -> None:
        self._expected = expected
        self._new = new
        self._count = 0
        self._first: list[int] = []  # their numbers, in order
        self._by_feature = np.zeros(len(expected.ranges), np.int64)
        self._categories = np.array([name in expected.categories for name in expected.names], bool)

    def look(self, samples: NDArray[np.generic], lengths: NDArray[np.int64] | None, first: int) -> None:
        """Count the samples of a block whose first has the number `first`."""
        size = max(1, BLOCK_VALUES // max(1, samples[:1].size))
        for start in range(0, len(samples), size):
            own = None if lengths is None else lengths[start : start + size]
            self._count_far(self._far(samples[start : start + size], own), own, first + start)

    def _far(self, samples: NDArray[np.generic], lengths: NDArray[np.int64] | None) -> NDArray[np.bool_]:
        """Return which values are far outside, shape (n, values of one feature, F)."""
        ranges = self._expected.ranges
        values = samples.astype(np.float64).reshape(len(samples), -1, len(ranges)) * self._expected.scale
        far = far_values(values, ranges)
        if len(self._categories):
            far[:, :, self._categories] = False
        if lengths is not None:
            far &= (np.arange(far.shape[1]) < lengths[:, None])[:, :, None]
        return far

    def _count_far(self, far: NDArray[np.bool_], lengths: NDArray[np.int64] | None, first: int) -> None:
        values = (far.shape[1] if lengths is None else lengths) * far.shape[2]
        outliers = np.flatnonzero(far.sum((1, 2)) > FAR_SHARE * values)
        self._count += len(outliers)
        self._by_feature += far[outliers].any(1).sum(0)
        self._first += (first + outliers).tolist()[: NAMED - len(self._first)]

    def report(self, comm: Communicator) -> str:
        """Return the warning about all ranks' samples; empty if there is none. Collective."""
        found = comm.allgather((self._count, self._first))
        by_feature = comm.allreduce(self._by_feature)
        count = sum(number for number, _ in found)
        if not count:
            return ""
        ids = self._new.ids
        places = sorted(place for _, some in found for place in some)[:NAMED]
        names = ", ".join(str(place) if ids is None else ids[place] for place in places)
        worst = int(by_feature.argmax())
        ranges, scale = self._expected.ranges, self._expected.scale
        return (
            f"{count} of {len(self._new)} samples are far outside the training data, so their labels mean little: "
            f"{self._new.id_name} {names}{', ...' if count > len(places) else ''}. Most often in "
            f"{self._expected.name(worst)} ({by_feature[worst]} of them), which training has from "
            f"{ranges.minimum[worst] / scale:.4g} to {ranges.maximum[worst] / scale:.4g}. Check their units and for "
            "errors of measurement."
        )
