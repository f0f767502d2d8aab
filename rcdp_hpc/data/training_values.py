"""Raw values of training rows: in blocks of rows, or all values of some features at once."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.ranges import feature_count
from rcdp_hpc.data.sources import Source
from rcdp_hpc.data.sources.base import BLOCK_BYTES, row_bytes

# Bytes per value while quantiles are computed: in its block, in the whole array, and sorted.
QUANTILE_BYTES = 32


def raw_blocks(
    source: Source, rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64] | None]]:
    """Yield blocks of the scaled raw values of some training rows, and their lengths."""
    size = max(1, BLOCK_BYTES // (2 * row_bytes(source.train.x)))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield source.train.x[part].astype(np.float64) * source.scale, source.lengths(part)


def value_count(source: Source, rows: NDArray[np.int64]) -> int:
    """Return the number of values of each feature in some training rows, missing ones included, padding not."""
    lengths = source.lengths(rows)
    if lengths is not None:
        return int(lengths.sum())
    return len(rows) * math.prod(source.raw_shape) // feature_count(source.kind, source.raw_shape)


def feature_values(
    source: Source, rows: NDArray[np.int64], budget: Budget, what: str, advice: str
) -> Iterator[NDArray[np.float64]]:
    """Yield all values of the features, as many features at a time as the budget allows, in order.

    Parameters
    ----------
    source : Source
    rows : ndarray of int64
        Training rows.
    budget : Budget
    what, advice : str
        Why the values are needed at once, and what else helps, for the message.

    Yields
    ------
    ndarray of float64, shape (values, features)
        NaN for missing values.

    Raises
    ------
    InputError
        If the values of one feature need more than the share of the budget.
    """
    features = feature_count(source.kind, source.raw_shape)
    needed = QUANTILE_BYTES * value_count(source, rows)
    budget.refuse_work(f"{source.description}: {what}", needed, advice)
    size = max(1, budget.work // max(1, needed))
    for first in range(0, features, size):
        yield _values_of(source, rows, features, slice(first, first + size))


def _values_of(source: Source, rows: NDArray[np.int64], features: int, some: slice) -> NDArray[np.float64]:
    parts = []
    for values, lengths in raw_blocks(source, rows):
        flat = values.reshape(len(values), -1, features)[:, :, some]
        if lengths is None:
            parts.append(flat.reshape(-1, flat.shape[2]).copy())
        else:
            parts.append(flat[np.arange(flat.shape[1]) < lengths[:, None]])
    return np.concatenate(parts)
