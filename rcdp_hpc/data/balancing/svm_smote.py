"""SVMSMOTE."""

from __future__ import annotations

from imblearn.over_sampling import SVMSMOTE

from rcdp_hpc.data.balancing.whole_set import RecordedOverSampling, Recording


class _RecordingSVMSMOTE(Recording, SVMSMOTE):  # type: ignore[misc]
    pass


class Svm(RecordedOverSampling):
    """imbalanced-learn's SVMSMOTE."""

    sampler = _RecordingSVMSMOTE
