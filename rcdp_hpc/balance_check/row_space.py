"""Readouts of few rows with many features, from the products of rows instead of those of features.

For a few thousand rows of ten thousand features, as convolution kernels make of series, sums over features would not
fit into memory. The readout is the same: with the products K = X X' of standardised features, weights w of the training
rows and W = diag(w), centred by weighted means,

    b = W^1/2 (W^1/2 K W^1/2 + alpha n I)^-1 W^1/2 (Y - mean(Y)),    scores of a row r = mean(Y) + k_r b,

n = sum w, k_r the centred products of r with the training rows. Features are standardised once, by all original rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray

from rcdp_hpc.balance_check.methods.base import Method
from rcdp_hpc.balance_check.rows import CheckRows
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.fold_sums import synthetic_weights
from rcdp_hpc.reservoir.ridge import one_hot

# Rows, synthetic ones included, up to which products of rows are used.
MOST_ROWS = 8000
BLOCK_COLUMNS = 2048
# A standard deviation below this share of the magnitude of a feature is a rounding error.
LEAST_VARIATION = 1e-6


def suits(rows: CheckRows, width: int) -> bool:
    """Return whether products of rows are less work than sums over features."""
    total = total_rows(rows)
    return total <= MOST_ROWS and total < 2 * width


def total_rows(rows: CheckRows) -> int:
    """Return the number of original and synthetic rows."""
    return len(rows.labels) + sum(len(one.synthetic) for one in rows.resampled.values())


@dataclass(frozen=True, eq=False)
class RowSpace:
    """Products of all rows, the synthetic ones after the original ones.

    Attributes
    ----------
    rows : CheckRows
    products : ndarray, shape (all rows, all rows), float64
        Of standardised features.
    """

    rows: CheckRows
    products: NDArray[np.float64]

    @classmethod
    def of(cls, rows: CheckRows, states: torch.Tensor) -> RowSpace:
        """Return the products of states, shape (all rows, features).

        Raises
        ------
        CandidateError
            If states are not finite.
        """
        products = torch.zeros(len(states), len(states), dtype=torch.float64)
        originals = len(rows.labels)
        for start in range(0, states.shape[1], BLOCK_COLUMNS):
            block = states[:, start : start + BLOCK_COLUMNS].double().cpu()
            mean, deviation = block[:originals].mean(0), block[:originals].std(0, correction=0)
            varies = deviation > LEAST_VARIATION * mean.abs()
            block = torch.where(varies, (block - mean) / torch.where(varies, deviation, 1.0), 0.0)
            products.addmm_(block, block.T)
        if not bool(torch.isfinite(products).all()):
            raise CandidateError("the ridge readout cannot be solved: the states are not finite")
        return cls(rows, products.numpy())

    def scores(self, method: Method, penalties: Sequence[float]) -> NDArray[np.float32]:
        """Return the scores of the original rows, each by the readout without its fold; NaN without a solution.

        Returns
        -------
        ndarray, shape (rows, penalties, classes), float32
        """
        rows = self.rows
        scores = np.empty((len(rows.labels), len(penalties), len(rows.classes)), np.float32)
        for fold in range(rows.fold_count):
            held_out = np.flatnonzero(rows.folds == fold)
            places, labels, weights = self._training(method, fold)
            scores[held_out] = self._fold_scores(held_out, places, labels, weights, penalties)
        return scores

    def _training(self, method: Method, fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return places in the products, labels and weights of the rows of a training part."""
        rows = self.rows
        kept = rows.folds != fold
        if method.balance == "none":
            counts = np.bincount(rows.labels[kept], minlength=len(rows.classes))
            by_class = method.class_weights(counts)
            weights = np.ones(len(kept)) if by_class is None else by_class[rows.labels]
            places = np.flatnonzero(kept)
            return places, rows.labels[places], weights[places]
        resampling = rows.resampled[method.balance]
        places = np.flatnonzero(kept & (resampling.multiplicity > 0))
        table = resampling.synthetic
        first, second = rows.folds[table.source], rows.folds[table.neighbour]
        synthetic = np.flatnonzero((first != fold) & (second != fold))
        weights = synthetic_weights(first, second, rows.fold_count)[synthetic]
        labels = np.concatenate([rows.labels[places], table.y[synthetic].astype(np.int64)])
        own = resampling.multiplicity[places].astype(np.float64)
        return (
            np.concatenate([places, self._offset(method.balance) + synthetic]), labels, np.concatenate([own, weights])
        )  # fmt: skip

    def _offset(self, balance: str) -> int:
        """Return the place of the first synthetic row of a balancing method."""
        offset = len(self.rows.labels)
        for name, one in self.rows.resampled.items():
            if name == balance:
                break
            offset += len(one.synthetic)
        return offset

    def _fold_scores(
        self,
        held_out: NDArray[np.int64],
        places: NDArray[np.int64],
        labels: NDArray[np.int64],
        weights: NDArray[np.float64],
        penalties: Sequence[float],
    ) -> NDArray[np.float32]:
        total, roots = weights.sum(), np.sqrt(weights)
        shares = weights / total
        inner, outer = self.products[np.ix_(places, places)], self.products[np.ix_(held_out, places)]
        means = inner @ shares
        inner = inner - means[:, None] - means[None, :] + shares @ means
        outer = outer - (outer @ shares)[:, None] - means[None, :] + shares @ means
        targets = one_hot(labels, len(self.rows.classes)).astype(np.float64)
        centre = shares @ targets
        right = roots[:, None] * (targets - centre)
        inner *= roots[:, None] * roots[None, :]
        scores = np.full((len(held_out), len(penalties), targets.shape[1]), np.nan, np.float32)
        for place, penalty in enumerate(penalties):
            shifted = inner.copy(order="F")
            shifted[np.diag_indices_from(shifted)] += penalty * total
            try:
                factor = scipy.linalg.cho_factor(shifted, overwrite_a=True)
            except np.linalg.LinAlgError:
                continue
            scores[:, place] = centre + outer @ (roots[:, None] * scipy.linalg.cho_solve(factor, right))
        return scores
