"""The ridge readout of exact sums: penalty and weights follow from sums alone, so that no row is needed again.

For each penalty the readout is solved from the sums of the training rows, and its squared error over the validation
rows follows from their sums. With scores s = W'x + b, one-hot targets y, class shares p and n rows, the sums of
`rcdp_hpc.reservoir.ridge.scaling_sums` are, for each class k,

    sum d t = w_k·(X'y)_k + b_k m_k - p_k (w_k·x + n b_k) - p_k m_k + n p_k^2,
    sum d^2 = w_k'(X'X) w_k + 2 b_k w_k·x + n b_k^2 - 2 p_k (w_k·x + n b_k) + n p_k^2,
    sum t^2 = m_k - 2 p_k m_k + n p_k^2,

with the column sums x of X and m of Y; all sums weighted. The readout is then solved from training and validation rows
together. All of it runs in one thread: the bits depend on the sums alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.readouts.ridge import RidgeNetwork
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.ridge import RidgeReadout, best_by, scaled_error, solve
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.solve.exact_sums import ExactSums
from rcdp_hpc.training.solve.kept_sums import KeptSums
from rcdp_hpc.training.solve.ridge_fit import smoothed


@dataclass(frozen=True)
class SumsFit:
    """A readout that is solved from sums.

    Attributes
    ----------
    readout : RidgeReadout
        Solved from training and validation rows.
    trained : RidgeReadout
        Solved from the training rows, with the same penalty: validation rows evaluate it.
    penalty : float
    errors : dict of float to float
        Squared error on the validation rows by penalty.
    """

    readout: RidgeReadout
    trained: RidgeReadout
    penalty: float
    errors: dict[float, float]

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the state of the network of the readout."""
        return RidgeNetwork.weights_of(self.readout)


def fit_sums(kept: KeptSums, config: Config) -> SumsFit:
    """Select the penalty and solve the readout from sums.

    Parameters
    ----------
    kept : KeptSums
    config : Config
        ``readout.ridge_penalties`` and ``loss.label_smoothing`` are read.

    Raises
    ------
    InputError
        If there are no training or no validation rows.
    CandidateError
        If no penalty has a solution.
    """
    for what, sums in (("training", kept.exact_total), ("validation", kept.exact_validation)):
        if not sums.rows:
            raise InputError(f"{kept.where}: no {what} rows are left: the penalty is chosen by the validation rows.")
    with limit_threads(1):
        return _fit(kept, config.readout.ridge_penalties, config.loss.label_smoothing)


def _fit(kept: KeptSums, penalties: Sequence[float], smoothing: float) -> SumsFit:
    total, validation = kept.total, kept.validation
    shares = total.y / total.count
    readouts: dict[float, RidgeReadout] = {}

    def error_of(penalty: float) -> float:
        readouts[penalty] = solve(total, penalty)
        return validation_error(validation, readouts[penalty], shares)

    penalty, errors = best_by(error_of, penalties)
    joined = ExactSums.empty(kept.facts.features, len(kept.facts.classes), kept.facts.by_class)
    joined += kept.exact_total
    joined += kept.exact_validation
    readout = solve(joined.gram(kept.class_weights), penalty)
    return SumsFit(smoothed(readout, smoothing), readouts[penalty], penalty, errors)


def validation_error(sums: GramSums, readout: RidgeReadout, shares: NDArray[np.float64]) -> float:
    """Return the mean squared error of a readout after the best common scaling, from sums over rows.

    Parameters
    ----------
    sums : GramSums
        Sums to one-hot targets over the rows.
    readout : RidgeReadout
    shares : numpy.ndarray, shape (classes,)
        Share of each class in the training rows.
    """
    gram = np.triu(sums.xx) + np.triu(sums.xx, 1).T
    weights, intercept, count = readout.weights, readout.intercept, sums.count
    linear = sums.x @ weights
    scores = linear + count * intercept
    crossed = (weights * sums.xy).sum(axis=0) + intercept * sums.y
    squares = (weights * (gram @ weights)).sum(axis=0) + 2 * intercept * linear + count * intercept**2
    constant = count * shares**2
    fits = (crossed - shares * scores - shares * sums.y + constant).sum()
    deviations = (squares - 2 * shares * scores + constant).sum()
    targets = (sums.y - 2 * shares * sums.y + constant).sum()
    return scaled_error(float(fits), float(deviations), float(targets)) / (count * len(shares))
