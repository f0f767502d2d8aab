"""Reliability: how often the model is right at each level of its probabilities, of the test rows.

A row counts in the bin of its largest probability, for the class of that probability (Guo et al., "On calibration of
modern neural networks", 2017). The bins have equal width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.model.answers import Answers
from rcdp_hpc.model.criteria.probabilities import BINS, bin_of
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.digests import read_sealed, write_sealed

FILE = "reliability.json"
# Probabilities are summed as multiples of this number, so that the sums are the same for any number of ranks.
STEP = 2.0**-30
KINDS = ("model", "reported")


class Reliability:
    """The bins of the test rows, of the probabilities of the model itself and of those that it reports."""

    def __init__(self) -> None:
        # For each kind and bin: rows, right rows, and the sum of their probabilities in steps.
        self.sums = np.zeros((len(KINDS), 3, BINS), np.int64)

    def add(self, labels: NDArray[np.integer[Any]], answers: Answers) -> None:
        """Add rows.

        Parameters
        ----------
        labels : ndarray of int, shape (rows,)
            True classes.
        answers : Answers
        """
        for sums, probabilities in zip(self.sums, (answers.raw, answers.probabilities), strict=True):
            largest = probabilities.max(1).astype(np.float64)
            right = probabilities.argmax(1) == labels
            bins = bin_of(largest)
            steps = np.rint(largest / STEP).astype(np.int64)
            for row, values in zip(sums, (np.ones_like(steps), right.astype(np.int64), steps), strict=True):
                np.add.at(row, bins, values)

    def content(self, comm: Communicator) -> dict[str, Any]:
        """Return the bins of all ranks for ``reliability.json``. Collective."""
        total = comm.allreduce(self.sums)
        same = np.array_equal(total[0], total[1])
        kinds = zip(KINDS[:1] if same else KINDS, total, strict=False)
        return {"bins": BINS, **{name: _bins(*sums) for name, sums in kinds}}


def _bins(rows: NDArray[np.int64], right: NDArray[np.int64], steps: NDArray[np.int64]) -> dict[str, Any]:
    """Return count, mean probability and accuracy of each bin, null if it is empty, and the calibration error."""
    count = int(rows.sum())
    gap = np.abs(right - steps * STEP).sum() / count if count else float("nan")
    known = np.maximum(rows, 1)
    return {
        "rows": rows.tolist(),
        "probability": [float(value) if n else None for value, n in zip(steps * STEP / known, rows, strict=True)],
        "accuracy": [float(value) if n else None for value, n in zip(right / known, rows, strict=True)],
        "ece": float(gap),
    }


def write_reliability(folder: Path, content: dict[str, Any]) -> None:
    """Write ``reliability.json`` into the folder of a report."""
    write_sealed(folder / FILE, content)


def read_reliability(folder: Path) -> dict[str, Any]:
    """Return the content of ``reliability.json``.

    Raises
    ------
    DataDamagedError
        If the file is damaged.
    """
    return read_sealed(folder / FILE, "Write it again with rcdp evaluate.")
