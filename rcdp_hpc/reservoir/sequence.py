"""How a sample becomes the sequence u_1 .. u_T that drives the reservoir (eq. 9).

======================  ===================  ===================  ========================
sample shape            ``"rows"``           ``"columns"``        ``"both"``
======================  ===================  ===================  ========================
(F,) table row          1 step of F          1 step of F          1 step of F
(T, D) time series      T steps of D         D steps of T         T steps of 2·D, T = D
(H, W) image            H steps of W         W steps of H         H steps of W + H, H = W
(H, W, C) image         H steps of W·C       W steps of H·C       H steps of (W + H)·C, H = W
======================  ===================  ===================  ========================

The channels of a pixel stay together. ``"both"`` feeds row t and column t in step t.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from rcdp_hpc.errors import InputError

Order = Literal["rows", "columns", "both"]
ArrayT = TypeVar("ArrayT", bound=Any)


def sequence_shape(sample_shape: Sequence[int], sequence: Order) -> tuple[int, int]:
    """Return the steps and the features per step that a sample of this shape turns into.

    Parameters
    ----------
    sample_shape : sequence of int
        Shape of one sample, without the axis of samples.
    sequence : {"rows", "columns", "both"}
        The setting ``reservoir.sequence``.

    Returns
    -------
    steps, features : int

    Raises
    ------
    InputError
        If the sample has no axis, more than three, an empty one, or is not square under ``"both"``.
    """
    shape = tuple(int(length) for length in sample_shape)
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise InputError(
            f"samples of shape {shape} cannot drive the reservoir: expected (features,), (steps, features), "
            "(height, width) or (height, width, channels), none of them 0; reshape the source"
        )
    if len(shape) == 1:
        return 1, shape[0]
    height, width, channels = (*shape, 1)[:3]
    if sequence == "rows":
        return height, width * channels
    if sequence == "columns":
        return width, height * channels
    if height != width:
        raise InputError(
            f"reservoir.sequence = 'both' needs samples as high as wide, these are {height} x {width}: "
            "take 'rows' or 'columns'"
        )
    return height, (width + height) * channels


def as_sequences(x: ArrayT, sequence: Order) -> ArrayT:
    """Turn samples into sequences, without a copy where the order of the values allows it.

    Parameters
    ----------
    x : numpy.ndarray or torch.Tensor, shape (N, ...)
        Samples, in one of the shapes of the module's table.
    sequence : {"rows", "columns", "both"}
        The setting ``reservoir.sequence``.

    Returns
    -------
    numpy.ndarray or torch.Tensor, shape (N, steps, features)
        Of the same kind and dtype as `x`.

    Raises
    ------
    InputError
        As `sequence_shape`.
    """
    count = x.shape[0]
    steps, features = sequence_shape(x.shape[1:], sequence)
    if sequence == "rows" or x.ndim == 2:
        return x.reshape(count, steps, features)
    columns = x.swapaxes(1, 2)
    if sequence == "columns":
        return columns.reshape(count, steps, features)
    half = (count, steps, features // 2)
    return _join(x.reshape(half), columns.reshape(half))


def _join(first: ArrayT, second: ArrayT) -> ArrayT:
    """Concatenate on the last axis; torch is looked up only when a tensor is at hand."""
    if isinstance(first, np.ndarray):
        return np.concatenate((first, second), axis=-1)  # type: ignore[return-value]
    import torch

    return torch.cat((first, second), dim=-1)  # type: ignore[return-value]
