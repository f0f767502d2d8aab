"""Views of series: padded, selected, with an axis of features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.sources.base import Samples
from rcdp_hpc.errors import InputError


class PaddedRows:
    """Series, returned with zeros after their ends.

    Parameters
    ----------
    series : Samples, shape (N, steps, ...)
    lengths : ndarray of int64, shape (N,)
        Steps of each series that hold data; later steps are not used.
    longest : int
        Steps to which all series are padded.
    """

    def __init__(self, series: Samples, lengths: NDArray[np.int64], longest: int) -> None:
        self._series = series
        self._lengths = lengths
        self.shape: tuple[int, ...] = (len(lengths), longest, *series.shape[2:])
        self.dtype: np.dtype[Any] = series.dtype

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        series, lengths = self._series[rows], self._lengths[rows]
        padded = np.zeros((len(series), *self.shape[1:]), self.dtype)
        steps = min(self.shape[1], series.shape[1])
        padded[:, :steps] = series[:, :steps]
        padded[np.arange(self.shape[1]) >= lengths[:, None]] = 0
        return padded


class SelectedRows:
    """Samples at some indices.

    Parameters
    ----------
    x : Samples
    places : ndarray of int64, shape (n,)
    """

    def __init__(self, x: Samples, places: NDArray[np.int64]) -> None:
        self._x = x
        self._places = places
        self.shape: tuple[int, ...] = (len(places), *x.shape[1:])
        self.dtype: np.dtype[Any] = x.dtype

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        return np.asarray(self._x[self._places[rows]])


class SeriesOfOneFeature:
    """Series without an axis of features, returned with an axis of one feature.

    Parameters
    ----------
    x : Samples, shape (N, steps)
    """

    def __init__(self, x: Samples) -> None:
        self._x = x
        self.shape: tuple[int, ...] = (*x.shape, 1)
        self.dtype: np.dtype[Any] = x.dtype

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        return np.asarray(self._x[rows])[..., None]


def padded(x: Samples, lengths: NDArray[np.int64], longest: int) -> Samples:
    """Return series of `longest` steps with zeros after their ends; an array if `x` is an array."""
    rows = PaddedRows(x, lengths, longest)
    return rows[:] if isinstance(x, np.ndarray) else rows


def selected(x: Samples, places: NDArray[np.int64]) -> Samples:
    """Return the samples at some indices; an array if `x` is an array."""
    return x[places] if isinstance(x, np.ndarray) else SelectedRows(x, places)


def with_features(x: Samples) -> Samples:
    """Return series of shape (N, steps) as (N, steps, 1)."""
    return x[..., None] if isinstance(x, np.ndarray) else SeriesOfOneFeature(x)


def checked_lengths(where: str, lengths: NDArray[Any], samples: int, steps: int) -> NDArray[np.int64]:
    """Return the lengths of padded series as int64, checked.

    Parameters
    ----------
    where : str
        File and key, for messages.
    lengths : ndarray, shape (samples,) or (samples, 1)
        Integers from 1 to `steps`.
    samples, steps : int
        Shape of the array of series.

    Raises
    ------
    InputError
        If there is not one length for each sample, or a length is not an integer from 1 to `steps`.
    """
    if lengths.ndim == 2 and lengths.shape[1] == 1:
        lengths = lengths[:, 0]
    if lengths.ndim != 1 or lengths.dtype.kind not in "iuf":
        raise InputError(
            f"{where} has shape {lengths.shape} and type {lengths.dtype}, expected one whole number for each series."
        )
    if len(lengths) != samples:
        raise InputError(f"{where} has {len(lengths)} entries, there are {samples} samples.")
    # The comparison is false for NaN.
    good = (lengths >= 1) & (lengths <= steps) & (np.floor(lengths) == lengths)
    if not good.all():
        row = int(np.argmin(good))
        raise InputError(
            f"{where}: {lengths[row]} of row {row} (from 0) is not a whole number from 1 to {steps}, the steps of the "
            f"array ({np.count_nonzero(~good)} such rows)."
        )
    return lengths.astype(np.int64)
