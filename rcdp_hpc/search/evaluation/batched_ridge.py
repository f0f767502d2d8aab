"""Ridge readouts of all candidates of a batch: sums, Cholesky and scores as batched torch calls in float64.

The formulas are those of `rcdp_hpc.reservoir.ridge`, for tensors whose first dimension is the candidates. On equal
states errors agree with it to a relative 1e-6, the differences being those of the order of float64 sums and of float32
scores. Nothing is read back for a single candidate: one copy for each penalty that a batch tries has the errors of all.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor

from rcdp_hpc.reservoir.ridge import LEAST_VARIANCE, penalty_walk
from rcdp_hpc.search.evaluation.batched_cholesky import inverse_factors

# Returns a number for the scores of each candidate, shape (candidates, rows, outputs): shape (candidates,), float64.
Worths = Callable[[Tensor], Tensor]
# Rows of a product, which are float64 copies of the states.
ROWS_AT_ONCE = 1024


class BatchedSums:
    """The sums Z'Z of Z = [X Y 1] for every candidate, each row times the root of its weight.

    Parameters
    ----------
    candidates, features, outputs : int
    device : torch.device
    """

    def __init__(self, candidates: int, features: int, outputs: int, device: torch.device) -> None:
        self.features = features
        self.outputs = outputs
        columns = features + outputs + 1
        self.total = torch.zeros(candidates, columns, columns, dtype=torch.float64, device=device)

    def add(self, states: Tensor, targets: Tensor, roots: Tensor | None) -> None:
        """Add a block of rows.

        Parameters
        ----------
        states : torch.Tensor, shape (candidates, rows, features)
        targets : torch.Tensor, shape (rows, outputs), float64
        roots : torch.Tensor, shape (rows,), float64, optional
            Square roots of the weights; default 1.
        """
        for start in range(0, len(targets), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            block = states[:, rows]
            z = torch.ones(*block.shape[:2], len(self.total[0]), dtype=torch.float64, device=block.device)
            z[:, :, : self.features] = block
            z[:, :, self.features : -1] = targets[rows]
            if roots is not None:
                z.mul_(roots[rows, None])
            self.total.baddbmm_(z.mT, z)

    @property
    def count(self) -> Tensor:
        """The sum of the row weights, shape (candidates,)."""
        return self.total[:, -1, -1]

    @property
    def shares(self) -> Tensor:
        """The mean targets, shape (candidates, outputs)."""
        return self.total[:, self.features : -1, -1] / self.count[:, None]


class BatchedReadouts:
    """Solves the ridge readouts of all candidates, with a penalty of its own for each.

    Parameters
    ----------
    sums : BatchedSums
        Sums of all rows; overwritten.
    """

    def __init__(self, sums: BatchedSums) -> None:
        width, total = sums.features, sums.total
        self.count = sums.count.clone()
        self.shares = sums.shares
        means = total[:, :width, -1] / self.count[:, None]
        squares = total.diagonal(dim1=1, dim2=2)[:, :width] / self.count[:, None]
        variances = squares - means.square()
        # A variance that is not finite makes all scores NaN.
        constant = variances <= LEAST_VARIANCE["double"] * squares
        inverse = torch.where(constant, 0.0, variances.rsqrt())
        gram = total[:, :width, :width]
        gram.sub_(means[:, :, None] * total[:, None, :width, -1])
        gram.mul_(inverse[:, :, None]).mul_(inverse[:, None])
        crossed = total[:, :width, width:-1] - total[:, :width, -1:] * self.shares[:, None]
        self._gram, self._means, self._inverse = gram, means, inverse[:, :, None]
        self._right = self._inverse * crossed

    def solved(self, penalties: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights, shape (candidates, features, outputs), and intercepts; NaN where there is no solution.

        Parameters
        ----------
        penalties : torch.Tensor, shape (candidates,), float64
        """
        gram = self._gram.clone()
        gram.diagonal(dim1=1, dim2=2).add_((penalties * self.count)[:, None])
        inverse = inverse_factors(gram)
        weights = self._inverse * torch.bmm(inverse.mT, torch.bmm(inverse, self._right))
        return weights, self.shares - (self._means[:, None] @ weights)[:, 0]

    def scores(self, penalties: Tensor, states: Tensor) -> Tensor:
        """Return the scores of states, shape (candidates, rows, features), in float32."""
        weights, intercepts = self.solved(penalties)
        return torch.baddbmm(intercepts[:, None].float(), states.float(), weights.float())


def scaled_errors(scores: Tensor, targets: Tensor, shares: Tensor, weights: Tensor | None) -> Tensor:
    """Return the squared error after the best common scaling of each candidate's scores, shape (candidates,), float64.

    See `rcdp_hpc.reservoir.ridge.scaling_sums`.

    Parameters
    ----------
    scores : torch.Tensor, shape (candidates, rows, outputs)
    targets : torch.Tensor, shape (rows, outputs), float64
    shares : torch.Tensor, shape (candidates, outputs), float64
    weights : torch.Tensor, shape (rows,), float64, optional
    """
    shares = shares[:, None]
    d, t = scores.double() - shares, targets - shares
    if weights is not None:
        roots = weights.sqrt()[:, None]
        d, t = d * roots, t * roots
    fits, squares, expected = ((a * b).sum((1, 2)) for a, b in ((d, t), (d, d), (t, t)))
    scaled = expected - fits.clamp_min(0).square() / squares
    # NaN stays: it is an error without a solution.
    return torch.where(squares == 0, expected, scaled)


