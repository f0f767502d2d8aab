"""A file with the number of rows of each class that each rank took steps with, for each epoch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.training.history import History

log = logging.getLogger(__name__)


class ClassCountLog:
    """The lines of ``train/class_counts.jsonl``.

    Ranks mostly see the same rows in every epoch. An epoch with the same counts as an earlier one refers to that epoch.

    Parameters
    ----------
    path : Path
        The file.

    Attributes
    ----------
    history : History
        The lines, one for each epoch so far.
    """

    def __init__(self, path: Path) -> None:
        self.history = History(path)

    def add(self, epoch: int, counts: list[list[int]], expected: NDArray[np.int64]) -> None:
        """Add the counts of an epoch, and log a warning if they are not those of the training part.

        Parameters
        ----------
        epoch : int
            From 0.
        counts : list of list of int
            Rows of each class, for each rank.
        expected : ndarray, shape (C,)
            Rows of each class in the training part.
        """
        lines = self.history.records
        full = next((line for line in reversed(lines) if "counts" in line), None)
        if full is not None and full["counts"] == counts:
            line: dict[str, Any] = {"epoch": epoch, "same_as": full["epoch"]}
        else:
            line = {"epoch": epoch, "counts": counts}
            self._report(epoch, np.array(counts), expected)
        lines.append(line)

    @staticmethod
    def _report(epoch: int, counts: NDArray[np.int64], expected: NDArray[np.int64]) -> None:
        rows = counts.sum(axis=1)
        if len(counts) > 1:
            log.info("epoch %d: %d to %d rows per rank, %d to %d per class and rank", epoch + 1, rows.min(), rows.max(),
                     counts.min(), counts.max())  # fmt: skip
        if (counts.sum(axis=0) != expected).any():
            log.warning(
                "epoch %d had %s rows of the classes, and the training part has %s: the rows changed while the "
                "training was interrupted",
                *(epoch + 1, counts.sum(axis=0).tolist(), expected.tolist()),
            )
