"""Readouts of every training part and penalty, and the scores of the rows that each part holds out.

The penalty of a fold is the one with the best answers for the held-out rows of all other folds together. So no row
takes part in the choice that it is evaluated with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.balance_check.methods.base import Worth
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.device_sums import DeviceSums
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.ridge import solve
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root

log = logging.getLogger(__name__)

SumsOf = Callable[[int], GramSums | DeviceSums]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The held-out scores of a method.

    Attributes
    ----------
    scores : ndarray, shape (rows, classes), float64, or None
        Of all rows, on rank 0; None elsewhere.
    penalties : list of float
        The penalty of each fold.
    """

    scores: NDArray[np.float64] | None
    penalties: list[float]


def sums_scores(
    sums_of: SumsOf,
    folds: int,
    penalties: Sequence[float],
    states: torch.Tensor,
    local_folds: NDArray[np.int64],
    bounds: Sequence[tuple[int, int]],
    comm: Communicator,
) -> NDArray[np.float32]:
    """Return the scores of this rank's rows, each by the readout without its fold. Collective.

    Parameters
    ----------
    sums_of : callable
        Returns the sums of the training part of a fold.
    folds : int
    penalties : sequence of float
    states : torch.Tensor, shape (local rows, features)
        Of this rank's rows.
    local_folds : ndarray, shape (local rows,), int64
        The fold that holds out each of them.
    bounds : sequence of (int, int)
        Slabs of these rows. Scores are computed slab by slab, so that they are the same for any number of ranks.
    comm : Communicator

    Returns
    -------
    ndarray, shape (local rows, penalties, classes), float32
        NaN for a penalty without a solution.
    """
    local = [agree(comm, partial(_local_readouts, sums_of, fold, penalties, comm)) for fold in range(folds)]
    readouts = [_of_all_ranks(one, comm) for one in local]
    return agree(comm, lambda: _scores(states, local_folds, bounds, readouts))


def with_best_penalties(
    scores: NDArray[np.float32],
    local_folds: NDArray[np.int64],
    penalties: Sequence[float],
    choose: Callable[[NDArray[np.int64]], list[int]],
    comm: Communicator,
) -> Evaluated:
    """Choose a penalty for each fold and return its scores. Collective.

    Parameters
    ----------
    scores, local_folds, penalties
        As of `sums_scores`.
    choose : callable
        Called on rank 0 with the answers of all rows under each penalty, shape (rows, penalties), -1 for a penalty
        without a solution; returns the place of the penalty of each fold.
    comm : Communicator
    """
    answers = np.where(np.isfinite(scores).all(axis=2), scores.argmax(axis=2), -1)
    all_answers = comm.gather_rows(answers.astype(np.float64))
    chosen = comm.broadcast(
        agree_on_root(comm, lambda: None if all_answers is None else choose(all_answers.astype(np.int64)))
    )
    picked = scores[np.arange(len(scores)), np.asarray(chosen, np.int64)[local_folds]]
    gathered = comm.gather_rows(picked.astype(np.float64))
    return Evaluated(gathered, [penalties[place] for place in chosen])


def _local_readouts(sums_of: SumsOf, fold: int, penalties: Sequence[float], comm: Communicator) -> NDArray[np.float64]:
    """Return this rank's readouts of a fold, those of other ranks 0; NaN for a penalty without a solution.

    Shape (penalties, features + 1, classes), the intercept in the last row.
    """
    mine = [place for place in range(len(penalties)) if place % comm.size == comm.rank]
    sums = sums_of(fold)
    found = np.zeros((len(penalties), len(sums.x) + 1, len(sums.y)))
    for place in mine:
        try:
            readout = solve(sums, penalties[place])
            found[place, :-1], found[place, -1] = readout.weights, readout.intercept
        except CandidateError:
            found[place] = np.nan
    return found


def _of_all_ranks(readouts: NDArray[np.float64], comm: Communicator) -> NDArray[np.float64]:
    return readouts if comm.size == 1 else comm.allreduce(readouts)


def _scores(
    states: torch.Tensor,
    folds: NDArray[np.int64],
    bounds: Sequence[tuple[int, int]],
    readouts: Sequence[NDArray[np.float64]],
) -> NDArray[np.float32]:
    """Return the scores of rows by the readouts of their folds, shape (rows, penalties, classes)."""
    count, width, classes = readouts[0].shape
    joined = [torch.from_numpy(one.transpose(1, 0, 2).reshape(width, -1)).float().to(states.device) for one in readouts]
    scores = np.empty((len(folds), count, classes), np.float32)
    for start, stop in bounds:
        for fold, weights in enumerate(joined):
            rows = start + np.flatnonzero(folds[start:stop] == fold)
            block = states[torch.from_numpy(rows).to(states.device)].float()
            found = torch.addmm(weights[-1], block, weights[:-1])
            scores[rows] = found.cpu().numpy().reshape(len(rows), count, classes)
    return scores


def best_penalties(
    answers: NDArray[np.int64], labels: NDArray[np.int64], folds: NDArray[np.int64], count: int, worth: Worth
) -> list[int]:
    """Return the place of the penalty of each fold: the best for the rows of the other folds.

    Of equal ones it is the largest.

    Parameters
    ----------
    answers : ndarray, shape (rows, penalties), int64
        -1 for a penalty without a solution.
    labels, folds : ndarray, shape (rows,), int64
    count : int
        Number of folds.
    worth : callable

    Raises
    ------
    CandidateError
        If no penalty has a solution in all folds.
    """
    solved = (answers >= 0).all(axis=0)
    if not solved.any():
        raise CandidateError(
            "the ridge readout has no solution with any of readout.ridge_penalties: add a larger one, and check that "
            "the states are finite"
        )
    places = np.flatnonzero(solved)[::-1]
    chosen = []
    for fold in range(count):
        others = folds != fold
        worths = [worth(labels[others], answers[others, place]) for place in places]
        chosen.append(int(places[int(np.argmax(worths))]))
    return chosen
