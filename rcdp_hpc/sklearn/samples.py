"""Checks of samples and labels that the estimator gets: tables as scikit-learn checks them, series and images."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d, validate_data

from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.labels import checked_labels, encode_labels
from rcdp_hpc.data.sources.python_values import sample_arrays
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agreed
from rcdp_hpc.sklearn.errors import InvalidInputError

# Bytes of one update of a checksum.
BLOCK_BYTES = 2**26


def checked_x(estimator: BaseEstimator, x: Any, reset: bool, series: bool, allow_nan: bool) -> dict[str, NDArray[Any]]:
    """Return the samples as an array ``x``, with the ``lengths`` of series of unequal length.

    Parameters
    ----------
    estimator : BaseEstimator
        Gets ``n_features_in_`` and, from a data frame, ``feature_names_in_`` in a fit; otherwise they are compared.
    x : array_like, DataFrame or sequence of array_like
    reset : bool
        Whether this is a fit.
    series : bool
        Whether arrays of one axis in a list are series, even if all have the same length.
    allow_nan : bool
        Whether missing values are accepted.

    Raises
    ------
    ValueError or TypeError
        If the samples cannot be used.
    """
    members = _members(x)
    if members is not None and (series or len({len(one) for one in members}) > 1 or members[0].ndim > 1):
        return _checked_series(estimator, members, reset, allow_nan)
    axes = len(x.shape) if hasattr(x, "shape") else np.asarray(x).ndim
    finite: Any = "allow-nan" if allow_nan else True
    if axes > 2 or (series and axes == 2):
        checked = check_array(x, allow_nd=True, ensure_all_finite=finite, estimator=estimator, input_name="X")
        _compare_features(estimator, checked.shape[-1] if axes > 2 else 1, reset)
    else:
        checked = validate_data(estimator, x, reset=reset, ensure_all_finite=finite)
    if not checked.size:
        raise InvalidInputError(f"X has shape {checked.shape}: at least one value for each sample is required.")
    return {"x": checked}


def checked_y(y: Any, samples: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Return the labels, the different ones in order, and for each of these its index among the model's classes.

    Raises
    ------
    ValueError
        If there is not one label for each sample, or they are not classes.
    """
    if y is None:
        raise InvalidInputError("requires y to be passed, but the target y is None.")
    y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise InvalidInputError("Input y contains NaN or infinity.")
    check_consistent_length(np.empty(samples), y)
    check_classification_targets(y)
    classes, first = np.unique(y, return_index=True)
    if len(classes) < 2:
        raise InvalidInputError(f"y has 1 class, {classes.tolist()[0]!r}: two classes or more are needed.")
    names, codes, _ = encode_labels(checked_labels(y, "y"), None, "y", Findings())
    if len(names) != len(classes):
        raise InvalidInputError(
            f"y: {len(classes)} different labels have {len(names)} different names ({', '.join(names[:5])}, ...): "
            "rename labels that differ only in blanks or in their type"
        )
    return y, classes, codes[first]


def refuse_different_data(comm: Communicator, arrays: dict[str, NDArray[Any]], y: NDArray[Any] | None = None) -> None:
    """Raise an `InputError` on all ranks if ranks have different samples or labels. Collective."""
    if comm.size == 1:
        return
    labels = None if y is None else (y.shape, zlib.crc32("\0".join(map(str, y.tolist())).encode()))
    other = _other_rank(comm, (sorted(map(_summary, arrays.items())), labels))
    if other:
        raise agreed(
            InputError(
                f"rank {other} passes other samples or labels than rank 0: every rank must pass the same X and y, for "
                "example read from one file, and split with the same random_state"
            )
        )


def _other_rank(comm: Communicator, value: Any) -> int:
    """Return the first rank whose value differs from rank 0's; 0 if there is none. Collective."""
    values = comm.allgather(value)
    return next((rank for rank, other in enumerate(values) if other != values[0]), 0)


def _summary(item: tuple[str, NDArray[Any]]) -> tuple[str, tuple[int, ...], str, int]:
    name, array = item
    checksum, rows = 0, max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        checksum = zlib.crc32(np.ascontiguousarray(array[start : start + rows]).data.cast("B"), checksum)
    return name, array.shape, str(array.dtype), checksum


def _members(x: Any) -> list[NDArray[Any]] | None:
    """Return the arrays of a sequence of arrays, each of them a sample; None for anything else."""
    if isinstance(x, np.ndarray):
        if x.dtype.kind != "O" or x.ndim != 1:
            return None
        x = list(x)
    if not isinstance(x, list | tuple) or not len(x) or not all(isinstance(one, np.ndarray | list) for one in x):
        return None
    try:
        members = [np.asarray(one) for one in x]
    except ValueError:
        return None
    return members if all(one.ndim in (1, 2) for one in members) else None


def _checked_series(
    estimator: BaseEstimator, series: Sequence[NDArray[Any]], reset: bool, allow_nan: bool
) -> dict[str, NDArray[Any]]:
    series = [one[:, None] if one.ndim == 1 else one for one in series]
    for place, one in enumerate(series):
        if not one.size:
            raise InvalidInputError(f"X: series {place} has shape {one.shape}; at least one step is required.")
        if one.ndim != 2 or one.shape[1] != series[0].shape[1]:
            raise InvalidInputError(
                f"X: series {place} has shape {one.shape}, series 0 has {series[0].shape}; expected (steps, features) "
                "with the same features."
            )
        if one.dtype.kind == "c":
            raise InvalidInputError("Complex data not supported")
        if one.dtype.kind == "f" and not (allow_nan and not np.isinf(one).any()) and not np.isfinite(one).all():
            raise InvalidInputError(f"Input X contains NaN or infinity, in series {place}.")
    _compare_features(estimator, series[0].shape[1], reset)
    return sample_arrays("X", list(series))


def _compare_features(estimator: BaseEstimator, features: int, reset: bool) -> None:
    if reset:
        estimator.n_features_in_ = features
    elif features != estimator.n_features_in_:
        raise InvalidInputError(
            f"X has {features} features, but {type(estimator).__name__} is expecting {estimator.n_features_in_} "
            "features as input."
        )
