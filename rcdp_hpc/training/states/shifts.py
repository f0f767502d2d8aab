"""Shifted copies of training images: more rows for a readout that is solved, while the reservoir stays as it is.

A frozen reservoir reads an image line by line, so that one pixel to the side gives other states. Rows that differ in
nothing else tell the readout that the class stays the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import InputError

Shift = tuple[int, int]
UNSHIFTED: Shift = (0, 0)


def shifts_within(most: int) -> list[Shift]:
    """Return the shifts (down, across) with abs(down) + abs(across) <= `most`, in pixels; (0, 0) comes first.

    1 gives 5 of them, 2 gives 13.
    """
    span = range(-most, most + 1)
    found = [(down, across) for down in span for across in span if abs(down) + abs(across) <= most]
    return sorted(found, key=lambda shift: (abs(shift[0]) + abs(shift[1]), shift))


def shifted(images: NDArray[np.float32], shift: Shift) -> NDArray[np.float32]:
    """Return images moved down and across, either of which may be negative; the edge's pixels are repeated behind them.

    Parameters
    ----------
    images : ndarray, shape (rows, height, width, ...)
    shift : (down, across)
        In pixels.
    """
    if shift == UNSHIFTED:
        return images
    down, across = (np.arange(length) - by for length, by in zip(images.shape[1:3], shift, strict=True))
    moved = images.take(down.clip(0, len(down) - 1), axis=1)
    return moved.take(across.clip(0, len(across) - 1), axis=2)


def check_shifts(most: int, sample_shape: Sequence[int], shortest: int | None) -> None:
    """Raise an `InputError` where samples are no images, which cannot be shifted so far, or at all.

    Parameters
    ----------
    most : int
        ``augment.shifts``.
    sample_shape : sequence of int
    shortest : int or None
        Steps of the shortest sample, None where all are of one length.
    """
    if most and (len(sample_shape) < 2 or shortest is not None or most >= min(sample_shape[:2])):
        form = f"the shape {tuple(sample_shape)}" + ("" if shortest is None else " and lengths of their own")
        raise InputError(
            f"augment.shifts = {most} moves images, and the samples have {form}: set it to 0"
            + (", or to less than height and width" if len(sample_shape) > 1 and shortest is None else "")
        )
