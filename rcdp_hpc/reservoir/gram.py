"""Sums over blocks of rows that ridge regression needs.

The sums are formed in float64, or, where speed matters more than the last digits, in float32 over a few thousand rows
at a time and added up in float64: 2 to 3 times as fast, with relative errors near 1e-6. States that a bfloat16 kernel
gave are multiplied as such then, which loses nothing: the product of two bfloat16 numbers is a float32 number exactly,
and float32 is what they are added up in. Processors that multiply bfloat16 do it another 2 to 3 times as fast.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk, ssyrk
from torch import Tensor

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.runtime.comm.base import Communicator

if TYPE_CHECKING:
    from rcdp_hpc.reservoir.ridge import RidgeReadout

ROWS_AT_ONCE = 4096
# Rows whose products are added up in float32 before they go into the float64 sums.
SINGLE_ROWS = 8192
# Numbers of a piece of X'X that is worked on at once: it stays in a core's cache.
PIECE = 1 << 17
# Columns of X'X that one product gives, when it is formed by rectangles.
PANEL = 256
# The sums, by attribute; `xx` apart, which has a triangle only.
SUMS = ("xy", "x", "y", "yy", "total")


class GramSums:
    """The sums that ridge regression needs, over any number of blocks of rows with weights w (by default 1).

    The result depends on the blocks, their order and the thread count, and on nothing else: sums over the
    same blocks, or partial sums merged in the same order, are equal to the bit wherever they are formed.

    Parameters
    ----------
    features : int
        Length F of a feature vector.
    outputs : int
        Length K of a target vector.
    precision : {"double", "single"}
        Of the products X'X; the sums over all rows are float64 either way.
    largest : float, optional
        A bound on the absolute value of every sum over all rows of all ranks. With it, sums over the rows between two
        calls of `flush` are rounded to multiples of a power of two, so fine that the totals keep 52 bits, and adding
        them up is exact: in any order, by any number of ranks, to the same bits.

    Attributes
    ----------
    rows : int
        Rows added so far.
    total : numpy.ndarray, shape (1,), float64
        Sum of the rows' weights; the number of rows if they have none.
    xx : numpy.ndarray, shape (F, F), float64
        Upper triangle of X'wX; what is below it means nothing. With precision "single" complete after `flush`.
    xy : numpy.ndarray, shape (F, K), float64
        X'wY.
    x, y : numpy.ndarray, shape (F,) and (K,), float64
        Weighted column sums.
    yy : numpy.ndarray, shape (K,), float64
        Weighted column sums of Y².
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        precision: Literal["double", "single"] = "double",
        largest: float | None = None,
    ) -> None:
        self.rows, self.precision = 0, precision
        self._unit = None if largest is None else 2.0 ** (np.ceil(np.log2(largest)) - 52)
        self._pending: NDArray[Any] | None = None
        self._pending_rows = 0
        self._z = torch.empty(0)
        try:
            self.xx = np.zeros((features, features), order="F")
        except MemoryError:
            raise CandidateError(
                f"ridge over {features} features needs {features**2 * 8 / 2**30:.1f} GiB for its sums, more "
                "than there is: lower reservoir.nodes or reservoir.states"
            ) from None
        self.xy = np.zeros((features, outputs))
        self.x, self.y = np.zeros(features), np.zeros(outputs)
        self.yy, self.total = np.zeros(outputs), np.zeros(1)

    @property
    def count(self) -> float:
        """The sum of the weights, as a number."""
        return float(self.total[0])

    def add(self, features: Any, targets: Any, weights: Any = None) -> None:
        """Add a block of rows.

        Parameters
        ----------
        features : torch.Tensor or numpy.ndarray, shape (rows, F)
            Of any float dtype, bfloat16 included.
        targets : torch.Tensor or numpy.ndarray, shape (rows, K)
        weights : array_like, shape (rows,), optional
            Above 0.
        """
        roots = None if weights is None else torch.as_tensor(np.sqrt(np.asarray(weights, dtype=np.float64)))
        if self.precision == "single" or self._unit is not None:
            self._add_pending(features, targets, roots)
            return
        block, wanted = _double(features), _double(targets)
        if block.shape != (len(wanted), self.x.size) or wanted.shape[1:] != self.y.shape:
            raise ValueError(
                f"features {block.shape} and targets {wanted.shape} do not fit sums over {self.x.size} "
                f"features and {self.y.size} outputs"
            )
        self.rows += len(block)
        ones = np.ones(len(block))
        if roots is not None:
            ones = roots.numpy()
            block, wanted = ones[:, None] * block, ones[:, None] * wanted
        self.xx = dsyrk(1.0, block.T, beta=1.0, c=self.xx, overwrite_c=1)
        self.xy += block.T @ wanted
        self.x += block.sum(axis=0) if roots is None else ones @ block
        self.y += wanted.sum(axis=0) if roots is None else ones @ wanted
        self.yy += np.square(wanted).sum(axis=0)
        self.total += ones @ ones

    def _add_pending(self, features: Any, targets: Any, roots: Tensor | None) -> None:
        """Add Z'Z, where Z = [X Y 1], each row times the root of its weight: one product has all the sums."""
        if tuple(features.shape) != (len(targets), self.x.size) or tuple(targets.shape[1:]) != self.y.shape:
            raise ValueError(f"features {features.shape} and targets {targets.shape} do not fit these sums")
        single = self.precision == "single"
        wanted = torch.as_tensor(targets)
        halves = single and roots is None and features.dtype == torch.bfloat16
        halves = halves and bool((wanted.bfloat16() == wanted).all())
        if self._pending is None:
            size = _padded(self.x.size + self.y.size + 1)
            self._pending = np.zeros((size, size), np.float32 if single else np.float64, order="F")
        update = ssyrk if single else dsyrk
        for start in range(0, len(wanted), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            z = self._side_by_side(torch.as_tensor(features[rows]), wanted[rows])
            if roots is not None:
                z *= roots[rows, None]
            if halves:
                _add_products(self._pending, z)
            else:
                self._pending = update(1.0, z.numpy().T, beta=1.0, c=self._pending, overwrite_c=1)
            self._pending_rows += len(z)
            self.rows += len(z)
            if self._pending_rows >= SINGLE_ROWS:
                self.flush()

    def _side_by_side(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return [X Y 1 0] in float32 or float64, in memory that is used again."""
        width, outputs = self.x.size, self.y.size
        if len(self._z) < len(features):
            dtype = torch.float32 if self.precision == "single" else torch.float64
            self._z = torch.zeros(len(features), _padded(width + outputs + 1), dtype=dtype)
        z = self._z[: len(features)]
        z[:, :width] = features.detach()
        z[:, width : width + outputs] = targets
        z[:, width + outputs] = 1
        return z

    def flush(self) -> None:
        """Add what is still held back to the sums: call it where rows end that are always summed together."""
        if not self._pending_rows or self._pending is None:
            return
        pending, width = self._pending, self.x.size
        last = width + self.y.size
        for place in upper_pieces(width):
            self._add_rounded(self.xx[place], pending[place])
        self._add_rounded(self.xy, pending[:width, width:last])
        self._add_rounded(self.x, pending[:width, last])
        self._add_rounded(self.y, pending[width:last, last])
        self._add_rounded(self.yy, np.diag(pending)[width:last].copy())
        self._add_rounded(self.total, pending[last, last : last + 1])
        torch.from_numpy(pending).zero_()
        self._pending_rows = 0

    def _add_rounded(self, total: NDArray[np.float64], part: NDArray[Any]) -> None:
        """Add a part of the sums held back to the totals, as multiples of the unit where there is one.

        By torch: NumPy would do it on one core.
        """
        # Transposed, as the sums lie in columns.
        wide = torch.from_numpy(part.T).to(torch.float64, copy=True)
        if self._unit is not None:
            # The unit is a power of two, so that only the rounding itself rounds.
            wide.mul_(1 / self._unit).round_().mul_(self._unit)
        torch.from_numpy(total.T).add_(wide)

    def add_all(self, features: Any, targets: Any, batch_rows: int) -> None:
        """Add many rows in fixed blocks of `batch_rows`, the last one shorter."""
        for start in range(0, len(features), batch_rows):
            rows = slice(start, start + batch_rows)
            self.add(features[rows], targets[rows])

    def clear(self) -> None:
        """Forget all rows."""
        self.flush()
        self.rows = 0
        for name in ("xx", *SUMS):
            getattr(self, name).fill(0)

    def merge(self, other: GramSums) -> None:
        """Add the sums of other rows."""
        self.flush()
        other.flush()
        self.rows += other.rows
        for name in ("xx", *SUMS):
            getattr(self, name).__iadd__(getattr(other, name))

    def mean_squared_error(self, readout: RidgeReadout) -> float:
        """Return the mean over rows and outputs of a readout's squared error on the rows added."""
        self.flush()
        gram = np.triu(self.xx) + np.triu(self.xx, 1).T
        weights, intercept = readout.weights, readout.intercept
        squares = (weights * (gram @ weights)).sum(axis=0) + self.count * intercept**2 + self.yy
        crossed = (weights * self.xy).sum(axis=0) + intercept * (self.y - self.x @ weights)
        return float((squares - 2 * crossed).sum() / (self.count * self.y.size))


def reduce_sums(sums: GramSums, comm: Communicator) -> GramSums:
    """Add the sums of all ranks, in place, by one allreduce; the same on every rank. Collective.

    With `largest` given to the sums the totals are the same bits for any number of ranks.
    """
    sums.flush()
    if comm.size == 1:
        return sums
    _unpack(sums, comm.allreduce(_packed(sums)))
    return sums


def _packed(sums: GramSums) -> NDArray[np.float64]:
    """Return all sums as one vector: the columns of X'X down to the diagonal, then the others, then the rows."""
    size = sums.x.size
    others = np.concatenate([*(getattr(sums, name).ravel() for name in SUMS), [float(sums.rows)]])
    packed = np.empty(size * (size + 1) // 2 + others.size)
    for column in range(size):
        start = column * (column + 1) // 2
        packed[start : start + column + 1] = sums.xx[: column + 1, column]
    packed[size * (size + 1) // 2 :] = others
    return packed


def _unpack(sums: GramSums, packed: NDArray[np.float64]) -> None:
    """Put the sums of `_packed` back."""
    size = sums.x.size
    for column in range(size):
        start = column * (column + 1) // 2
        sums.xx[: column + 1, column] = packed[start : start + column + 1]
    start = size * (size + 1) // 2
    for name in SUMS:
        total = getattr(sums, name)
        total.flat = packed[start : start + total.size]
        start += total.size
    sums.rows = int(packed[start])


def upper_pieces(size: int) -> Iterator[tuple[slice, slice]]:
    """Yield places that together cover the upper triangle of a square matrix, each small enough for a cache."""
    start = 0
    while start < size:
        # The widest w with (start + w) · w numbers within PIECE.
        width = int((math.sqrt(start**2 + 4 * PIECE) - start) / 2)
        stop = min(size, start + max(1, width))
        yield slice(0, stop), slice(start, stop)
        start = stop


def _padded(columns: int) -> int:
    """Return a number of columns at which every row begins a cache line: products are faster so."""
    return math.ceil(columns / 16) * 16


def _add_products(sums: NDArray[Any], z: Tensor) -> None:
    """Add Z'Z to the upper triangle, Z holding numbers that are bfloat16 numbers."""
    into = torch.from_numpy(sums.T)
    with _bfloat16_products():
        for start in range(0, len(sums), PANEL):
            stop = min(start + PANEL, len(sums))
            into[start:stop, :stop].addmm_(z[:, start:stop].T, z[:, :stop])


@contextmanager
def _bfloat16_products() -> Iterator[None]:
    """Let oneDNN read float32 matrices as bfloat16, where the processor multiplies that."""
    setting: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = setting.fp32_precision
    setting.fp32_precision = "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = before


def _double(values: Tensor | NDArray[Any]) -> NDArray[np.float64]:
    """Return the values as a float64 array in C order."""
    if isinstance(values, Tensor):
        return values.detach().to("cpu", torch.float64).contiguous().numpy()
    return np.ascontiguousarray(values, dtype=np.float64)
