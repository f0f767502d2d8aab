"""Shifted copies of training images, as additional rows for a readout that is solved.

A fixed reservoir reads an image line by line, so that a shift by one pixel gives other states. From copies with the
same class, the readout learns to ignore shifts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import InputError

Shift = tuple[int, int]
UNSHIFTED: Shift = (0, 0)


def shifts_within(most: int) -> list[Shift]:
    """Return the shifts (down, across) with abs(down) + abs(across) <= `most`, in pixels; (0, 0) is the first.

    There are 5 for 1 pixel and 13 for 2 pixels.
    """
    span = range(-most, most + 1)
    shifts = [(down, across) for down in span for across in span if abs(down) + abs(across) <= most]
    return sorted(shifts, key=lambda shift: (abs(shift[0]) + abs(shift[1]), shift))


def shifted(images: NDArray[np.float32], shift: Shift) -> NDArray[np.float32]:
    """Return images moved down and across; the pixels of the edge are repeated.

    Parameters
    ----------
    images : ndarray, shape (rows, height, width, ...)
    shift : (down, across)
        In pixels; either may be negative.
    """
    if shift == UNSHIFTED:
        return images
    down, across = (np.arange(length) - by for length, by in zip(images.shape[1:3], shift, strict=True))
    moved = images.take(down.clip(0, len(down) - 1), axis=1)
    return moved.take(across.clip(0, len(across) - 1), axis=2)


def check_shifts(most: int, sample_shape: Sequence[int], shortest: int | None) -> None:
    """Raise an `InputError` if samples are not images, or too small for the shifts.

    Parameters
    ----------
    most : int
        ``augment.shifts``.
    sample_shape : sequence of int
    shortest : int or None
        Steps of the shortest sample; None if all have the same length.
    """
    if most and (len(sample_shape) < 2 or shortest is not None or most >= min(sample_shape[:2])):
        form = f"the shape {tuple(sample_shape)}" + ("" if shortest is None else " and different lengths")
        raise InputError(
            f"augment.shifts = {most} moves images, but the samples have {form}: set it to 0"
            + (", or to less than height and width" if len(sample_shape) > 1 and shortest is None else "")
        )
