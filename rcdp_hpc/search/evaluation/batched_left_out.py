"""Exact leave-one-out of all candidates of a batch, by batched torch calls in float64.

The formulas are those of `rcdp_hpc.reservoir.left_out`. Its eigendecomposition of X'X or XX' is one of the slowest
operations of a GPU and not batched there, so every penalty has a Cholesky factor L instead. With more rows than
features the leverages are w_i / W + |L^-1 x_i|², otherwise, with P = (XX' + lambda · I)^-1, 1 - h_i is lambda · P_ii -
w_i / W. On equal states the left-out errors agree with the eigendecomposition to a relative 1e-6.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rcdp_hpc.reservoir.fold_residuals import fold_residuals, solved
from rcdp_hpc.reservoir.left_out import LEAST_FREEDOM, LEAST_VARIATION
from rcdp_hpc.search.evaluation.batched_cholesky import inverse_factors, squared_lengths
from rcdp_hpc.search.evaluation.batched_ridge import BestOfAll, Worths, scaled_errors

# Rows whose leverages are computed at once.
LEVERAGE_ROWS = 4096


class BatchedRows:
    """The standardised rows of every candidate, each times the root of its weight, and their smaller Gram matrix.

    Parameters
    ----------
    states : torch.Tensor, shape (candidates, rows, features)
    targets : torch.Tensor, shape (rows, classes), float64
    weights : torch.Tensor, shape (rows,), float64, optional
        Above 0; default 1.
    """

    def __init__(self, states: Tensor, targets: Tensor, weights: Tensor | None) -> None:
        count, width = states.shape[1:]
        self.targets = targets
        self.weights = torch.ones_like(targets[:, 0]) if weights is None else weights
        self.total = self.weights.sum()
        roots = self.weights.sqrt()[:, None]
        self.shares = self.weights @ targets / self.total
        self.centred = (roots * (targets - self.shares)).expand(len(states), -1, -1)
        portions = (self.weights / self.total)[:, None]
        x = states.double()
        self.means = (portions * x).sum(1)
        x.sub_(self.means[:, None])
        deviations = (portions * x.square()).sum(1).sqrt()
        # A deviation that is not finite makes all scores NaN.
        constant = deviations <= LEAST_VARIATION * self.means.abs()
        self.inverse = torch.where(constant, 0.0, 1 / deviations)
        self.x = x.mul_(self.inverse[:, None]).mul_(roots)
        self.dual = width > count
        self.gram = torch.bmm(x, x.mT) if self.dual else torch.bmm(x.mT, x)
        self.right = self.centred if self.dual else torch.bmm(x.mT, self.centred)

    def _inverse_factors(self, penalties: Tensor) -> Tensor:
        """Return L^-1 of the Gram matrices plus lambda · I, for one penalty of each candidate; NaN without one."""
        gram = self.gram.clone()
        gram.diagonal(dim1=1, dim2=2).add_((penalties * self.total)[:, None])
        return inverse_factors(gram)

    def solved(self, penalties: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights of raw features, shape (candidates, features, classes), and intercepts, fitted to all rows."""
        inverse = self._inverse_factors(penalties)
        solution = torch.bmm(inverse.mT, torch.bmm(inverse, self.right))
        if self.dual:
            solution = torch.bmm(self.x.mT, solution)
        weights = solution * self.inverse[:, :, None]
        return weights, self.shares - (self.means[:, None] @ weights)[:, 0]

    def left_out_scores(self, penalty: float) -> Tensor:
        """Return the scores of every row by the readout fitted without it, shape (candidates, rows, classes)."""
        penalties = torch.full_like(self.means[:, 0], penalty)
        inverse = self._inverse_factors(penalties)
        solution = torch.bmm(inverse.mT, torch.bmm(inverse, self.right))
        own = self.weights / self.total
        if self.dual:
            shrinkage = penalties[:, None] * self.total
            freedom = shrinkage * inverse.square().sum(1) - own
            residuals = shrinkage[:, None] * solution
        else:
            blocks = self.x.split(LEVERAGE_ROWS, dim=1)
            freedom = 1 - own - torch.cat([squared_lengths(rows, inverse) for rows in blocks], dim=1)
            residuals = self.centred - torch.bmm(self.x, solution)
        freedom = freedom.clamp_min(LEAST_FREEDOM) * self.weights.sqrt()
        return self.targets - residuals / freedom[:, :, None]

    def fold_scores(self, penalties: Tensor, folds: Sequence[Tensor]) -> Tensor:
        """Return the scores of every row by the readout fitted without its fold, shape (candidates, rows, classes).

        Parameters
        ----------
        penalties : torch.Tensor, shape (candidates,), float64
        folds : sequence of torch.Tensor
            Indices of the rows of each fold.
        """
        shrunk = penalties * (1 - 1 / len(folds))
        inverse = self._inverse_factors(shrunk)
        solution = torch.bmm(inverse.mT, torch.bmm(inverse, self.right))
        roots = self.weights.sqrt()
        if self.dual:
            left = self._dual_residuals(inverse, (shrunk * self.total)[:, None, None], solution, folds)
        else:
            rotated, residuals = torch.bmm(self.x, inverse.mT), self.centred - torch.bmm(self.x, solution)
            left = fold_residuals(rotated, torch.ones_like(rotated[:, 0]), roots, self.total, residuals, folds)
        return self.targets - left / roots[:, None]

    def _dual_residuals(self, inverse: Tensor, shrinkage: Tensor, solution: Tensor, folds: Sequence[Tensor]) -> Tensor:
        """Return the residuals of every fold; I - H is lambda · P without the projection of the intercept."""
        left = torch.empty_like(solution)
        roots = self.weights.sqrt()
        for rows in folds:
            columns, own = inverse[:, :, rows], roots[rows]
            freedom = shrinkage * torch.bmm(columns.mT, columns) - torch.outer(own, own) / self.total
            left[:, rows] = solved(freedom, shrinkage * solution[:, rows])
        return left

    def left_out(self, penalties: Sequence[float], worths: Worths | None = None) -> tuple[Tensor, Tensor]:
        """Return penalty and left-out scores of each candidate, as `rcdp_hpc.reservoir.left_out.left_out`.

        Without `worths` nothing is read back.

        Parameters
        ----------
        penalties : sequence of float
        worths : callable, optional
            As of `rcdp_hpc.search.evaluation.batched_ridge.BestOfAll`.

        Returns
        -------
        penalties : torch.Tensor, shape (candidates,), float64
        scores : torch.Tensor, shape (candidates, rows, classes), float64
            NaN for a candidate without a finite error.
        """
        shares = self.shares.expand(len(self.x), -1)
        best = BestOfAll(worths, self.targets.new_full((*self.x.shape[:2], self.targets.shape[1]), torch.nan))
        for penalty in sorted(penalties, reverse=True):
            scores = self.left_out_scores(penalty)
            best.add(penalty, scores, scaled_errors(scores, self.targets, shares, self.weights))
        return best.penalties, best.scores
