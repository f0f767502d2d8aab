"""Missing values of new samples in features without a mask channel: counted during the prediction, reported once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.missing import listed_names
from rcdp_hpc.data.ranges import value_rows
from rcdp_hpc.model.prediction_model import PredictionModel
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.text import plain_name


class UnmaskedGaps:
    """Missing values that a model with mask channels fills without a mark, because training had none there.

    Parameters
    ----------
    model : PredictionModel
        A model with mask channels (``data.missing_mask``).
    """

    def __init__(self, model: PredictionModel) -> None:
        columns, standardization = model.data.columns, model.data.standardization
        assert standardization is not None
        self._names = None if columns is None else [plain_name(name) for name in columns.features]
        self._counts = np.zeros(model.raw_shape[-1], np.int64)
        self._masked = list(standardization.mask)

    @classmethod
    def of(cls, model: PredictionModel) -> UnmaskedGaps | None:
        """Return the counter of a model; None if it has no mask channels."""
        standardization = model.data.standardization
        return cls(model) if standardization is not None and standardization.mask else None

    def count(self, samples: NDArray[np.generic], lengths: NDArray[np.int64] | None) -> None:
        """Count the missing values in a block of raw samples."""
        if samples.dtype.kind != "f":
            return
        for rows in value_rows(samples, lengths, len(self._counts)):
            self._counts += np.isnan(rows).sum(0)

    def report(self, comm: Communicator) -> str:
        """Return the warning about the samples of all ranks; empty if there is nothing to report. Collective."""
        counts = comm.allreduce(self._counts)
        counts[self._masked] = 0
        affected = np.flatnonzero(counts)
        if not len(affected):
            return ""
        return (
            f"{counts.sum()} values are missing in features that had no missing values in the training rows: "
            f"{listed_names(self._names, affected.tolist())}. They are filled, and the model has no mask channel for "
            "them: its answers do not know that they were missing."
        )
