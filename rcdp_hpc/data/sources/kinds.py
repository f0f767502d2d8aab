"""Determine the kind of data of a source: a table, series or images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rcdp_hpc.data.sources.base import Source
from rcdp_hpc.errors import InputError

# Numbers of axes that samples of each kind can have.
AXES = {"table": (1,), "series": (2,), "images": (2, 3)}


def kind_of(source: Source, setting: str) -> str:
    """Return the kind of data of a source: by ``data.kind``, by its reader, or by the shape of its samples.

    Parameters
    ----------
    source : Source
    setting : str
        ``data.kind``.

    Returns
    -------
    {"table", "series", "images"}

    Raises
    ------
    InputError
        If ``data.kind`` does not match the shape of the samples.
    """
    if setting == "auto":
        return source.kind or kind_of_array(source.sample_shape, source.dtype, source.has_lengths)
    if len(source.sample_shape) not in AXES[setting]:
        expected = " or ".join(str(axes) for axes in AXES[setting])
        raise InputError(
            f"data.kind = '{setting}' needs samples of {expected} axes, these have shape {source.sample_shape}: set "
            "data.kind = 'auto', use the profile of their kind (table, series or image), or reshape the samples."
        )
    return setting


def kind_of_array(sample_shape: Sequence[int], dtype: np.dtype[Any], lengths: bool) -> str:
    """Return the kind for the shape of a sample.

    One axis is a table, two axes are series, three axes are images. Bytes with two axes and without lengths are grey
    images.
    """
    if len(sample_shape) == 1:
        return "table"
    if len(sample_shape) == 2 and (lengths or dtype != np.uint8):
        return "series"
    return "images"
