"""KMeansSMOTE."""

from __future__ import annotations

from imblearn.over_sampling import KMeansSMOTE

from rcdp_hpc.data.balancing.whole_set import RecordedOverSampling, Recording


class _RecordingKMeansSMOTE(Recording, KMeansSMOTE):  # type: ignore[misc]
    pass


class KMeans(RecordedOverSampling):
    """imbalanced-learn's KMeansSMOTE."""

    sampler = _RecordingKMeansSMOTE
