"""BorderlineSMOTE."""

from __future__ import annotations

from imblearn.over_sampling import BorderlineSMOTE

from rcdp_hpc.data.balancing.whole_set import RecordedOverSampling, Recording


class _RecordingBorderlineSMOTE(Recording, BorderlineSMOTE):  # type: ignore[misc]
    pass


class Borderline(RecordedOverSampling):
    """imbalanced-learn's BorderlineSMOTE."""

    sampler = _RecordingBorderlineSMOTE
