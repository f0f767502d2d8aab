"""Samples and labels as a Python program has them: arrays, data frames, lists of series. They become plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import InputError

SERIES_ADVICE = "give a list of series, each of shape (steps, features)"


def sample_arrays(where: str, values: Any) -> dict[str, NDArray[Any]]:
    """Return samples as one array ``x``, and the ``lengths`` of series of unequal length.

    Parameters
    ----------
    where : str
        Names the samples in messages.
    values : array_like or sequence of array_like
        An array of shape (n, ...); or series of unequal length, each of shape (steps, features) or (steps,).

    Raises
    ------
    InputError
        If they are not numbers, have no sample, or their shapes do not match.
    """
    _refuse_other_objects(where, values)
    if is_sparse(values):
        raise InputError(f"{where}: a sparse matrix; expected a dense array: x.toarray() makes one.")
    values = without_mask(_listed(values))
    if isinstance(values, list | tuple):
        series = [_array(f"{where}, sample {row}", one) for row, one in enumerate(values)]
        if len({one.shape for one in series}) > 1:
            return padded_series(where, series)
        values = series
    x = _numbers(where, _array(where, values))
    if x.ndim < 2 or not x.size:
        raise InputError(
            f"{where} has shape {x.shape}; expected (samples, ...) with at least one sample and one value. If each "
            "number is a sample, use x.reshape(-1, 1); if all are one sample, x.reshape(1, -1)."
        )
    return {"x": x}


def label_array(where: str, values: Any) -> NDArray[Any]:
    """Return labels as an array; missing ones (None, NaN, pandas.NA, masked values) as None or NaN.

    Parameters
    ----------
    where : str
        Names the labels in messages.
    values : array_like, Series or sequence
        One label per sample, or one-hot rows.

    Raises
    ------
    InputError
        If there are no labels, or they do not form an array.
    """
    if values is None:
        raise InputError(f"{where} is None; expected one label for each sample.")
    _refuse_other_objects(where, values)
    if is_sparse(values):
        raise InputError(f"{where}: a sparse matrix; expected one label for each sample.")
    if np.ma.isMaskedArray(values):
        return np.ma.filled(values.astype(object), None) if np.ma.is_masked(values) else np.asarray(values)
    if hasattr(values, "to_numpy") and getattr(values, "ndim", 1) == 1 and _is_pandas(values):
        # Types of pandas hold missing values of their own, which NumPy does not have.
        return np.asarray(values.to_numpy(dtype=object, na_value=None)) if _has_own_type(values) else np.asarray(values)
    if isinstance(values, list | tuple) and not any(isinstance(one, list | tuple | np.ndarray) for one in values):
        # NumPy would turn [1, "a"] into two texts, and [True, 2] into two numbers.
        kinds = {type(one) for one in values}
        if len(kinds) > 1:
            return _objects(values)
    return _array(where, values)


def padded_series(where: str, series: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return series of unequal length, padded with zeros to the longest, and their lengths.

    Raises
    ------
    InputError
        If a series is empty, has other features than the first, or does not hold numbers.
    """
    series = [one[:, None] if one.ndim == 1 else one for one in series]
    for row, one in enumerate(series):
        if one.ndim != 2 or one.shape[1] != series[0].shape[-1] or not one.size:
            raise InputError(
                f"{where}: sample {row} has shape {one.shape}, sample 0 has {series[0].shape}; series of unequal "
                "length need the shape (steps, features), with at least one step and the same features."
            )
    series = [_numbers(f"{where}, sample {row}", one) for row, one in enumerate(series)]
    for row, one in enumerate(series):
        if one.dtype.kind not in "buif":
            raise InputError(f"{where}, sample {row} holds {one.dtype}, expected numbers.")
    lengths = np.array([len(one) for one in series])
    x = np.zeros((len(series), lengths.max(), series[0].shape[1]), np.result_type(*series))
    for row, one in enumerate(series):
        x[row, : len(one)] = one
    return {"x": x, "lengths": lengths}


def is_frame(values: Any) -> bool:
    """Return whether values are a data frame, whose columns have names."""
    return hasattr(values, "columns") and hasattr(values, "__getitem__")


def is_sparse(values: Any) -> bool:
    """Return whether values are a sparse matrix of SciPy."""
    return type(values).__module__.startswith("scipy.sparse")


def without_mask(values: Any) -> Any:
    """Return values with masked ones as NaN, which is a missing value; ``np.asarray`` would show what is masked."""
    if not np.ma.isMaskedArray(values):
        return values
    if not np.ma.is_masked(values):
        return np.asarray(values)
    kind = values.dtype if values.dtype.kind == "f" else np.float64
    return np.ma.filled(values.astype(kind), np.nan)


def _refuse_other_objects(where: str, values: Any) -> None:
    """Raise an `InputError` for objects that are often given by mistake."""
    if isinstance(values, str | bytes | Path):
        raise InputError(
            f"{where}: {str(values)!r} is text; expected an array. For a file, set data.source and data.path in the "
            "configuration instead."
        )
    if isinstance(values, Mapping | set | frozenset) or (hasattr(values, "__next__") and not hasattr(values, "shape")):
        raise InputError(f"{where}: a {type(values).__name__}; expected an array or a list.")


def _listed(values: Any) -> Any:
    """Return an array of objects that are series as a list; other values unchanged."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "O" and values.ndim == 1:
        values = list(values)
        if all(np.ndim(one) == 0 for one in values):
            return _objects(values)
    return values


def _array(where: str, values: Any) -> NDArray[Any]:
    try:
        return np.asarray(without_mask(values))
    except (ValueError, TypeError, RuntimeError) as error:  # RuntimeError: a tensor that needs gradients
        raise InputError(f"{where}: not an array ({error}). For series of unequal length, {SERIES_ADVICE}.") from None


def _numbers(where: str, x: NDArray[Any]) -> NDArray[Any]:
    """Return an array of objects as float64 if all are numbers or None; other arrays unchanged."""
    if x.dtype.kind != "O":
        return x
    flat = x.reshape(-1)
    for place, value in enumerate(flat):
        if not (value is None or isinstance(value, Real | np.bool_) or _is_missing(value)):
            index = tuple(int(number) for number in np.unravel_index(place, x.shape))
            raise InputError(
                f"{where} holds objects: a {type(value).__name__} at {list(index)}; expected numbers. For series of "
                f"unequal length, {SERIES_ADVICE}."
            )
    return np.array([np.nan if value is None or _is_missing(value) else value for value in flat], np.float64).reshape(
        x.shape
    )


def _is_missing(value: Any) -> bool:
    return type(value).__name__ == "NAType"


def _is_pandas(values: Any) -> bool:
    return type(values).__module__.partition(".")[0] == "pandas"


def _has_own_type(values: Any) -> bool:
    """Return whether the type of a pandas object is not one of NumPy: a category, or a nullable type."""
    return not isinstance(values.dtype, np.dtype)


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array
