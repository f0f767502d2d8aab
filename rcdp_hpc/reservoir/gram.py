"""Sums over blocks of rows for ridge regression.

The sums are computed in float64, or, if speed matters more than the last digits, in float32 over a few thousand rows at
a time and added in float64: 2 to 3 times as fast, with relative errors near 1e-6. In the second case states of a
bfloat16 kernel are multiplied in bfloat16, which loses nothing: the product of two bfloat16 numbers is a float32
number, and products are added in float32. Processors that multiply bfloat16 are another 2 to 3 times as fast with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk, ssyrk
from torch import Tensor

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.runtime.comm.base import Communicator

if TYPE_CHECKING:
    from rcdp_hpc.reservoir.device_sums import DeviceSums
    from rcdp_hpc.reservoir.ridge import RidgeReadout

# Rows of a product.
ROWS_AT_ONCE = 4096
# Rows whose products are added in float32 before they are added to the float64 sums.
SINGLE_ROWS = 8192
# Numbers of a block of X'X that stays in a core's cache.
CACHED_NUMBERS = 1 << 17
# Columns of X'X that one bfloat16 product computes.
PRODUCT_COLUMNS = 256
# By the precision of the sums: a variance below this share of the mean square of a feature is a rounding error.
LEAST_VARIANCE = {"single": 1e-6, "double": 1e-12}
NOT_FINITE = "the ridge readout cannot be solved: the states are not finite"
# Attributes with the sums except `xx`, of which only a triangle is computed.
SUMS = ("xy", "x", "y", "yy", "total")

Sums = TypeVar("Sums", bound="GramSums | DeviceSums")


class GramSums:
    """The sums of ridge regression over any number of blocks of rows with weights w (by default 1).

    The result depends only on the blocks, their order and the number of threads: sums over the same blocks, or partial
    sums merged in the same order, are the same bits on any rank.

    Parameters
    ----------
    features : int
        Length F of a feature vector.
    outputs : int
        Length K of a target vector.
    precision : {"double", "single"}
        Of the products X'X; the sums over all rows are always float64.
    largest : float, optional
        A bound of the absolute value of every sum over all rows of all ranks. With a bound, the sums over the rows
        between two calls of `flush` are rounded to multiples of a power of two with which the totals have 52 bits.
        Their addition is then exact: the same bits in any order and for any number of ranks.
    joined : bool
        Whether one product computes all sums. False: X'X and X'Y are products of their own, which is less work and
        memory if there are many outputs, as for an autoencoder. The last digits of the sums differ.

    Attributes
    ----------
    rows : int
        Rows added so far.
    total : numpy.ndarray, shape (1,), float64
        Sum of the row weights; the number of rows without weights.
    xx : numpy.ndarray, shape (F, F), float64
        Upper triangle of X'wX; the rest is not defined. With precision "single" it is complete after `flush`.
    xy : numpy.ndarray, shape (F, K), float64
        X'wY.
    x : numpy.ndarray, shape (F,), float64
        Weighted column sums of X.
    y : numpy.ndarray, shape (K,), float64
        Weighted column sums of Y.
    yy : numpy.ndarray, shape (K,), float64
        Weighted column sums of Y².
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        precision: Literal["double", "single"] = "double",
        largest: float | None = None,
        joined: bool = True,
    ) -> None:
        self.rows = 0
        self.precision = precision
        self.joined = joined
        self._unit = unit_of(largest)
        self._pending: NDArray[Any] | None = None
        self._pending_outputs: tuple[Tensor, Tensor] | None = None
        self._pending_rows = 0
        self._z = torch.empty(0)
        try:
            self.xx = np.zeros((features, features), order="F")
        except MemoryError:
            raise CandidateError(
                f"ridge over {features} features needs {features**2 * 8 / 2**30:.1f} GiB for its sums, more "
                "memory than is available: lower reservoir.nodes or reservoir.states"
            ) from None
        self.xy = np.zeros((features, outputs))
        self.x = np.zeros(features)
        self.y = np.zeros(outputs)
        self.yy = np.zeros(outputs)
        self.total = np.zeros(1)

    @property
    def count(self) -> float:
        """The sum of the row weights."""
        return float(self.total[0])

    def add(self, features: Any, targets: Any, weights: Any = None) -> None:
        """Add a block of rows.

        Parameters
        ----------
        features : torch.Tensor or numpy.ndarray, shape (rows, F)
            Any float dtype, including bfloat16.
        targets : torch.Tensor or numpy.ndarray, shape (rows, K)
        weights : array_like, shape (rows,), optional
            Above 0.

        Raises
        ------
        ValueError
            If a shape does not fit.
        """
        roots = None if weights is None else torch.as_tensor(np.sqrt(np.asarray(weights, dtype=np.float64)))
        if self.precision == "single" or self._unit is not None or not self.joined:
            self._add_pending(features, targets, roots)
            return
        block, expected = _double(features), _double(targets)
        if block.shape != (len(expected), self.x.size) or expected.shape[1:] != self.y.shape:
            raise ValueError(
                f"features {block.shape} and targets {expected.shape} do not fit sums over {self.x.size} "
                f"features and {self.y.size} outputs"
            )
        self.rows += len(block)
        ones = np.ones(len(block))
        if roots is not None:
            ones = roots.numpy()
            block, expected = ones[:, None] * block, ones[:, None] * expected
        self.xx = dsyrk(1.0, block.T, beta=1.0, c=self.xx, overwrite_c=1)
        self.xy += block.T @ expected
        self.x += block.sum(axis=0) if roots is None else ones @ block
        self.y += expected.sum(axis=0) if roots is None else ones @ expected
        self.yy += np.square(expected).sum(axis=0)
        self.total += ones @ ones

    def _add_pending(self, features: Any, targets: Any, roots: Tensor | None) -> None:
        """Add Z'Z for Z = [X Y 1], each row times the root of its weight: one product with all sums.

        If the outputs are not joined, Z = [X 1], and Z'Y is a product of its own.
        """
        if tuple(features.shape) != (len(targets), self.x.size) or tuple(targets.shape[1:]) != self.y.shape:
            raise ValueError(f"features {features.shape} and targets {targets.shape} do not fit these sums")
        single = self.precision == "single"
        expected = torch.as_tensor(targets)
        halves = single and roots is None and self.joined and features.dtype == torch.bfloat16
        halves = halves and bool((expected.bfloat16() == expected).all())
        if self._pending is None:
            size = padded(self._columns)
            self._pending = np.zeros((size, size), np.float32 if single else np.float64, order="F")
        update = ssyrk if single else dsyrk
        for start in range(0, len(expected), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            z = self._joined(torch.as_tensor(features[rows]), expected[rows])
            if roots is not None:
                z *= roots[rows, None]
            if halves:
                _add_products(self._pending, z)
            else:
                self._pending = update(1.0, z.numpy().T, beta=1.0, c=self._pending, overwrite_c=1)
            if not self.joined:
                self._add_outputs(z, expected[rows], None if roots is None else roots[rows])
            self._pending_rows += len(z)
            self.rows += len(z)
            if self._pending_rows >= SINGLE_ROWS:
                self.flush()

    @property
    def _columns(self) -> int:
        """Columns of Z."""
        return self.x.size + 1 + (self.y.size if self.joined else 0)

    def _joined(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return [X Y 1 0] in float32 or float64, in a buffer that the next call overwrites; Y only if joined."""
        width, ones = self.x.size, self._columns - 1
        if len(self._z) < len(features):
            dtype = torch.float32 if self.precision == "single" else torch.float64
            self._z = torch.zeros(len(features), padded(self._columns), dtype=dtype)
        z = self._z[: len(features)]
        z[:, :width] = features.detach()
        if self.joined:
            z[:, width:ones] = targets
        z[:, ones] = 1
        return z

    def _add_outputs(self, z: Tensor, targets: Tensor, roots: Tensor | None) -> None:
        """Add Z'Y, and the column sums of Y², to pending sums of their own."""
        y = targets.detach().to(z.device, z.dtype)
        if roots is not None:
            y = (y * roots[:, None]).to(z.dtype)
        if self._pending_outputs is None:
            self._pending_outputs = z.new_zeros(z.shape[1], self.y.size), z.new_zeros(self.y.size)
        crossed, squares = self._pending_outputs
        crossed.addmm_(z.T, y)
        squares += (y * y).sum(0)

    def add_labelled(self, features: Tensor, labels: Tensor, class_weights: NDArray[np.float64] | None = None) -> None:
        """Add a block of rows with one-hot targets.

        Parameters
        ----------
        features : torch.Tensor, shape (rows, F)
        labels : torch.Tensor, shape (rows,), int64
            Class numbers.
        class_weights : numpy.ndarray, shape (K,), optional
            Weight of a row of each class.
        """
        numbers = labels.cpu().numpy()
        weights = None if class_weights is None else class_weights[numbers]
        self.add(features, torch.eye(self.y.size)[torch.from_numpy(numbers)], weights)

    def diagonal(self) -> NDArray[np.float64]:
        """Return the sums of X², shape (F,)."""
        return np.diag(self.xx)

    def on_host(self) -> GramSums:
        """Return these sums, which are in main memory."""
        return self

    def set_to(self, host: GramSums) -> None:
        """Do nothing: `host` is what `on_host` returned."""

    def flush(self) -> None:
        """Add pending rows to the sums. Call it at the end of each group of rows that are always summed together."""
        if not self._pending_rows or self._pending is None:
            return
        pending, width = self._pending, self.x.size
        last = self._columns - 1
        for block in upper_blocks(width):
            self._add_rounded(self.xx[block], pending[block])
        self._add_rounded(self.x, pending[:width, last])
        self._add_rounded(self.total, pending[last, last : last + 1])
        if self._pending_outputs is None:
            self._add_rounded(self.xy, pending[:width, width:last])
            self._add_rounded(self.y, pending[width:last, last])
            self._add_rounded(self.yy, np.diag(pending)[width:last].copy())
        else:
            crossed, squares = (part.numpy() for part in self._pending_outputs)
            self._add_rounded(self.xy, crossed[:width])
            self._add_rounded(self.y, crossed[last])
            self._add_rounded(self.yy, squares)
            for part in self._pending_outputs:
                part.zero_()
        torch.from_numpy(pending).zero_()
        self._pending_rows = 0

    def _add_rounded(self, total: NDArray[np.float64], part: NDArray[Any]) -> None:
        """Add pending sums to the totals, as multiples of the unit if there is one. NumPy would use one core."""
        # Transposed, since the sums are in column order.
        wide = torch.from_numpy(part.T).to(torch.float64, copy=True)
        if self._unit is not None:
            # The unit is a power of two, so the multiplications are exact.
            wide.mul_(1 / self._unit).round_().mul_(self._unit)
        torch.from_numpy(total.T).add_(wide)

    def add_all(self, features: Any, targets: Any, batch_rows: int) -> None:
        """Add many rows in blocks of `batch_rows`; the last one may be shorter."""
        for start in range(0, len(features), batch_rows):
            rows = slice(start, start + batch_rows)
            self.add(features[rows], targets[rows])

    def clear(self) -> None:
        """Reset all sums to 0."""
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
        """Return the mean squared error of a readout over the added rows and all outputs."""
        self.flush()
        gram = np.triu(self.xx) + np.triu(self.xx, 1).T
        weights, intercept = readout.weights, readout.intercept
        squares = (weights * (gram @ weights)).sum(axis=0) + self.count * intercept**2 + self.yy
        crossed = (weights * self.xy).sum(axis=0) + intercept * (self.y - self.x @ weights)
        return float((squares - 2 * crossed).sum() / (self.count * self.y.size))


def reduce_sums(sums: Sums, comm: Communicator) -> Sums:
    """Add the sums of all ranks in place by one allreduce, with the same result on every rank. Collective.

    If the sums have a bound (`largest`), the totals are the same bits for any number of ranks. Sums on a device are
    copied to the host for this, and back.

    Parameters
    ----------
    sums : GramSums or DeviceSums
    comm : Communicator

    Returns
    -------
    GramSums or DeviceSums
        The argument.
    """
    sums.flush()
    if comm.size == 1:
        return sums
    host = sums.on_host()
    _unpack(host, comm.allreduce(_packed(host)))
    sums.set_to(host)
    return sums


def _packed(sums: GramSums) -> NDArray[np.float64]:
    """Return all sums as one vector: the columns of X'X down to the diagonal, the other sums, the number of rows."""
    size = sums.x.size
    others = np.concatenate([*(getattr(sums, name).ravel() for name in SUMS), [float(sums.rows)]])
    packed = np.empty(size * (size + 1) // 2 + others.size)
    for column in range(size):
        start = column * (column + 1) // 2
        packed[start : start + column + 1] = sums.xx[: column + 1, column]
    packed[size * (size + 1) // 2 :] = others
    return packed


def _unpack(sums: GramSums, packed: NDArray[np.float64]) -> None:
    """Set the sums to those of a vector that `_packed` returned."""
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


def upper_blocks(size: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of blocks that cover the upper triangle of a square matrix and fit into a core's cache."""
    start = 0
    while start < size:
        # The widest w with (start + w) · w numbers within CACHED_NUMBERS.
        width = int((math.sqrt(start**2 + 4 * CACHED_NUMBERS) - start) / 2)
        stop = min(size, start + max(1, width))
        yield slice(0, stop), slice(start, stop)
        start = stop


def unit_of(largest: float | None) -> float | None:
    """Return the power of two of which sums up to `largest` are multiples with 52 bits; None without a bound."""
    return None if largest is None else 2.0 ** float(np.ceil(np.log2(largest)) - 52)


def padded(columns: int) -> int:
    """Return the number of columns rounded up so that every row starts at a cache line, which makes products faster."""
    return math.ceil(columns / 16) * 16


def _add_products(sums: NDArray[Any], z: Tensor) -> None:
    """Add Z'Z to the upper triangle, for a float32 Z whose numbers are exact in bfloat16."""
    into = torch.from_numpy(sums.T)
    with bfloat16_products():
        for start in range(0, len(sums), PRODUCT_COLUMNS):
            stop = min(start + PRODUCT_COLUMNS, len(sums))
            into[start:stop, :stop].addmm_(z[:, start:stop].T, z[:, :stop])


@contextmanager
def bfloat16_products() -> Iterator[None]:
    """Let oneDNN multiply float32 matrices as bfloat16 if the processor can."""
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
