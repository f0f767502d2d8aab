"""Some rows and columns of samples that lie elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.sources.base import Samples


class RowView:
    """Some rows and columns of a table of numbers.

    Parameters
    ----------
    x : Samples, shape (N, columns)
    rows : ndarray of int64, or None
        Those to hand out; None: all.
    columns : ndarray of int64, or None
        Those to hand out; None: all.
    fills : dict of int to float
        By their place among the columns handed out, what stands for NaN.
    """

    def __init__(
        self,
        x: Samples,
        rows: NDArray[np.int64] | None = None,
        columns: NDArray[np.int64] | None = None,
        fills: dict[int, float] | None = None,
    ) -> None:
        self._x, self._rows, self._columns, self._fills = x, rows, columns, fills or {}
        self.shape: tuple[int, ...] = (
            x.shape[0] if rows is None else len(rows),
            x.shape[1] if columns is None else len(columns),
        )
        self.dtype = x.dtype

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        found: NDArray[Any] = self._x[rows if self._rows is None else self._rows[rows]]
        if self._columns is not None:
            found = found[:, self._columns]
        for place, value in self._fills.items():
            found[np.isnan(found[:, place]), place] = value
        return found


def chosen(
    x: Samples,
    rows: NDArray[np.int64] | None = None,
    columns: NDArray[np.int64] | None = None,
    fills: dict[int, float] | None = None,
) -> Samples:
    """Return some rows and columns: as an array if `x` is one."""
    if rows is None and columns is None and not fills:
        return x
    view = RowView(x, rows, columns, fills)
    # An index copies, so that the array below is not written to.
    return view[np.arange(view.shape[0])] if isinstance(x, np.ndarray) else view