class BestOfAll:
    """The best penalty of each candidate, as all penalties are tried from the largest to the smallest.

    Parameters
    ----------
    worths : callable, optional
        Returns a worth for the scores of each candidate, shape (candidates,); the largest is the best
        (`rcdp_hpc.reservoir.ridge.best_of_all`). Default: 0 for all, so that the error decides.
    scores : torch.Tensor, shape (candidates, rows, outputs)
        Scores of candidates without a solution.

    Attributes
    ----------
    penalties : torch.Tensor, shape (candidates,), float64
        0 for a candidate without a finite error.
    scores : torch.Tensor, shape (candidates, rows, outputs)
    """

    def __init__(self, worths: Worths | None, scores: Tensor) -> None:
        self.scores = scores
        self.penalties = torch.zeros(len(scores), dtype=torch.float64, device=scores.device)
        self._worths = worths
        self._errors = torch.full_like(self.penalties, torch.inf)
        self._largest = torch.full_like(self.penalties, -torch.inf)

    def add(self, penalty: float, scores: Tensor, errors: Tensor) -> None:
        """Compare the scores with another penalty, shape (candidates, rows, outputs), and their errors."""
        errors = errors.nan_to_num(torch.inf, torch.inf)
        if self._worths is None:
            better = errors < self._errors
        else:
            worths = self._worths(scores).to(errors.device).nan_to_num(-torch.inf, torch.inf, -torch.inf)
            equal = (worths == self._largest) & (errors < self._errors)
            better = errors.isfinite() & ((worths > self._largest) | equal)
            self._largest = torch.where(better, worths, self._largest)
        self.scores = torch.where(better[:, None, None], scores, self.scores)
        self.penalties = torch.where(better, penalty, self.penalties)
        self._errors = torch.where(better, errors, self._errors)


def best_scores(
    readouts: BatchedReadouts,
    states: Tensor,
    targets: Tensor,
    weights: Tensor | None,
    penalties: Sequence[float],
    worths: Worths | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the penalty of `rcdp_hpc.reservoir.ridge.best_by` or `best_of_all` of each candidate, and its scores.

    The candidates walk over the penalties together, each on its own path; one that has arrived stays where it is.

    Parameters
    ----------
    readouts : BatchedReadouts
    states : torch.Tensor, shape (candidates, rows, features)
        States of the rows that choose the penalty.
    targets : torch.Tensor, shape (rows, outputs), float64
    weights : torch.Tensor, shape (rows,), float64, optional
        Of these rows.
    penalties : sequence of float
    worths : callable, optional
        As of `BestOfAll`: all penalties are tried.

    Returns
    -------
    penalties : torch.Tensor, shape (candidates,), float64
    scores : torch.Tensor, shape (candidates, rows, outputs), float32
        Not finite for a candidate without a finite error.
    """
    if worths is not None:
        best = BestOfAll(worths, states.new_full((*states.shape[:2], targets.shape[1]), torch.nan, dtype=torch.float32))
        for penalty in sorted(penalties, reverse=True):
            scores = readouts.scores(targets.new_full((len(states),), penalty), states)
            best.add(penalty, scores, scaled_errors(scores, targets, readouts.shares, weights))
        return best.penalties, best.scores
    walks: list[Generator[float, float, float | None] | None] = [penalty_walk(penalties) for _ in states]
    current = [next(walk) for walk in walks if walk is not None]
    scores = torch.zeros(*states.shape[:2], targets.shape[1], device=states.device)
    least = torch.full((len(current),), torch.inf, dtype=torch.float64, device=states.device)
    at = torch.full_like(least, -1)
    while any(walk is not None for walk in walks):
        tried = torch.tensor(current, dtype=torch.float64, device=states.device)
        found = readouts.scores(tried, states)
        errors = scaled_errors(found, targets, readouts.shares, weights).nan_to_num(torch.inf, torch.inf)
        # Of equal errors the walk keeps the larger penalty.
        better = (errors < least) | ((errors == least) & (tried > at))
        scores = torch.where(better[:, None, None], found, scores)
        least, at = errors.minimum(least), torch.where(better, tried, at)
        for place, error in enumerate(errors.tolist()):
            walk = walks[place]
            if walk is None:
                continue
            try:
                current[place] = walk.send(error)
            except StopIteration:
                walks[place] = None
    return at, scores


def errors_and_accuracies(scores: Tensor, targets: Tensor) -> Tensor:
    """Return mean squared errors and accuracies, shape (2, candidates), float64.

    Parameters
    ----------
    scores : torch.Tensor, shape (candidates, rows, outputs)
    targets : torch.Tensor, shape (rows, outputs), float64
    """
    errors = (scores.double() - targets).square().mean((1, 2))
    accuracies = (scores.argmax(2) == targets.argmax(1)).double().mean(1)
    return torch.stack([errors, accuracies])
