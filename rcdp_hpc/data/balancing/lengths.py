"""Series of unequal length: resampling one to the length of another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK_VALUES = 2**18


def resample_steps(
    x: NDArray[np.float32], lengths: NDArray[np.int64], new_lengths: NDArray[np.int64] | int
) -> NDArray[np.float32]:
    """Resample series to other lengths: linear between steps; the first and the last step keep their values.

    Parameters
    ----------
    x : ndarray of float32, shape (n, steps, ...)
        Padded series.
    lengths : ndarray of int64, shape (n,)
        Steps of each series that hold data.
    new_lengths : ndarray of int64, shape (n,), or int
        Steps of each series after resampling, at most `steps`.

    Returns
    -------
    ndarray of float32, shape (n, steps, ...)
        Zero after `new_lengths` steps.

    Examples
    --------
    >>> resample_steps(np.array([[[0.0], [2.0], [0.0]]], np.float32), np.array([2]), 3)[0, :, 0].tolist()
    [0.0, 1.0, 2.0]
    """
    new_lengths = np.broadcast_to(np.asarray(new_lengths, np.int64), lengths.shape)
    result = np.empty_like(x)
    # In blocks, because positions and weights of steps take several times the memory of the series.
    size = max(1, BLOCK_VALUES // max(1, x[:1].size))
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        result[rows] = _resampled(x[rows], lengths[rows], new_lengths[rows])
    return result


def _resampled(
    x: NDArray[np.float32], lengths: NDArray[np.int64], new_lengths: NDArray[np.int64]
) -> NDArray[np.float32]:
    steps = np.arange(x.shape[1])
    position = steps * ((lengths - 1) / np.maximum(new_lengths - 1, 1))[:, None]
    last = (lengths - 1)[:, None]
    low = np.minimum(position.astype(np.int64), last)
    high = np.minimum(low + 1, last)
    axes = (*x.shape[:2], *(1,) * (x.ndim - 2))
    weight = (position - low).astype(np.float32).reshape(axes)
    rows = np.arange(len(x))[:, None]
    start = x[rows, low]
    result: NDArray[np.float32] = start + weight * (x[rows, high] - start)
    result[steps >= new_lengths[:, None]] = 0
    unchanged = lengths == new_lengths
    result[unchanged] = x[unchanged]
    return result


def lengths_if_padded(lengths: NDArray[np.int64], steps: int) -> NDArray[np.int64] | None:
    """Return the lengths of series, or None if all of them have `steps` steps, so that there is no padding."""
    return None if (lengths == steps).all() else lengths
