"""Cutting a sample into the sequence u_1 .. u_T that drives the reservoir (eq. 9).

==========  ==================  ==============================  =================================
``order``   (F,) table, series  (H, W) image, (T, D) series     (H, W, C) image
==========  ==================  ==============================  =================================
rows        1 step of F         H steps of W                    H steps of W·C
columns     1 step of F         W steps of H                    W steps of H·C
both        1 step of F         H steps of W + H, if H = W      H steps of (W + H)·C, if H = W
patches     refused             P·Q steps of h·w                P·Q steps of h·w·C
windows     P steps of w        P steps of w·D                  P steps of w·W·C
channels    refused             refused                         C steps of H·W
pixels      F steps of 1        H·W steps of 1                  H·W steps of C
==========  ==================  ==============================  =================================

Patches of h x w with strides a, b: P = (H - h) div a + 1, Q = (W - w) div b + 1. Windows of w steps every s steps: P =
(T - w) div s + 1. Patches and pixels are in the order of rows, then columns. So are the values of a patch, with the
channels of a pixel together. Step t of ``both`` is row t followed by column t.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.logs import warn_once

log = logging.getLogger(__name__)

Order = Literal["rows", "columns", "both", "patches", "windows", "channels", "pixels"]
Grid = tuple[int, int, int]
ArrayT = TypeVar("ArrayT", bound=Any)


@dataclass(frozen=True)
class Sequencer:
    """A rule that cuts samples into sequences.

    Attributes
    ----------
    order : str
        A line of the module's table.
    size : tuple of int
        Height and width of a patch, or steps of a window; empty for other orders.
    stride : tuple of int
        Distance between the starts of patches or windows; empty for other orders.
    edge : {"refuse", "drop"}
        Whether to refuse rows, columns or steps after the last whole patch or window, or leave them out.
    """

    order: Order = "rows"
    size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    edge: Literal["refuse", "drop"] = "refuse"

    @classmethod
    def of(cls, settings: ReservoirSection) -> Sequencer:
        """Return the rule of the section ``[reservoir]``."""
        size = tuple(settings.piece_size)
        return cls(settings.sequence, size, tuple(settings.piece_stride) or size, settings.piece_edge)

    def shape(self, sample_shape: Sequence[int]) -> tuple[int, int]:
        """Return the steps and the features per step of a sample of this shape.

        Parameters
        ----------
        sample_shape : sequence of int
            Shape of one sample, without the axis of samples.

        Raises
        ------
        InputError
            If the sample has no axis, more than three axes or an empty one, or if the order does not fit: it needs more
            axes, ``both`` needs a square image, a patch or window is larger than the sample, or ``edge`` refuses
            what is left over.
        """
        height, width, channels = self._grid(sample_shape)
        if self.order == "rows" or self._in_one_step(sample_shape):
            return height, width * channels
        match self.order:
            case "columns":
                return width, height * channels
            case "both":
                return height, (width + height) * channels
            case "channels":
                return channels, height * width
        (h, a), (w, b) = self._pieces(width)
        down, across = self._count(height, h, a, "rows"), self._count(width, w, b, "columns")
        return down * across, h * w * channels

    def sequences(self, x: ArrayT) -> ArrayT:
        """Return the sequences of samples, without a copy if the order of the values allows it.

        Parameters
        ----------
        x : numpy.ndarray or torch.Tensor, shape (N, ...)
            Samples, in one of the shapes of the module's table.

        Returns
        -------
        numpy.ndarray or torch.Tensor, shape (N, steps, features)
            Array or tensor, as `x`, of the same dtype.

        Raises
        ------
        InputError
            As `shape`.
        """
        result = (x.shape[0], *self.shape(x.shape[1:]))
        if self.order == "rows" or self._in_one_step(x.shape[1:]):
            return x.reshape(result)
        grid = x.reshape(x.shape[0], *self._grid(x.shape[1:]))
        match self.order:
            case "columns":
                return grid.swapaxes(1, 2).reshape(result)
            case "both":
                half = (*result[:2], result[2] // 2)
                return _join(grid.reshape(half), grid.swapaxes(1, 2).reshape(half))
            case "channels":
                return _permuted(grid, (0, 3, 1, 2)).reshape(result)
        (h, a), (w, b) = self._pieces(grid.shape[2])
        patches = _slid(_slid(grid, 1, h, a), 2, w, b)  # (N, P, Q, C, h, w)
        return _permuted(patches, (0, 1, 2, 4, 5, 3)).reshape(result)

    def lengths(self, lengths: ArrayLike) -> NDArray[np.int64]:
        """Return the steps of the sequences of padded samples.

        Parameters
        ----------
        lengths : array of int, shape (N,)
            Entries of each sample's first axis that hold data.

        Returns
        -------
        ndarray of int64, shape (N,)

        Raises
        ------
        InputError
            If the steps of this order do not follow the first axis, a sample is shorter than a window, or ``edge``
            refuses what is left over.
        """
        entries = np.asarray(lengths, dtype=np.int64)
        if self.order == "rows":
            return entries
        if self.order != "windows":
            raise InputError(
                f"reservoir.sequence = '{self.order}' does not follow the steps of sequences of unequal length: set "
                "it to 'rows' or 'windows'"
            )
        size, stride = self.size[0], self.stride[0]
        counts = {int(length): self._count(int(length), size, stride, "rows") for length in np.unique(entries)}
        return np.array([counts[length] for length in entries.tolist()], dtype=np.int64)

    def _grid(self, sample_shape: Sequence[int]) -> Grid:
        """Return height, width and channels of a sample, after a check that the order fits its shape."""
        shape = tuple(int(length) for length in sample_shape)
        if not 1 <= len(shape) <= 3 or min(shape) < 1:
            raise InputError(
                f"samples of shape {shape} cannot drive the reservoir: expected (features,), (steps, features), "
                "(height, width) or (height, width, channels), all above 0; reshape the source"
            )
        axes = {"channels": 3, "patches": 2}.get(self.order, 1)
        if len(shape) < axes:
            expected = "(height, width, channels)" if axes == 3 else "(height, width) or (height, width, channels)"
            other = "'columns' reads each column of a series" if axes == 3 else "'windows' cuts a series"
            raise InputError(
                f"reservoir.sequence = '{self.order}' needs samples of shape {expected}, these are {shape}: {other}"
            )
        if len(shape) == 1:
            return (1, shape[0], 1) if self._in_one_step(shape) else (shape[0], 1, 1)
        height, width, channels = (*shape, 1)[:3]
        if self.order == "both" and height != width:
            raise InputError(
                f"reservoir.sequence = 'both' needs samples as high as wide, these are {height} x {width}: "
                "set it to 'rows' or 'columns'"
            )
        return height, width, channels

    def _in_one_step(self, sample_shape: Sequence[int]) -> bool:
        """Return whether samples are rows of a table, which are one step."""
        return len(sample_shape) == 1 and self.order in ("rows", "columns", "both")

    def _pieces(self, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return (size, stride) of a patch or window along height and width."""
        match self.order:
            case "pixels":
                return (1, 1), (1, 1)
            case "windows":
                return (self.size[0], self.stride[0]), (width, width)
        return (self.size[0], self.stride[0]), (self.size[1], self.stride[1])

    def _count(self, length: int, size: int, stride: int, axis: str) -> int:
        """Return the number of patches or windows along an axis."""
        unit = "steps" if self.order == "windows" else axis
        if size > length:
            raise InputError(
                f"reservoir.piece_size = {list(self.size)}: {size} {unit} are more than the {length} {unit} of a "
                "sample: lower it"
            )
        remainder = (length - size) % stride
        if remainder:
            left_out = f"leaves out {remainder} of the {length} {unit} of a sample"
            settings = f"reservoir.piece_size = {list(self.size)} with reservoir.piece_stride = {list(self.stride)}"
            if self.edge == "refuse":
                fitting = [str(other) for other in range(1, size + 1) if (length - size) % other == 0]
                raise InputError(
                    f"{settings} {left_out}: set a stride of {' or '.join(fitting)}, another size, or "
                    "reservoir.piece_edge = 'drop' to accept this"
                )
            warn_once(log, f"{settings} {unit}", f"{settings} {left_out} (reservoir.piece_edge = 'drop')")
        return (length - size) // stride + 1


def _slid(x: ArrayT, axis: int, size: int, stride: int) -> ArrayT:
    """Return a view of windows along an axis; the values of a window are on a new last axis."""
    if isinstance(x, np.ndarray):
        windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=axis, writeable=x.flags.writeable)
        return windows[(slice(None),) * axis + (slice(None, None, stride),)]  # type: ignore[return-value]
    return x.unfold(axis, size, stride)  # type: ignore[no-any-return]


def _permuted(x: ArrayT, axes: tuple[int, ...]) -> ArrayT:
    return x.transpose(axes) if isinstance(x, np.ndarray) else x.permute(axes)  # type: ignore[return-value, no-any-return]


def _join(first: ArrayT, second: ArrayT) -> ArrayT:
    """Concatenate on the last axis; torch is imported only for tensors."""
    if isinstance(first, np.ndarray):
        return np.concatenate((first, second), axis=-1)  # type: ignore[return-value]
    import torch

    return torch.cat((first, second), dim=-1)  # type: ignore[return-value]
