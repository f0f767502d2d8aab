"""Scores of validation rows by a model that is not fitted to them, gathered over the ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.model.calibration.choose import MOST_ROWS
from rcdp_hpc.model.calibration.scores import HeldOutScores
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree

Blocks = Iterable[tuple[torch.Tensor, torch.Tensor]]
# Returns z, which is solved to approximate one-hot classes, of states (rows, features).
SolvedScores = Callable[[torch.Tensor], torch.Tensor | NDArray[np.floating]]


def solved_scores(
    comm: Communicator, partitions: Iterable[Blocks], scores_of: SolvedScores, classes: int, most: int = MOST_ROWS
) -> HeldOutScores | None:
    """Return the scores of the validation rows by a solved readout, on rank 0; None on other ranks. Collective.

    Parameters
    ----------
    comm : Communicator
    partitions : iterable of iterable of (states, labels)
        This rank's validation rows, in blocks. Ranks have consecutive rows.
    scores_of : callable
    classes : int
    most : int
        More rows are thinned evenly.
    """

    def local() -> NDArray[np.float64]:
        rows = [np.empty((0, 1 + classes))]
        for partition in partitions:
            for states, labels in partition:
                scores = scores_of(states)
                z = scores.detach().cpu().numpy() if isinstance(scores, torch.Tensor) else scores
                rows.append(np.column_stack([labels.cpu().numpy(), z]).astype(np.float64))
        return np.concatenate(rows)

    gathered = gathered_rows(comm, agree(comm, local), most)
    if gathered is None:
        return None
    return HeldOutScores.of_solved(gathered[:, 1:], gathered[:, 0].astype(np.int64), "validation")


def gathered_rows(comm: Communicator, local: NDArray[np.float64], most: int = MOST_ROWS) -> NDArray[np.float64] | None:
    """Return the rows of all ranks on rank 0, thinned evenly to at most `most`; None on other ranks. Collective."""
    counts = comm.allgather(len(local))
    stride = math.ceil(sum(counts) / most) or 1
    first = -sum(counts[: comm.rank]) % stride
    return comm.gather_rows(np.ascontiguousarray(local[first::stride]))
