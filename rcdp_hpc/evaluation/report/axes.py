"""Scales of a chart: from values to places in a picture, with ticks at round values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic scale.

    Attributes
    ----------
    low, high : float
        Limits of the values.
    start, end : float
        Places of the limits in the picture.
    log : bool
        Whether the scale is logarithmic; `low` is then positive.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value; values outside the limits are drawn at the limit."""
        low, high, at = (math.log10(max(one, self.low)) if self.log else one for one in (self.low, self.high, value))
        share = (at - low) / (high - low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Return values and texts of about five ticks."""
        values = _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high)
        return [(value, tick_text(value)) for value in values]


def scale_of(
    values: Iterable[float], start: float, end: float, log: bool = False, zero: bool = False, whole: bool = False
) -> Scale:
    """Return a scale that shows all values.

    Parameters
    ----------
    values : iterable of float
        Those that are not finite are left out.
    start, end : float
        Places of the lowest and the highest value.
    log : bool
        Use a logarithmic scale, if all values are positive.
    zero : bool
        Begin at 0.
    whole : bool
        The values are integers, which begin and end the scale.
    """
    finite = [float(value) for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    if log and low > 0:
        return Scale(low, high, start, end, True) if high > low else Scale(low / 2, high * 2, start, end, True)
    low = min(low, 0.0) if zero else low
    if high == low:
        wider = 1.0 if whole or high == 0 else abs(high) / 10
        low, high = (low if zero else low - wider), high + wider
    elif not whole:
        margin = (high - low) / 20
        low, high = (low if zero else low - margin), high + margin
    return Scale(low, high, start, end)


def _linear_ticks(low: float, high: float) -> list[float]:
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 5)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    for factors in ((1,), (1, 3), (1, 2, 5)):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [factor * 10.0**power for power in powers for factor in factors]
        inside = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / 6)]
    return inside if len(inside) >= 2 else _linear_ticks(low, high)


def tick_text(value: float) -> str:
    """Return a value in few characters: 20k for 20,000."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):g}{letter}"
    return f"{value:.6g}"


def thinned(count: int, most: int) -> Sequence[int]:
    """Return at most `most` of the indices 0 to count - 1, evenly spread, the last one included."""
    if count <= most:
        return range(count)
    return sorted({round(place * (count - 1) / (most - 1)) for place in range(most)})
