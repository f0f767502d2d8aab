"""Scores of validation rows by a model that is not fitted to them, gathered over the ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.model.calibration.choose import MOST_ROWS
from rcdp_hpc.model.calibration.scores import HeldOutScores
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree

Blocks = Iterable[tuple[torch.Tensor, torch.Tensor]]
# Numbers that rank 0 gathers at most, of 8 bytes: of many classes fewer rows.
MOST_NUMBERS = 2**27
# Returns z, which is solved to approximate one-hot classes, of states (rows, features).
SolvedScores = Callable[[torch.Tensor], torch.Tensor | NDArray[np.floating]]


def solved_scores(
    comm: Communicator,
    partitions: Iterable[Blocks],
    scores_of: SolvedScores,
    classes: int,
    correct: NDArray[np.float64] | None = None,
) -> HeldOutScores | None:
    """Return the scores of the validation rows by a solved readout, on rank 0; None on other ranks. Collective.

    Parameters
    ----------
    comm : Communicator
    partitions : iterable of iterable of (states, labels)
        This rank's validation rows, in blocks. Ranks have consecutive rows.
    scores_of : callable
    classes : int
    correct : ndarray, shape (2,), optional
        The correct rows of this rank, and all of them, are added: many rows are thinned before they are gathered.
    """

    def local() -> NDArray[np.float64]:
        rows = [np.empty((0, 1 + classes))]
        for partition in partitions:
            for states, labels in partition:
                scores = scores_of(states)
                z = scores.detach().cpu().numpy() if isinstance(scores, torch.Tensor) else scores
                rows.append(np.column_stack([labels.cpu().numpy(), z]).astype(np.float64))
                if correct is not None:
                    correct[:] += [float(np.count_nonzero(z.argmax(1) == rows[-1][:, 0])), float(len(z))]
        return np.concatenate(rows)

    gathered = gathered_rows(comm, agree(comm, local))
    if gathered is None:
        return None
    return HeldOutScores.of_solved(gathered[:, 1:], gathered[:, 0].astype(np.int64), "validation")


def gathered_rows(
    comm: Communicator, local: NDArray[np.float64], most: int | None = None
) -> NDArray[np.float64] | None:
    """Return the rows of all ranks on rank 0, thinned evenly to at most `most`; None on other ranks. Collective.

    By default `most` is `MOST_ROWS`, and fewer for rows of many numbers.
    """
    counts = comm.allgather(len(local))
    limit = most or min(MOST_ROWS, MOST_NUMBERS // local.shape[1])
    places = thinned_places(sum(counts), limit) - sum(counts[: comm.rank])
    return comm.gather_rows(np.ascontiguousarray(local[places[(places >= 0) & (places < len(local))]]))


def thinned_places(rows: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` of the numbers 0 to `rows` - 1: one at random of each of `most` equal parts.

    The classes of the rows of shards follow one another in a regular order, so that every second or third row may be
    one of the same class.
    """
    if rows <= most:
        return np.arange(rows)
    within = np.random.default_rng(0).random(most)
    return np.unique(((np.arange(most) + within) * (rows / most)).astype(np.int64))
