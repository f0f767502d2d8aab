"""Sums of ridge regression as whole numbers: they add and subtract without any rounding.

Each group of rows is multiplied in float64, and its sums are rounded once to multiples of `QUANTUM`. From there on they
are int64: adding and subtracting groups is exact, in any order, on any number of ranks. The quantum is one constant. It
depends neither on the number of rows nor on the data, so that sums of different trainings are multiples of the same
number.

The limit follows from 64 bits: the sum of squares of a feature over all rows must be below `LARGEST`, which is 67
million rows of features between -1 and 1. Beyond it the sums are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.ridge import one_hot

# All sums are multiples of this power of two.
BITS = 36
QUANTUM = 2.0**-BITS
# The sum of squares of a feature over all rows must be smaller than this.
LARGEST = 2.0**26
NUMBER_BYTES = 8


@dataclass(eq=False)
class ExactSums:
    """The sums of ridge regression to one-hot targets over some rows, as multiples of `QUANTUM`.

    Attributes
    ----------
    xx : numpy.ndarray, shape (G, F (F + 1) / 2), int64
        X'X, by columns down to the diagonal: of all rows (G = 1), or of the rows of each class (G = K).
    xy : numpy.ndarray, shape (F, K), int64
        X'Y: the sums of the features over the rows of each class.
    counts : numpy.ndarray, shape (K,), int64
        Rows of each class.
    """

    xx: NDArray[np.int64]
    xy: NDArray[np.int64]
    counts: NDArray[np.int64]

    @staticmethod
    def empty(features: int, classes: int, by_class: bool = False) -> ExactSums:
        """Return the sums of no rows.

        Parameters
        ----------
        features, classes : int
            F and K.
        by_class : bool
            Whether X'X is kept for each class, which weights of the classes need.

        Raises
        ------
        CandidateError
            If the memory is too small.
        """
        groups = classes if by_class else 1
        try:
            xx = np.zeros((groups, packed_size(features)), np.int64)
        except MemoryError:
            raise CandidateError(
                f"the exact sums of {features} features need {sums_bytes(features, classes, by_class) / 2**30:.1f} "
                "GiB, more memory than is available: lower reservoir.nodes or reservoir.states"
            ) from None
        return ExactSums(xx, np.zeros((features, classes), np.int64), np.zeros(classes, np.int64))

    @property
    def features(self) -> int:
        """F."""
        return len(self.xy)

    @property
    def by_class(self) -> bool:
        """Whether X'X is kept for each class."""
        return len(self.xx) > 1

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.counts.sum())

    def add_blocks(self, blocks: list[tuple[torch.Tensor, NDArray[np.int64]]]) -> None:
        """Add a group of rows in several blocks.

        Parameters
        ----------
        blocks : list of (torch.Tensor, numpy.ndarray)
            States (rows, F), float64, and class indices (rows,).

        Raises
        ------
        CandidateError
            As `add_rows`.
        """
        states, labels = zip(*blocks, strict=True)
        self.add_rows(np.concatenate([one.numpy() for one in states]), np.concatenate(labels))

    def on_host(self) -> ExactSums:
        """Return these sums, which are in main memory."""
        return self

    def add_rows(self, features: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
        """Add a group of rows; its sums are rounded once.

        Parameters
        ----------
        features : numpy.ndarray, shape (rows, F), float64
        labels : numpy.ndarray, shape (rows,), int64

        Raises
        ------
        CandidateError
            If features are not finite, or too large for exact sums.
        """
        classes = len(self.counts)
        refuse_not_finite(bool(np.isfinite(features).all()))
        self.xy += _rounded(features.T @ one_hot(labels, classes).astype(np.float64))
        self.counts += np.bincount(labels, minlength=classes)
        for group, sums in enumerate(self.xx):
            rows = features[labels == group] if self.by_class else features
            if len(rows):
                gram = dsyrk(1.0, np.ascontiguousarray(rows).T)
                for column in range(self.features):
                    sums[packed_column(column)] += _rounded(gram[: column + 1, column])
        self.refuse_overflow()

    def __iadd__(self, other: ExactSums) -> ExactSums:
        """Add the sums of other rows; raises a `CandidateError` beyond the limit."""
        self.xx += other.xx
        self.xy += other.xy
        self.counts += other.counts
        self.refuse_overflow()
        return self

    def refuse_overflow(self) -> None:
        """Raise a `CandidateError` if a sum of squares is beyond the limit; it bounds all other sums, too."""
        columns = np.arange(self.features)
        squares = self.xx[:, columns * (columns + 3) // 2].astype(np.float64).sum(axis=0).max(initial=0.0) * QUANTUM
        refuse_too_large(squares, self.rows)

    def gram(self, weights: NDArray[np.float64] | None = None) -> GramSums:
        """Return the sums as numbers for `rcdp_hpc.reservoir.ridge.solve`.

        Parameters
        ----------
        weights : numpy.ndarray, shape (K,), optional
            Weight of a row of each class; the sums must be by class.
        """
        if weights is not None and not self.by_class:
            raise ValueError("weights of the classes need sums by class")
        result = GramSums(self.features, len(self.counts))
        factors = np.ones(len(self.counts)) if weights is None else weights
        for group, sums in enumerate(self.xx):
            factor = QUANTUM * (factors[group] if self.by_class else 1.0)
            for column in range(self.features):
                result.xx[: column + 1, column] += factor * sums[packed_column(column)]
        result.xy[:] = self.xy * (QUANTUM * factors)
        result.x[:] = result.xy.sum(axis=1)
        result.y[:] = result.yy[:] = self.counts * factors
        result.total[:] = result.y.sum()
        result.rows = self.rows
        return result


def packed_size(features: int) -> int:
    """Return the numbers of the upper triangle of X'X."""
    return features * (features + 1) // 2


def sums_bytes(features: int, classes: int, by_class: bool) -> int:
    """Return the bytes of `ExactSums`."""
    numbers = packed_size(features) * (classes if by_class else 1) + features * classes + classes
    return NUMBER_BYTES * numbers


def packed_column(column: int) -> slice:
    """Return the place of a column of the upper triangle in the packed sums."""
    start = column * (column + 1) // 2
    return slice(start, start + column + 1)


def refuse_not_finite(finite: bool) -> None:
    """Raise a `CandidateError` if features are not finite."""
    if not finite:
        raise CandidateError("exact sums cannot be kept: the features are not finite")


def refuse_too_large(largest: float, rows: int | None) -> None:
    """Raise a `CandidateError` beyond the limit.

    Parameters
    ----------
    largest : float
        The largest sum of squares of all rows, or the largest sum of a group.
    rows : int or None
        Number of all rows; None for a group.
    """
    if max(largest, float(rows or 0)) < LARGEST:
        return
    remedy = "set readout.keep_sums = false, or scale the features (data.standardize)"
    if rows is None:
        raise CandidateError(f"exact sums hold sums below {LARGEST:.3g}, and one has {largest:.3g}: {remedy}")
    raise CandidateError(
        f"exact sums hold sums of squares below {LARGEST:.3g}, and a feature has {largest:.3g} over {rows} rows: "
        f"{remedy}"
    )


def _rounded(sums: NDArray[Any]) -> NDArray[np.int64]:
    """Return float64 sums as multiples of the quantum."""
    refuse_too_large(float(np.abs(sums).max(initial=0.0)), None)
    # The quantum is a power of two, so the multiplication is exact.
    return np.rint(np.ldexp(sums, BITS)).astype(np.int64)


def split_numbers(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return int64 as two rows of float64, high and low, whose sums over ranks are exact; `joined_numbers` reverses it.

    Not every library of the engines adds int64.
    """
    high = numbers >> BITS
    return np.stack([high.astype(np.float64), (numbers - (high << BITS)).astype(np.float64)])


def joined_numbers(parts: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the numbers of `split_numbers`, after their sums."""
    high, low = parts.astype(np.int64)
    return np.asarray((high << BITS) + low)
