"""Filters of orthogonal wavelets, and the shape of the packets of a sample. This module needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rcdp_hpc.config import ExtractorSection
from rcdp_hpc.errors import InputError

# Low-pass filters h_0 .. h_(F-1) of Daubechies' orthogonal wavelets with extremal phase: "haar" has 1 vanishing moment,
# "db2" has 2 and "db4" has 4 (Daubechies, "Ten lectures on wavelets", 1992, table 6.1, to full double precision).
FILTERS: dict[str, tuple[float, ...]] = {
    "haar": (math.sqrt(0.5), math.sqrt(0.5)),
    "db2": tuple(
        number / (4 * math.sqrt(2))
        for number in (1 + math.sqrt(3), 3 + math.sqrt(3), 3 - math.sqrt(3), 1 - math.sqrt(3))
    ),
    "db4": (
        0.23037781330889650086,
        0.71484657055291564709,
        0.63088076792985890788,
        -0.02798376941685985421,
        -0.18703481171909308408,
        0.03084138183556076363,
        0.03288301166688519974,
        -0.01059740178506903210,
    ),
}


def filters_of(wavelet: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the low-pass filter h and the high-pass filter g of a wavelet, ``g_m = (-1)^m h_(F-1-m)``."""
    low = FILTERS[wavelet]
    return low, tuple((-1) ** m * tap for m, tap in enumerate(reversed(low)))


@dataclass(frozen=True)
class PacketShape:
    """How a sample is cut into lines that are transformed, and the shape of their packets.

    Attributes
    ----------
    lines : int
        Lines earlier than the transformed axis in the order of a sample's values: the rows of an image, otherwise 1.
    length : int
        Values of a line.
    inner : int
        Lines later than the transformed axis in that order: the channels of a pixel, or the features of a step.
    extended : int
        Values of a line after its extension to a multiple of 2^levels.
    bands : int
        2^levels.
    """

    lines: int
    length: int
    inner: int
    extended: int
    bands: int

    @classmethod
    def of(cls, settings: ExtractorSection, sample_shape: Sequence[int]) -> PacketShape:
        """Return the shape for samples of this shape, ``(lines, length, inner)`` in the order of their values.

        Parameters
        ----------
        settings : ExtractorSection
            Uses wavelet, levels and axis.
        sample_shape : sequence of int
            (length,), (steps, features), (height, width) or (height, width, channels).

        Raises
        ------
        InputError
            If the samples have another number of axes, or lines are shorter than the filter or than 2^levels.
        """
        shape = tuple(int(length) for length in sample_shape)
        if not 1 <= len(shape) <= 3 or min(shape) < 1:
            raise InputError(
                f"extractor.kind = 'wavelet_packets' reads samples of shape (features,), (steps, features), "
                f"(height, width) or (height, width, channels), but these have the shape {shape}: reshape the source, "
                "or set another extractor.kind"
            )
        axis = 0 if len(shape) == 1 or settings.axis == "steps" else 1
        bands = 2**settings.levels
        _check_length(settings, shape, axis)
        extended = math.ceil(shape[axis] / bands) * bands
        return cls(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]), extended, bands)

    @property
    def added(self) -> int:
        """Values that a line is extended by."""
        return self.extended - self.length

    @property
    def band_features(self) -> int:
        """Features of a sample in one band."""
        return self.lines * self.inner * self.extended // self.bands


def _check_length(settings: ExtractorSection, shape: tuple[int, ...], axis: int) -> None:
    """Raise an `InputError` if a line is shorter than the filter or than 2^levels."""
    length, taps, bands = shape[axis], len(FILTERS[settings.wavelet]), 2**settings.levels
    if length >= max(taps, bands):
        return
    if length == 1:
        problem = "there are no wavelets of 1 value"
    elif length < taps:
        problem = f"extractor.wavelet = '{settings.wavelet}' has {taps} taps"
    else:
        problem = f"extractor.levels = {settings.levels} needs at least {bands} (2^levels)"
    raise InputError(
        f"extractor.kind = 'wavelet_packets' transforms lines of {length} {_plural('value', length)} of samples of "
        f"shape {shape} (extractor.axis = '{settings.axis}'), but {problem}: {_remedy(settings, shape, axis)}"
    )


def _remedy(settings: ExtractorSection, shape: tuple[int, ...], axis: int) -> str:
    length = shape[axis]
    ways = []
    if length >= 2:
        fitting = [name for name, taps in FILTERS.items() if len(taps) <= length]
        if settings.wavelet not in fitting:
            ways.append(f"extractor.wavelet = '{fitting[-1]}'")
        if 2**settings.levels > length:
            ways.append(f"extractor.levels = {int(math.log2(length))} or less")
    remedies = ["set " + " and ".join(ways)] if ways else []
    other = 1 - axis
    if len(shape) > 1 and shape[other] >= max(len(FILTERS[settings.wavelet]), 2**settings.levels):
        remedies.append(f"set extractor.axis = '{'steps' if other == 0 else 'rows'}'")
    return ", or ".join([*remedies, "choose another extractor.kind"])


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"
