"""Facts about arrays that need no reading: their headers alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.layout import channels_come_first, moved_shape
from rcdp_hpc.errors import InputError


@dataclass(frozen=True)
class Peek:
    """The form of a source's training samples.

    Attributes
    ----------
    samples : int
        How many.
    shape : tuple of int
        Of one sample, as the source hands it over: channels last.
    dtype : numpy.dtype
        Number format.
    has_lengths : bool
        Whether an array of lengths is next to the samples. NaN padding does not show in a header.
    """

    samples: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    has_lengths: bool = False


def peek_at(where: str, shape: tuple[int, ...], dtype: np.dtype[Any], has_lengths: bool, data: DataSection) -> Peek:
    """Return the form of an array of samples, with the channels moved as the reader moves them."""
    if len(shape) < 2:
        raise InputError(f"{where}: samples have shape {shape}, expected (samples, values, ...).")
    if channels_come_first(shape, data.image_layout, where, Findings()):
        shape = moved_shape(shape)
    elif len(shape) == 2 and (has_lengths or data.kind == "series"):
        shape = (*shape, 1)
    return Peek(shape[0], shape[1:], dtype, has_lengths)
