"""How the tensors of a small model are stored: fewer bits for a value, and no zeros. Needs NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Bits = Literal[32, 16, 8]
# Largest absolute code: the range is symmetric, and -128 is not used.
LARGEST_CODE = 127


@dataclass(frozen=True, eq=False)
class Quantized:
    """A tensor in 8-bit integers with a scale for each channel: value = code * scale.

    Attributes
    ----------
    codes : ndarray of int8, any shape
        From -127 to 127. Code 0 is exactly the value 0.
    scale : ndarray of float32, shape (channels,)
        Positive and finite; `channels` is the length of the axis `axis`, or 1 for one scale of the whole tensor.
    axis : int
        The axis of `codes` that the channels are counted along, not negative.

    Raises
    ------
    ValueError
        If codes and scales do not fit each other.
    """

    codes: NDArray[np.int8]
    scale: NDArray[np.float32]
    axis: int = 0

    def __post_init__(self) -> None:
        codes, scale = self.codes, self.scale
        if codes.dtype != np.int8 or scale.dtype != np.float32 or scale.ndim != 1:
            raise ValueError(f"expected int8 codes and a list of float32 scales, got {codes.dtype} and {scale.dtype}")
        if not 0 <= self.axis < max(codes.ndim, 1):
            raise ValueError(f"axis {self.axis} of a tensor with {codes.ndim} axes")
        if len(scale) not in (1, *codes.shape[self.axis : self.axis + 1]):
            raise ValueError(f"{len(scale)} scales for axis {self.axis} of a tensor of the shape {codes.shape}")
        if codes.size and codes.min() < -LARGEST_CODE:
            raise ValueError(f"code {codes.min()} is below -{LARGEST_CODE}")
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError("a scale is not positive and finite")

    @classmethod
    def of(cls, values: NDArray[Any], axis: int = 0) -> Quantized:
        """Return the nearest quantised tensor of finite values.

        The scale of a channel is its largest absolute value / 127, and 1 for a channel of zeros. The rounding error of
        a value is at most half the scale of its channel (Krishnamoorthi, "Quantizing deep convolutional networks for
        efficient inference", arXiv:1806.08342, section 2.2).

        Parameters
        ----------
        values : ndarray, any shape
        axis : int
            The axis of the channels.
        """
        values = np.asarray(values, np.float32)
        others = tuple(number for number in range(values.ndim) if number != axis)
        largest = np.abs(values).max(axis=others, initial=0).reshape(-1).astype(np.float64)
        scale = (largest / LARGEST_CODE).astype(np.float32)
        scale[scale == 0] = 1  # also for values below the smallest float32 that has a 127th part
        codes = np.rint(values / _along(scale, axis, values.ndim))
        return cls(np.clip(codes, -LARGEST_CODE, LARGEST_CODE).astype(np.int8), scale, axis)

    def dense(self) -> NDArray[np.float32]:
        """Return the values, float32, in the shape of the codes."""
        return self.codes.astype(np.float32) * _along(self.scale, self.axis, self.codes.ndim)


@dataclass(frozen=True)
class Packing:
    """How the tensors of a model file are stored.

    Attributes
    ----------
    bits : {32, 16, 8}
        Bits of a weight. With 16, values are rounded to float16. With 8, matrices are rounded to `Quantized` along
        their first axis, and vectors (biases, normalisations) keep 32.
    sparse : bool
        Store positions and values of the non-zero values of a tensor if that takes fewer bytes.
    """

    bits: Bits = 32
    sparse: bool = True

    def __post_init__(self) -> None:
        if self.bits not in get_args(Bits):
            raise ValueError(f"bits = {self.bits} is not one of {', '.join(map(str, get_args(Bits)))}")


def _along(scale: NDArray[np.float32], axis: int, axes: int) -> NDArray[np.float32]:
    """Return scales in a shape that is broadcast along `axis` of a tensor with this number of axes."""
    return scale.reshape([-1 if number == axis else 1 for number in range(axes)])
