"""Single samples far outside the training values: counted during the prediction, reported once at the end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.ranges import BLOCK_VALUES
from rcdp_hpc.data.sources import NewSamples
from rcdp_hpc.deploy.comparison import Expected, far_values
from rcdp_hpc.runtime.comm.base import Communicator

# Samples that the warning names.
NAMED = 5
# A sample is an outlier if a larger share of its values is far outside; a few of many values are by chance.
FAR_SHARE = 0.01


class Outliers:
    """Samples with values beyond the minimum or maximum of the training by more than its span.

    Parameters
    ----------
    expected : Expected
        The training values of the model.
    new : NewSamples
        The samples to predict.
    """

    def __init__(self, expected: Expected, new: NewSamples) -> None:
        self._expected = expected
        self._new = new
        self._count = 0
        self._first: list[int] = []  # numbers of the first outliers, in order
        self._by_feature = np.zeros(len(expected.ranges), np.int64)
        self._categories = np.array([name in expected.categories for name in expected.names], bool)

    def count(self, samples: NDArray[np.generic], lengths: NDArray[np.int64] | None, first: int) -> None:
        """Count the outliers in a block of samples; `first` is the number of its first sample."""
        size = max(1, BLOCK_VALUES // max(1, samples[:1].size))
        for start in range(0, len(samples), size):
            some_lengths = None if lengths is None else lengths[start : start + size]
            far = self._far(samples[start : start + size], some_lengths)
            self._count_far(far, some_lengths, first + start)

    def _far(self, samples: NDArray[np.generic], lengths: NDArray[np.int64] | None) -> NDArray[np.bool_]:
        """Return whether each value is far outside, shape (n, values of one feature, F)."""
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
        """Return the warning about the outliers of all ranks; empty if there are none. Collective."""
        counts = comm.allgather((self._count, self._first))
        by_feature = comm.allreduce(self._by_feature)
        count = sum(number for number, _ in counts)
        if not count:
            return ""
        ids = self._new.ids
        places = sorted(place for _, some in counts for place in some)[:NAMED]
        names = ", ".join(str(place) if ids is None else ids[place] for place in places)
        worst = int(by_feature.argmax())
        ranges, scale = self._expected.ranges, self._expected.scale
        return (
            f"{count} of {len(self._new)} samples are far outside the training data, so their labels are unreliable: "
            f"{self._new.id_name} {names}{', ...' if count > len(places) else ''}. Most often in "
            f"{self._expected.name(worst)} ({by_feature[worst]} of them), whose values in "
            f"training are {ranges.minimum[worst] / scale:.4g} to {ranges.maximum[worst] / scale:.4g}. Check units and "
            "measurements."
        )
