"""Sequences of unequal length: stretching one to the length of another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK_VALUES = 2**18


def resample_steps(
    x: NDArray[np.float32], lengths: NDArray[np.int64], wanted: NDArray[np.int64] | int
) -> NDArray[np.float32]:
    """Resample sequences to other lengths, linearly between their steps, the first and the last step kept.

    Parameters
    ----------
    x : ndarray of float32, shape (n, steps, ...)
        Padded sequences.
    lengths : ndarray of int64, shape (n,)
        Steps of each that hold data.
    wanted : ndarray of int64, shape (n,), or int
        Steps that each shall have, at most `steps`.

    Returns
    -------
    ndarray of float32, shape (n, steps, ...)
        Zero after `wanted` steps.

    Examples
    --------
    >>> resample_steps(np.array([[[0.0], [2.0], [0.0]]], np.float32), np.array([2]), 3)[0, :, 0].tolist()
    [0.0, 1.0, 2.0]
    """
    wanted = np.broadcast_to(np.asarray(wanted, np.int64), lengths.shape)
    result = np.empty_like(x)
    # In blocks: places and shares of steps take several times the memory of the sequences themselves.
    size = max(1, BLOCK_VALUES // max(1, x[:1].size))
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        result[rows] = _stretched(x[rows], lengths[rows], wanted[rows])
    return result


def _stretched(x: NDArray[np.float32], lengths: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.float32]:
    steps = np.arange(x.shape[1])
    place = steps * ((lengths - 1) / np.maximum(wanted - 1, 1))[:, None]
    low = np.minimum(place.astype(np.int64), (lengths - 1)[:, None])
    high = np.minimum(low + 1, (lengths - 1)[:, None])
    axes = (*x.shape[:2], *(1,) * (x.ndim - 2))
    part = (place - low).astype(np.float32).reshape(axes)
    rows = np.arange(len(x))[:, None]
    start = x[rows, low]
    result: NDArray[np.float32] = start + part * (x[rows, high] - start)
    result[steps >= wanted[:, None]] = 0
    same = lengths == wanted
    result[same] = x[same]
    return result


def lengths_if_padded(lengths: NDArray[np.int64], steps: int) -> NDArray[np.int64] | None:
    """Return the lengths of sequences, or None where each has just so many steps, so that nothing is padding."""
    return None if (lengths == steps).all() else lengths
