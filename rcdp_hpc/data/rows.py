"""Recipes of the rows of a split: the samples from which each row is computed when it is written."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.balancing.lengths import resample_steps
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.data.sources import Source


@dataclass(frozen=True, eq=False)
class RowTable:
    """Recipes of rows, in the order of the shards.

    Attributes
    ----------
    y : ndarray of int32, shape (N,)
        Class indices.
    source : ndarray of int64, shape (N,)
        Index of the sample in the source; for a synthetic row, of the sample x_i from which it starts.
    neighbour : ndarray of int64, shape (N,)
        For a synthetic row, index of the neighbour x_j (x_i itself for a copy); -1 for original rows.
    step : ndarray of float32, shape (N,)
        For a synthetic row, its place on the segment from x_i to x_j, 0 to 1; 0 for original rows.
    values : ndarray of float32, shape (N, K)
        Values that replace those of the recipe, NaN for those that stay: of the K features that hold categories, or of
        all features if the balancing is a user's class. K = 0 if the method gives no values.
    """

    y: NDArray[np.int32]
    source: NDArray[np.int64]
    neighbour: NDArray[np.int64]
    step: NDArray[np.float32]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.y)

    @property
    def synthetic(self) -> NDArray[np.bool_]:
        """Whether each row is synthetic, shape (N,)."""
        return self.neighbour >= 0

    def part(self, rows: slice | NDArray[np.int64]) -> RowTable:
        """Return a part of the rows, by a slice or by their indices."""
        return RowTable(*(getattr(self, column.name)[rows] for column in fields(self)))

    def counts(self, classes: int) -> list[int]:
        """Return the number of rows of each class."""
        return np.bincount(self.y, minlength=classes).tolist()

    def synthetic_counts(self, classes: int) -> list[int]:
        """Return the number of synthetic rows of each class."""
        return np.bincount(self.y[self.synthetic], minlength=classes).tolist()


def original_rows(y: NDArray[np.int64], indices: NDArray[np.int64]) -> RowTable:
    """Return the table of original rows with labels `y` and indices in the source."""
    return RowTable(
        y.astype(np.int32),
        indices.astype(np.int64),
        np.full(len(y), -1, np.int64),
        np.zeros(len(y), np.float32),
        np.empty((len(y), 0), np.float32),
    )


def synthetic_rows(
    label: int,
    source: NDArray[np.int64],
    neighbour: NDArray[np.int64],
    step: NDArray[np.float32],
    values: NDArray[np.float32] | None = None,
) -> RowTable:
    """Return the table of synthetic rows of one class; the arrays are those of `RowTable`."""
    if values is None:
        values = np.empty((len(step), 0), np.float32)
    return RowTable(np.full(len(step), label, np.int32), source, neighbour, step, values)


def stacked(tables: list[RowTable]) -> RowTable:
    """Return one table with the rows of several, in order."""
    width = max(table.values.shape[1] for table in tables)
    values = [
        table.values if table.values.shape[1] == width else np.full((len(table), width), np.nan, np.float32)
        for table in tables
    ]
    return RowTable(
        np.concatenate([table.y for table in tables]),
        np.concatenate([table.source for table in tables]),
        np.concatenate([table.neighbour for table in tables]),
        np.concatenate([table.step for table in tables]),
        np.concatenate(values),
    )


def make_samples(source: Source, rows: RowTable, storage: Storage) -> NDArray[np.float32]:
    """Compute the samples of some rows of one split: x_i, or x_i + step * (x_j - x_i), in float32.

    A neighbour with another number of steps is first resampled to the steps of x_i. Mask channels of missing values
    are those of x_i.

    Returns
    -------
    ndarray of float32, shape (n, *sample_shape)
    """
    x = storage.rounded(source.samples(rows.source))
    synthetic = np.flatnonzero(rows.synthetic)
    if len(synthetic):
        ends = storage.rounded(source.samples(rows.neighbour[synthetic]))
        lengths = source.lengths(rows.source[synthetic])
        neighbour_lengths = source.lengths(rows.neighbour[synthetic])
        if lengths is not None and neighbour_lengths is not None:
            ends = resample_steps(ends, neighbour_lengths, lengths)
        start = x[synthetic]
        x[synthetic] = on_segment(start, ends, rows.step[synthetic])
        if rows.values.shape[1]:
            flat = x.reshape(len(x), -1)
            features = np.arange(flat.shape[1]) if rows.values.shape[1] == flat.shape[1] else list(source.categories)
            flat[:, features] = np.where(np.isnan(rows.values), flat[:, features], rows.values)
        # A value between missing and not missing does not exist.
        x[synthetic, ..., source.masked] = start[..., source.masked]
    return x


def on_segment(start: NDArray[np.float32], end: NDArray[np.float32], step: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return start + step * (end - start) for each row, in float32 (eq. 1)."""
    return start + step.reshape(-1, *(1,) * (start.ndim - 1)) * (end - start)
