"""Sums of ridge regression on the device of the states, by torch: only totals of all ranks ever cross to the host.

A block of rows Z = [X Y 1], each row times the root of its weight, adds Z'Z to pending sums. All products have fixed
shapes: at most `ROWS_AT_ONCE` rows, and panels of `PANEL` columns down to the diagonal. Pending sums are rounded and
added as those of `rcdp_hpc.reservoir.gram.GramSums`, so that totals are the same bits for any number of ranks. From
those of `GramSums` they differ by the order of the additions in a block: in float64 by less than 1e-12 of the largest
sum.

With precision "single", states of 16 bits are multiplied as TF32 (CUDA) or bfloat16 (CPU): their products are exact,
and are added in float32, as float32 products are. The sums over all rows are always float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.gram import ROWS_AT_ONCE, SINGLE_ROWS, SUMS, GramSums, bfloat16_products, padded, unit_of
from rcdp_hpc.runtime.device import free_gpu_memory
from rcdp_hpc.runtime.ram import is_out_of_memory

# Columns of Z'Z that one product computes, down to the diagonal.
PANEL = 1024
# Matrices of Z'Z in float64 that exist at once while the readout is solved: the sums, the standardised ones, their
# factor, and the copy of the factor that the solver makes.
MATRICES = 4
# Types of GPUs that compute in float64.
DOUBLE_DEVICES = ("cuda",)


def sums_device(states: torch.device) -> torch.device | None:
    """Return the device that sums and solves for states on a device; None for the CPU, where BLAS does it faster.

    The CPU does it for GPUs without float64, too.
    """
    return states if states.type in DOUBLE_DEVICES else None


def make_sums(
    features: int,
    outputs: int,
    precision: Literal["double", "single"] = "double",
    largest: float | None = None,
    joined: bool = True,
    device: torch.device | None = None,
) -> GramSums | DeviceSums:
    """Return empty sums: on the CPU by BLAS, or on a device by torch; parameters as of `GramSums`.

    Parameters
    ----------
    device : torch.device, optional
        See `sums_device`. ``torch.device("cpu")`` computes by torch on the CPU, as a GPU does.
    """
    if device is None:
        return GramSums(features, outputs, precision, largest, joined)
    return DeviceSums(features, outputs, precision, largest, joined, device)


class DeviceSums:
    """The sums of `GramSums` on a device; parameters and results are the same.

    Parameters
    ----------
    features, outputs : int
        F and K.
    precision : {"double", "single"}
    largest : float, optional
    joined : bool
    device : torch.device

    Attributes
    ----------
    rows : int
        Rows added so far.
    lower : torch.Tensor, shape (S, S), float64
        Lower triangle of Z'Z, padded with zeros; the rest is not defined. Z is [X Y 1], or [X 1] if not joined.
    crossed : torch.Tensor, shape (S, K), float64
        Z'Y of sums that are not joined, otherwise empty.
    squares : torch.Tensor, shape (K,), float64
        Sums of Y² of sums that are not joined, otherwise empty.

    Raises
    ------
    CandidateError
        If the sums and their solution do not fit into the memory of the device.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        precision: Literal["double", "single"] = "double",
        largest: float | None = None,
        joined: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        self.rows = 0
        self.features, self.outputs = features, outputs
        self.precision = precision
        self.joined = joined
        self.device = torch.device(device)
        self._unit = unit_of(largest)
        self._dtype = torch.float32 if precision == "single" else torch.float64
        self._pending: tuple[Tensor, Tensor, Tensor] | None = None
        self._pending_rows = 0
        self._z = torch.empty(0)
        self._refuse_too_large()
        try:
            self.lower, self.crossed, self.squares = self._zeros(torch.float64)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise CandidateError(self._no_room()) from None

    @property
    def last(self) -> int:
        """The column of ones in Z."""
        return self.features + (self.outputs if self.joined else 0)

    @property
    def x(self) -> NDArray[np.float64]:
        """Weighted column sums of X, shape (F,): a copy on the host, as are the other sums below."""
        return _host(self.device_x)

    @property
    def xy(self) -> NDArray[np.float64]:
        """X'wY, shape (F, K)."""
        return _host(self.device_xy)

    @property
    def y(self) -> NDArray[np.float64]:
        """Weighted column sums of Y, shape (K,)."""
        return _host(self.device_y)

    @property
    def yy(self) -> NDArray[np.float64]:
        """Weighted column sums of Y², shape (K,)."""
        return _host(self.lower.diagonal()[self.features : self.last] if self.joined else self.squares)

    @property
    def total(self) -> NDArray[np.float64]:
        """Sum of the row weights, shape (1,)."""
        return _host(self.device_count.reshape(1))

    @property
    def count(self) -> float:
        """The sum of the row weights."""
        return float(self.total[0])

    def diagonal(self) -> NDArray[np.float64]:
        """Return the sums of X², shape (F,)."""
        return _host(self.lower.diagonal()[: self.features])

    @property
    def device_xx(self) -> Tensor:
        """The lower triangle of X'wX on the device; the rest is not defined."""
        return self.lower[: self.features, : self.features]

    @property
    def device_xy(self) -> Tensor:
        """X'wY on the device."""
        if self.joined:
            return self.lower[self.features : self.last, : self.features].T
        return self.crossed[: self.features]

    @property
    def device_x(self) -> Tensor:
        """Weighted column sums of X on the device."""
        return self.lower[self.last, : self.features]

    @property
    def device_count(self) -> Tensor:
        """Sum of the row weights on the device, shape ()."""
        return self.lower[self.last, self.last]

    @property
    def device_y(self) -> Tensor:
        """Weighted column sums of Y on the device."""
        return self.lower[self.last, self.features : self.last] if self.joined else self.crossed[self.last]

    def add(self, features: Any, targets: Any, weights: Any = None) -> None:
        """Add a block of rows; parameters and errors as of `GramSums.add`."""
        expected = torch.as_tensor(targets).detach().to(self.device)
        roots = None if weights is None else torch.as_tensor(weights, dtype=torch.float64, device=self.device).sqrt()
        rows = torch.as_tensor(features).detach()
        may_be_exact = self.precision == "single" and rows.dtype == torch.bfloat16
        exact = may_be_exact and bool((expected.bfloat16() == expected).all())
        self._add(rows, expected, roots, exact)

    def add_labelled(self, features: Tensor, labels: Tensor, class_weights: NDArray[np.float64] | None = None) -> None:
        """Add a block of rows with one-hot targets; nothing is read from the device.

        Parameters
        ----------
        features : torch.Tensor, shape (rows, F)
        labels : torch.Tensor, shape (rows,), int64
            Class numbers.
        class_weights : numpy.ndarray, shape (K,), optional
            Weight of a row of each class.
        """
        numbers = labels.to(self.device)
        roots = None
        if class_weights is not None:
            roots = torch.as_tensor(class_weights, dtype=torch.float64, device=self.device).sqrt()[numbers]
        self._add(features.detach(), is_class(numbers, self.outputs), roots, features.dtype == torch.bfloat16)

    def _add(self, features: Tensor, targets: Tensor, roots: Tensor | None, exact: bool) -> None:
        if tuple(features.shape) != (len(targets), self.features) or targets.shape[1:] != (self.outputs,):
            raise ValueError(
                f"features {tuple(features.shape)} and targets {tuple(targets.shape)} do not fit sums over "
                f"{self.features} features and {self.outputs} outputs"
            )
        exact = exact and roots is None and self.joined and self._dtype == torch.float32
        for start in range(0, len(targets), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            z = self._joined(features[rows], targets[rows])
            if roots is not None:
                z *= roots[rows, None]
            if self._pending is None:
                self._pending = self._zeros(self._dtype)
            lower, crossed, squares = self._pending
            with _float32_products(self.device.type, exact):
                for panel in _panels(len(lower)):
                    lower[panel, : panel.stop].addmm_(z[:, panel].T, z[:, : panel.stop])
                if not self.joined:
                    y = targets[rows].to(self._dtype)
                    y = y if roots is None else (y * roots[rows, None]).to(self._dtype)
                    crossed.addmm_(z.T, y)
                    squares += (y * y).sum(0)
            self._pending_rows += len(z)
            self.rows += len(z)
            if self.precision == "single" and self._pending_rows >= SINGLE_ROWS:
                self.flush()

    def _joined(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return [X Y 1 0] in the dtype of the products, in a buffer that the next call overwrites; no Y if apart."""
        if len(self._z) < len(features):
            self._z = torch.zeros(len(features), len(self.lower), dtype=self._dtype, device=self.device)
        z = self._z[: len(features)]
        z[:, : self.features] = features
        if self.joined:
            z[:, self.features : self.last] = targets
        z[:, self.last] = 1
        return z

    def flush(self) -> None:
        """Add pending rows to the sums. Call it at the end of each group of rows that are always summed together."""
        if self._pending is None:
            return
        lower, crossed, squares = self._pending
        for panel in _panels(len(lower)):
            self._add_rounded(self.lower[panel, : panel.stop], lower[panel, : panel.stop])
        self._add_rounded(self.crossed, crossed)
        self._add_rounded(self.squares, squares)
        self._pending, self._pending_rows = None, 0

    def _add_rounded(self, total: Tensor, part: Tensor) -> None:
        """Add pending sums to the totals, as multiples of the unit if there is one."""
        wide = part.double()
        if self._unit is None:
            total += wide
        else:
            # The unit is a power of two, so the multiplications are exact.
            total.add_(wide.mul_(1 / self._unit).round_(), alpha=self._unit)

    def add_all(self, features: Any, targets: Any, batch_rows: int) -> None:
        """Add many rows in blocks of `batch_rows`; the last one may be shorter."""
        for start in range(0, len(features), batch_rows):
            rows = slice(start, start + batch_rows)
            self.add(features[rows], targets[rows])

    def clear(self) -> None:
        """Reset all sums to 0."""
        self._pending, self._pending_rows, self.rows = None, 0, 0
        for part in (self.lower, self.crossed, self.squares):
            part.zero_()

    def merge(self, other: DeviceSums) -> None:
        """Add the sums of other rows."""
        self.flush()
        other.flush()
        self.rows += other.rows
        self.lower += other.lower
        self.crossed += other.crossed
        self.squares += other.squares

    def on_host(self) -> GramSums:
        """Return a copy in main memory, for what is computed there."""
        self.flush()
        host = GramSums(self.features, self.outputs, self.precision, joined=self.joined)
        host.rows = self.rows
        torch.from_numpy(host.xx.T).copy_(self.device_xx)
        for name in SUMS:
            getattr(host, name)[...] = getattr(self, name)
        return host

    def set_to(self, host: GramSums) -> None:
        """Set all sums to those of `host`, which has the same shape."""
        self.clear()
        self.rows = host.rows
        width, last = self.features, self.last
        self.device_xx.copy_(torch.from_numpy(host.xx.T))
        self.lower[last, :width].copy_(torch.from_numpy(host.x))
        self.lower[last, last] = host.count
        if self.joined:
            self.lower[width:last, :width].copy_(torch.from_numpy(host.xy.T))
            self.lower[last, width:last].copy_(torch.from_numpy(host.y))
            self.lower.diagonal()[width:last].copy_(torch.from_numpy(host.yy))
        else:
            self.crossed[:width].copy_(torch.from_numpy(host.xy))
            self.crossed[last].copy_(torch.from_numpy(host.y))
            self.squares.copy_(torch.from_numpy(host.yy))

    def _zeros(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        size, apart = padded(self.last + 1), 0 if self.joined else self.outputs
        return (
            torch.zeros(size, size, dtype=dtype, device=self.device),
            torch.zeros(size, apart, dtype=dtype, device=self.device),
            torch.zeros(apart, dtype=dtype, device=self.device),
        )

    def _refuse_too_large(self) -> None:
        free = free_memory(self.device)
        if free is not None and sums_bytes(self.features, self.outputs, self.joined) > free:
            raise CandidateError(self._no_room())

    def _no_room(self) -> str:
        needed, free = sums_bytes(self.features, self.outputs, self.joined), free_memory(self.device)
        room = "" if free is None else f", and {free / 2**30:.1f} GiB are free there"
        return (
            f"ridge over {self.features} features needs {needed / 2**30:.1f} GiB on {self.device} for its sums "
            f"and their solution{room}: lower reservoir.nodes or reservoir.states, or compute on the CPU "
            "(training.device = 'cpu'; in a search, search.device = 'cpu')"
        )


def is_class(labels: Tensor, classes: int) -> Tensor:
    """Return class numbers (rows,) as rows with a single True, shape (rows, classes), without waiting for the device.

    ``torch.nn.functional.one_hot`` reads the smallest and the largest class of labels on a CPU.
    """
    return labels[:, None] == torch.arange(classes, device=labels.device)


def sums_bytes(features: int, outputs: int, joined: bool = True) -> int:
    """Return the bytes that sums on a device need with their solution and one block of rows."""
    size, apart = padded(features + (outputs if joined else 0) + 1), 0 if joined else outputs
    return 8 * size * (MATRICES * (size + apart) + ROWS_AT_ONCE)


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that this process can still allocate on a device; None for the CPU."""
    return free_gpu_memory(device) if device.type == "cuda" else None


def _panels(size: int) -> Iterator[slice]:
    for start in range(0, size, PANEL):
        yield slice(start, min(size, start + PANEL))


def _host(values: Tensor) -> NDArray[np.float64]:
    return np.array(values.cpu().numpy())


def _float32_products(device: str, exact: bool) -> AbstractContextManager[None]:
    """Multiply float32 matrices in float32, or, if their numbers are exact in 16 bits, by faster units.

    TF32 has more digits than bfloat16, so that products of bfloat16 numbers are exact in both.
    """
    if device == "cuda":
        return _precision(torch.backends.cuda.matmul, "tf32" if exact else "ieee")
    return bfloat16_products() if exact else nullcontext()


@contextmanager
def _precision(setting: Any, chosen: str) -> Iterator[None]:
    before = setting.fp32_precision
    setting.fp32_precision = chosen
    try:
        yield
    finally:
        setting.fp32_precision = before
