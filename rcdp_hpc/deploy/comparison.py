"""New samples against the ranges of the training values: statistics, and the rules that call them another scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.ranges import FeatureRanges, Moments, value_rows
from rcdp_hpc.data.sources import NewSamples, Samples

FloatArray = NDArray[np.float64]

# What is looked at before anything is written: evenly spaced parts of the file.
PARTS = 16
MOST_SAMPLES = 1024
LEAST_SAMPLES = 16
MOST_VALUES = 2**23
# A change of scale that counts, and how many standard deviations of log(abs(value)) it must exceed.
FACTOR = 20.0
LOG_DEVIATIONS = 3.0
# With fewer samples than these, one odd sample could decide.
FEW_SAMPLES = 10
FEW_VALUES = 4
FEW_SERIES = 3


@dataclass(frozen=True)
class Expected:
    """What a model knows of its training values.

    Attributes
    ----------
    ranges : FeatureRanges
        Of the training values, scaled and not standardised.
    scale : float
        Value = raw number * scale.
    names : sequence of str
        Names of the features, if they have any.
    categories : sequence of str
        Names of those that hold the numbers of categories, which have no scale.
    by_name : bool
        Whether the features of new samples are found by their names, so that their order cannot be wrong.
    """

    ranges: FeatureRanges
    scale: float = 1.0
    names: Sequence[str] = ()
    categories: Sequence[str] = ()
    by_name: bool = False

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Features that have a scale: neither constant in training nor categories, shape (F,)."""
        categories = np.array([name in self.categories for name in self.names], bool)
        return ~self.ranges.constant & ~categories if len(categories) == len(self.ranges) else ~self.ranges.constant

    def name(self, feature: int) -> str:
        """Return how a message calls a feature."""
        if len(self.names) == len(self.ranges):
            return f"column {self.names[feature]}"
        return f"{'channel' if self.ranges.kind == 'images' else 'feature'} {feature}"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Statistics of some new samples, next to those of training.

    Attributes
    ----------
    expected : Expected
    samples : int
        How many were looked at.
    new : FeatureRanges
        Of these samples.
    outside, beyond, far : ndarray of float64, shape (F,)
        Share of each feature's values that are outside the training's minimum and maximum; beyond these by more than
        a quarter of the training's span; and by more than the whole span.
    """

    expected: Expected
    samples: int
    new: FeatureRanges
    outside: FloatArray
    beyond: FloatArray
    far: FloatArray

    @property
    def shift(self) -> FloatArray:
        """Mean of log(abs(value)) less that of training, shape (F,)."""
        return self.new.log_magnitude - self.expected.ranges.log_magnitude

    @property
    def comparable(self) -> NDArray[np.bool_]:
        """Features whose magnitudes can be compared: those that are not all zeros on either side, shape (F,)."""
        return self.expected.measured & (_magnitude(self.new) > 0)

    def smaller(self) -> float:
        """Return the share of features whose values are smaller by a factor of `FACTOR` or more."""
        training, new = _magnitude(self.expected.ranges), _magnitude(self.new)
        return self._share((self.shift < -self._unlikely()) & (new * FACTOR < training))

    def larger(self) -> float:
        """Return the share of features whose values are larger by a factor of `FACTOR` or more."""
        training, new = _magnitude(self.expected.ranges), _magnitude(self.new)
        return self._share((self.shift > self._unlikely()) & (new > 2 * training))

    def majority(self, share: FloatArray) -> NDArray[np.bool_]:
        """Return the features of which at least half of the values are in a share, shape (F,)."""
        return (share >= 0.5) & self.expected.measured

    @property
    def values(self) -> int:
        """How many values other than NaN the comparable features have."""
        return int(self.new.values[self.comparable].sum())

    def _unlikely(self) -> FloatArray:
        return np.maximum(np.log(FACTOR), LOG_DEVIATIONS * self.expected.ranges.log_deviation)

    def _share(self, features: NDArray[np.bool_]) -> float:
        comparable = self.comparable
        return float(features[comparable].mean()) if comparable.any() else 0.0


def compare(new: NewSamples, expected: Expected) -> Comparison:
    """Compare evenly spaced new samples with the training values.

    Parameters
    ----------
    new : NewSamples
        Raw samples.
    expected : Expected
    """
    ranges = expected.ranges
    features = len(ranges)
    plain = logs = Moments.empty(features)
    counts, samples = np.zeros((3, features)), 0
    for part in _parts(new.x):
        x = np.asarray(new.x[part])
        lengths = None if new.lengths is None else new.lengths[part]
        samples += len(x)
        for rows in value_rows(x, lengths, features):
            values = rows * expected.scale
            plain = plain.merged(Moments.of(values))
            logs = logs.merged(Moments.of_log_magnitudes(values))
            counts += [_outside(values, ranges, share).sum(0) for share in (0.0, 0.25, 1.0)]
    shares = counts / np.maximum(plain.count, 1)
    return Comparison(expected, samples, FeatureRanges.of_moments(plain, logs, ranges.kind, str(new.x.dtype)), *shares)


def is_other_scale(found: Comparison) -> bool:
    """Tell whether new samples are on another scale than the training data, beyond what single samples could be."""
    measured = int(found.expected.measured.sum())
    if not measured or not found.samples:
        return False
    enough = found.values >= FEW_VALUES and (found.expected.ranges.kind != "series" or found.samples >= FEW_SERIES)
    if enough and max(found.smaller(), found.larger()) >= 0.8:
        return True
    if found.expected.ranges.dtype == found.new.dtype == "uint8":
        # Bytes are bytes: dark or bright images are not on another scale.
        return False
    shares = [int(found.majority(share).sum()) for share in (found.outside, found.beyond, found.far)]
    outside, beyond, far = (count / measured for count in shares)
    if found.samples >= FEW_SAMPLES:
        return outside >= 0.5 or beyond >= 0.25 or far >= 0.2
    if measured == 1:
        return far == 1
    return (far >= 0.2 and shares[2] >= 2) or (outside >= 0.6 and measured >= FEW_VALUES)


def far_values(x: NDArray[np.float64], ranges: FeatureRanges) -> NDArray[np.bool_]:
    """Tell which values are beyond the training's minimum or maximum by more than its span.

    Parameters
    ----------
    x : ndarray of float64, shape (rows, F)
        Scaled values.
    ranges : FeatureRanges
    """
    return _outside(x, ranges, 1.0)


def _outside(x: FloatArray, ranges: FeatureRanges, share: float) -> NDArray[np.bool_]:
    # A feature that is constant in training is not divided by its deviation: 20 is far in any case.
    span = np.where(ranges.constant, FACTOR * np.maximum(1.0, np.abs(ranges.maximum)), share * ranges.span)
    # Rounding to another number format does not take a value out of the range.
    span = span + 1e-6 * np.maximum(np.abs(ranges.minimum), np.abs(ranges.maximum))
    return (x < ranges.minimum - span) | (x > ranges.maximum + span)


def _parts(x: Samples) -> list[slice]:
    """Return slices of samples that are looked at, evenly spaced."""
    total = x.shape[0]
    each = max(1, int(np.prod(x.shape[1:], dtype=np.int64)))
    most = min(MOST_SAMPLES, max(LEAST_SAMPLES, MOST_VALUES // each))
    if total <= most:
        return [slice(0, total)]
    size = max(1, most // PARTS)
    return [slice(start, start + size) for start in np.linspace(0, total - size, PARTS).astype(int).tolist()]


def _magnitude(ranges: FeatureRanges) -> FloatArray:
    return np.maximum(np.abs(ranges.minimum), np.abs(ranges.maximum))
