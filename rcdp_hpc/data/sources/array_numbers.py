"""Check whether an array of numbers can hold samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.sources.base import Samples, blocks
from rcdp_hpc.data.sources.gaps import place_name
from rcdp_hpc.errors import InputError

FLOAT32_MAX = float(np.finfo(np.float32).max)
# Above this, float64 does not represent every integer.
EXACT = 2**53
UNEQUAL_HINT = (
    "Series of unequal length are saved as one padded array and their lengths: "
    "np.savez(file, x=padded, y=labels, lengths=lengths)."
)


def checked_samples(where: str, x: Any) -> Any:
    """Raise an `InputError` unless `x` holds numbers, one row for each sample; return it."""
    if x.dtype.names is not None:
        fields = ", ".join(x.dtype.names)
        raise InputError(
            f"{where} is a structured array with the fields {fields}, expected plain numbers: "
            "numpy.lib.recfunctions.structured_to_unstructured makes them."
        )
    if x.dtype.kind not in "buif":
        raise InputError(f"{where} holds {x.dtype}, expected numbers.")
    if len(x.shape) == 1 and x.shape[0]:
        raise InputError(
            f"{where} has shape {x.shape}, expected (samples, values, ...). If each number is a sample, save "
            "x.reshape(-1, 1); if all are one sample, x.reshape(1, -1)."
        )
    if len(x.shape) < 2 or math.prod(x.shape) == 0:
        raise InputError(f"{where} has shape {x.shape}, expected (samples, values, ...), none of them 0.")
    return x


def refuse_unusable_numbers(where: str, x: Samples) -> None:
    """Raise an `InputError` if a number is infinite, too large for float32, or a whole number beyond 2^53."""
    if x.dtype.kind in "iu" and x.dtype.itemsize == 8:
        _refuse(
            where,
            x,
            _is_inexact,
            "a whole number beyond 2^53, which floating point does not hold exactly (an id, a hash, or a time stamp in "
            "nanoseconds? Leave it out, or subtract its minimum)",
        )
    if x.dtype.kind == "f":
        _refuse(where, x, _is_too_large, "infinity or a number too large for float32")


def _is_too_large(block: NDArray[Any]) -> NDArray[np.bool_]:
    if block.dtype.itemsize <= 4:
        return np.isinf(block)
    return np.abs(block) > FLOAT32_MAX  # type: ignore[no-any-return]


def _is_inexact(block: NDArray[Any]) -> NDArray[np.bool_]:
    return (block > EXACT) | (block < -EXACT) if block.dtype.kind == "i" else block > EXACT


def _refuse(where: str, x: Samples, wrong: Callable[[NDArray[Any]], NDArray[np.bool_]], what: str) -> None:
    start = 0
    for block in blocks(x):
        bad = wrong(block)
        if bad.any():
            row, *place = (int(index) for index in np.argwhere(bad)[0])
            raise InputError(f"{where} holds {what}, first in row {start + row} (from 0), {place_name(tuple(place))}.")
        start += len(block)
