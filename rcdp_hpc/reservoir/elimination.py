"""Features of a ridge readout, eliminated one after the other in closed form from the sums.

With A = X'X + alpha · n · I of the standardised features, B = X'Yc, P = A^-1 and V = P B (`rcdp_hpc.reservoir.ridge`),
removing the features g and solving again raises the penalised squared error by exactly

    sum over outputs k of V_gk' (P_gg)^-1 V_gk,        for one feature j: sum over k of V_jk^2 / P_jj

(Hassibi and Stork, "Second order derivatives for network pruning: optimal brain surgeon", 1993). The group with the
least loss is removed, and with P_gg = L L', u = P_:g L^-T and c = L^-1 V_g the solution of the rest is

    P <- P - u u',        V <- V - u c

No data are needed. A few columns u are collected before P is updated by one product, and whenever half of the features
are left, P is computed from the sums again, so that rounding errors do not grow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.ridge import crossed_sums, standardised_gram

# Columns that are collected before the inverse is updated.
COLUMNS_AT_ONCE = 64


@dataclass(frozen=True)
class Block:
    """Groups that are removed one after the other, and what their removal does to the readout.

    Attributes
    ----------
    groups : list of int
        The groups, in the order of their removal.
    losses : list of float
        How much the removal of each raises the penalised squared error, a sum over the rows.
    features : numpy.ndarray, shape (f,), int64
        Features left before the first of them is removed.
    columns : numpy.ndarray, shape (f, removed features)
        u of each group, next to each other. The rows of removed features mean nothing.
    factors : numpy.ndarray, shape (removed features, outputs)
        c of each group, below each other.
    """

    groups: list[int]
    losses: list[float]
    features: NDArray[np.int64]
    columns: NDArray[np.float64]
    factors: NDArray[np.float64]


class Elimination:
    """The backward elimination of groups of features.

    Parameters
    ----------
    sums : GramSums
        Sums of the training rows; they stay unchanged.
    penalty : float
        alpha, per row.
    groups : numpy.ndarray, shape (G, g), int64, optional
        Features of each group; every feature is in one group. By default each feature is a group.

    Attributes
    ----------
    scale : numpy.ndarray, shape (features,), float64
        1 / d of each feature, 0 for a constant one: V times it applies to raw features.
    left : numpy.ndarray, shape (G,), bool
        The groups that are left.

    Raises
    ------
    ValueError
        If the groups do not contain each feature once.
    CandidateError
        If the sums are not finite, or not positive definite with this penalty.
    """

    def __init__(self, sums: GramSums, penalty: float, groups: NDArray[np.int64] | None = None) -> None:
        gram, self.scale = standardised_gram(sums)
        size = len(gram)
        self.groups = np.arange(size)[:, None] if groups is None else np.asarray(groups, dtype=np.int64)
        if self.groups.ndim != 2 or not np.array_equal(np.sort(self.groups, axis=None), np.arange(size)):
            raise ValueError(f"groups of shape {self.groups.shape} do not contain each of {size} features once")
        gram[np.diag_indices_from(gram)] += penalty * sums.count
        self._gram = gram
        self._crossed = self.scale[:, None] * crossed_sums(sums)
        self._penalty = penalty
        self.left = np.ones(len(self.groups), dtype=bool)
        self._solve()

    @property
    def weights(self) -> NDArray[np.float64]:
        """V of the features that are left, 0 for the others, shape (features, outputs), for standardised features."""
        weights = np.zeros_like(self._crossed)
        weights[self._features] = self._weights
        return weights

    @property
    def features_left(self) -> NDArray[np.int64]:
        """The features of the groups that are left, ascending."""
        return np.sort(self.groups[self.left], axis=None)

    def blocks(self, keep: int = 1) -> Iterator[Block]:
        """Remove groups until `keep` are left, and yield them in blocks.

        Parameters
        ----------
        keep : int
            Groups that stay, at least 1.
        """
        while (count := int(self.left.sum()) - keep) > 0:
            if self._solved_size >= 2 * len(self._features):
                self._solve()
            yield self._block(min(count, max(1, COLUMNS_AT_ONCE // self.groups.shape[1])))

    def _solve(self) -> None:
        """Compute P and V of the features that are left from the sums."""
        features = self.features_left
        kept = np.ix_(features, features)
        gram = np.asfortranarray(self._gram[kept])
        try:
            factor, _ = scipy.linalg.cho_factor(gram, lower=False, overwrite_a=True)
        except (np.linalg.LinAlgError, ValueError) as error:
            raise CandidateError(
                f"the readout of {len(features)} features cannot be solved with a penalty of {self._penalty:g} per "
                f"row ({error}): choose a larger one"
            ) from None
        self._weights = scipy.linalg.cho_solve((factor, False), self._crossed[features])
        inverse, status = scipy.linalg.lapack.dpotri(factor, lower=0, overwrite_c=1)
        if status:
            raise CandidateError(f"the inverse of the sums of {len(features)} features does not exist")
        lower = np.tril_indices_from(inverse, -1)
        inverse[lower] = inverse.T[lower]
        self._inverse = inverse
        self._features = features
        self._solved_size = len(features)
        self._own_blocks()

    def _own_blocks(self) -> None:
        """Set P_gg of each group that is left, shape (G, g, g); the identity for the others."""
        size = self.groups.shape[1]
        self._blocks = np.tile(np.eye(size), (len(self.groups), 1, 1))
        places = self._places()
        self._blocks[self.left] = self._inverse[places[:, :, None], places[:, None, :]]

    def _places(self) -> NDArray[np.int64]:
        """Return the rows of P of the groups that are left, shape (groups left, g)."""
        return np.searchsorted(self._features, self.groups[self.left])

    def _block(self, count: int) -> Block:
        """Remove `count` groups and update P once."""
        size, outputs = self.groups.shape[1], self._weights.shape[1]
        total = len(self._features)
        columns, factors = np.zeros((total, count * size)), np.zeros((count * size, outputs))
        removed: list[int] = []
        losses: list[float] = []
        rows = np.zeros(self.groups.shape, dtype=np.int64)
        rows[self.left] = self._places()
        for number in range(count):
            done = slice(0, number * size)
            new = slice(number * size, (number + 1) * size)
            group, loss = self._least(rows)
            own = rows[group]
            of_group = self._inverse[own].T - columns[:, done] @ columns[own, done].T
            lower = np.linalg.cholesky((of_group[own] + of_group[own].T) / 2)
            columns[:, new] = scipy.linalg.solve_triangular(lower, of_group.T, lower=True).T
            factors[new] = scipy.linalg.solve_triangular(lower, self._weights[own], lower=True)
            self._weights -= columns[:, new] @ factors[new]
            self.left[group] = False
            updates = columns[rows[self.left], new]
            self._blocks[self.left] -= updates @ updates.transpose(0, 2, 1)
            removed.append(group)
            losses.append(loss)
        features = self._features
        self._compress(columns)
        return Block(removed, losses, features, columns, factors)

    def _least(self, rows: NDArray[np.int64]) -> tuple[int, float]:
        """Return the group whose removal costs least, and what it costs."""
        left = np.flatnonzero(self.left)
        weights, blocks = self._weights[rows[left]], self._blocks[left]
        if blocks.shape[1] == 1:
            losses = np.square(weights[:, 0]).sum(1) / blocks[:, 0, 0]
        else:
            losses = (weights * np.linalg.solve(blocks, weights)).sum((1, 2))
        best = int(np.argmin(losses))
        return int(left[best]), float(losses[best])

    def _compress(self, columns: NDArray[np.float64]) -> None:
        """Leave the removed features out of P and V, and subtract the collected columns."""
        features = self.features_left
        rows = np.searchsorted(self._features, features)
        kept = columns[rows]
        self._inverse = self._inverse[np.ix_(rows, rows)] - kept @ kept.T
        self._weights = self._weights[rows]
        self._features = features


def sums_of_features(sums: GramSums, features: NDArray[np.int64]) -> GramSums:
    """Return the sums of the same rows over some of the features, ascending."""
    sums.flush()
    part = GramSums(len(features), sums.y.size, sums.precision)
    part.rows = sums.rows
    part.xx = np.asfortranarray(sums.xx[np.ix_(features, features)])
    part.xy = sums.xy[features]
    part.x = sums.x[features]
    part.y = sums.y.copy()
    part.yy = sums.yy.copy()
    part.total = sums.total.copy()
    return part
