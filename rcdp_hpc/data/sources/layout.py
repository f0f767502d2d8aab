"""Find the axis of images in arrays that holds the channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.sources.base import Samples
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.errors import InputError

# Grey, grey with alpha, colour, colour with alpha.
CHANNELS = (1, 2, 3, 4)


class MovedRows:
    """Images with channels first, returned with channels last.

    Parameters
    ----------
    images : Samples, shape (N, channels, height, width)
    """

    def __init__(self, images: Samples) -> None:
        self._images = images
        self.shape: tuple[int, ...] = moved_shape(images.shape)
        self.dtype: np.dtype[Any] = images.dtype

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        return np.ascontiguousarray(np.moveaxis(self._images[rows], 1, -1))


def channels_last(x: Samples) -> Samples:
    """Return images of shape (N, channels, height, width) as (N, height, width, channels)."""
    return np.moveaxis(x, 1, -1) if isinstance(x, np.ndarray) else MovedRows(x)


def moved_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape (N, channels, height, width) with the channels last."""
    return (shape[0], *shape[2:], shape[1])


def channels_come_first(shape: tuple[int, ...], setting: str, where: str, findings: Findings) -> bool:
    """Return whether the channels of images come before height and width.

    Parameters
    ----------
    shape : tuple of int
        Shape of all samples, (N, ...).
    setting : {"auto", "channels_last", "channels_first"}
        ``data.image_layout``.
    where : str
        File and key, for messages.
    findings : Findings
        Receives the decision, if `setting` is "auto".

    Raises
    ------
    InputError
        If `setting` is "channels_first" and samples do not have three axes.
    """
    sample = shape[1:]
    if setting == "channels_first" and len(sample) != 3:
        raise InputError(
            f"{where}: samples of shape {sample} have no axis of channels: data.image_layout = 'channels_first' needs "
            "(samples, channels, height, width)."
        )
    if setting != "auto" or len(sample) != 3:
        return setting == "channels_first"
    first, middle, last = sample
    if first in CHANNELS and last not in CHANNELS:
        findings.assumed.append(
            f"{where}: channels come first, {sample}: images of {middle}x{last} with {first} channels (otherwise set "
            "data.image_layout = 'channels_last')"
        )
        return True
    if first in CHANNELS or (last not in CHANNELS and middle == last != first):
        findings.warnings.append(
            f"{where}: samples of shape {sample} are read as images of {first}x{middle} with {last} channels. If "
            f"channels come first (images of {middle}x{last} with {first} channels), set data.image_layout = "
            "'channels_first'."
        )
    return False
