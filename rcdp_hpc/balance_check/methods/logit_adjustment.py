"""Logit adjustment of the answers: scores minus tau times the logarithm of the class shares.

A. K. Menon, S. Jayasumana, A. S. Rawat, H. Jain, A. Veit, S. Kumar, "Long-tail learning via logit adjustment",
International Conference on Learning Representations (2021), eq. 9: argmax of f_y(x) - tau log(pi_y), after the fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.balance_check.methods.base import Answered, HeldOut, Method
from rcdp_hpc.config import Config

TAUS = np.linspace(0, 2, 41)
# Digits of the costs that are to be set.
DIGITS = 4


class LogitAdjustment(Method):
    """The readout of "none", whose answers favour small classes: argmax of log p - tau log(share).

    p are the calibrated probabilities. The same answers have the least expected cost if a wrong answer for a row of a
    class costs share ** -tau, which ``prediction.costs`` can state.

    tau is chosen from left-out scores: for the rows of a fold from those of the other folds, so that no row takes part
    in the choice that it is evaluated with.
    """

    shares_scores_of = "none"

    def answers(self, held_out: HeldOut) -> Answered:
        """Return the answers with the tau of each fold; ``chosen`` has the tau of all rows and its costs."""
        logarithms = np.log(np.maximum(held_out.shares, 1e-12))
        scores = np.log(np.maximum(held_out.probabilities, 1e-12))
        answers = np.stack([(scores - tau * logarithms[held_out.folds]).argmax(axis=1) for tau in TAUS])
        predicted = np.empty(len(held_out.labels), np.int64)
        for fold in range(len(held_out.shares)):
            here = held_out.folds == fold
            predicted[here] = answers[_best(held_out, answers, ~here), here]
        tau = float(TAUS[_best(held_out, answers, np.ones(len(predicted), bool))])
        shares = np.bincount(held_out.labels, minlength=held_out.shares.shape[1]) / len(held_out.labels)
        costs = np.where(shares > 0, np.maximum(shares, 1e-12) ** -tau, 0.0)
        least = costs[costs > 0].min()
        return Answered(predicted, {"tau": tau, "costs": [float(f"{cost / least:.{DIGITS}g}") for cost in costs]})

    def settings(self, config: Config, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of the adjusted answers: one cost for every wrong answer for a row of each class."""
        return {
            "data.balance": "none",
            "loss.class_weights": "none",
            "prediction.costs": [[cost] for cost in chosen["costs"]],
        }


def _best(held_out: HeldOut, answers: NDArray[np.int64], rows: NDArray[np.bool_]) -> int:
    """Return the place of the best tau for some rows; of equal ones the smallest."""
    labels = held_out.labels[rows]
    return int(np.argmax([held_out.worth(labels, one[rows]) for one in answers]))
