"""Statistics of new samples next to those of the training, and the rules that detect another scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.ranges import FeatureRanges, Moments, value_rows
from rcdp_hpc.data.sources import NewSamples, Samples

FloatArray = NDArray[np.float64]

# Samples that are compared before anything is written: evenly spaced parts of the file.
PARTS = 16
MOST_SAMPLES = 1024
LEAST_SAMPLES = 16
MOST_VALUES = 2**23
# A change of scale counts from this factor, if it also exceeds this many standard deviations of log(abs(value)).
FACTOR = 20.0
LOG_DEVIATIONS = 3.0
# With fewer samples, values or series, a single unusual sample could decide.
FEW_SAMPLES = 10
FEW_VALUES = 4
FEW_SERIES = 3


@dataclass(frozen=True)
class Expected:
    """The training values of a model, for comparison.

    Attributes
    ----------
    ranges : FeatureRanges
        Statistics of the training values, scaled and not standardised.
    scale : float
        Value = raw number * scale.
    names : sequence of str
        Names of the features, if they have any.
    categories : sequence of str
        Names of the features that hold category numbers, which have no scale.
    by_name : bool
        Whether the features of new samples are found by name, so that their order cannot be wrong.
    """

    ranges: FeatureRanges
    scale: float = 1.0
    names: Sequence[str] = ()
    categories: Sequence[str] = ()
    by_name: bool = False

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Whether each feature has a scale: it is neither constant in training nor a category, shape (F,)."""
        categories = np.array([name in self.categories for name in self.names], bool)
        return ~self.ranges.constant & ~categories if len(categories) == len(self.ranges) else ~self.ranges.constant

    def name(self, feature: int) -> str:
        """Return the name of a feature for messages."""
        if len(self.names) == len(self.ranges):
            return f"column {self.names[feature]}"
        return f"{'channel' if self.ranges.kind == 'images' else 'feature'} {feature}"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Statistics of some new samples, next to those of the training.

    Attributes
    ----------
    expected : Expected
    samples : int
        Number of new samples compared.
    new : FeatureRanges
        Statistics of these samples.
    outside, beyond, far : ndarray of float64, shape (F,)
        Share of each feature's values outside the minimum and maximum of the training; beyond them by more than a
        quarter of the training's span (maximum - minimum); beyond them by more than the span.
    """

    expected: Expected
    samples: int
    new: FeatureRanges
    outside: FloatArray
    beyond: FloatArray
    far: FloatArray

    @property
    def shift(self) -> FloatArray:
        """Mean of log(abs(value)) minus the mean of the training, shape (F,)."""
        return self.new.log_magnitude - self.expected.ranges.log_magnitude

    @property
    def comparable(self) -> NDArray[np.bool_]:
        """Whether the magnitudes of each feature can be compared: neither side is all zeros, shape (F,)."""
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
        """Return whether at least half of the values of each feature count in `share`, shape (F,)."""
        return (share >= 0.5) & self.expected.measured

    @property
    def values(self) -> int:
        """Number of values other than NaN in the comparable features."""
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


def is_other_scale(comparison: Comparison) -> bool:
    """Return whether new samples are on another scale than the training data; single outliers do not count."""
    measured = int(comparison.expected.measured.sum())
    if not measured or not comparison.samples:
        return False
    least = FEW_SERIES if comparison.expected.ranges.kind == "series" else 1
    enough = comparison.values >= FEW_VALUES and comparison.samples >= least
    if enough and max(comparison.smaller(), comparison.larger()) >= 0.8:
        return True
    if comparison.expected.ranges.dtype == comparison.new.dtype == "uint8":
        # Dark or bright images of bytes are not on another scale.
        return False
    shares = [
        int(comparison.majority(share).sum()) for share in (comparison.outside, comparison.beyond, comparison.far)
    ]
    outside, beyond, far = (count / measured for count in shares)
    if comparison.samples >= FEW_SAMPLES:
        return outside >= 0.5 or beyond >= 0.25 or far >= 0.2
    if measured == 1:
        return far == 1
    return (far >= 0.2 and shares[2] >= 2) or (outside >= 0.6 and measured >= FEW_VALUES)


def far_values(x: NDArray[np.float64], ranges: FeatureRanges) -> NDArray[np.bool_]:
    """Return whether each value is beyond the minimum or maximum of the training by more than its span.

    Parameters
    ----------
    x : ndarray of float64, shape (rows, F)
        Scaled values.
    ranges : FeatureRanges

    Returns
    -------
    ndarray of bool, shape (rows, F)
    """
    return _outside(x, ranges, 1.0)


def _outside(x: FloatArray, ranges: FeatureRanges, share: float) -> NDArray[np.bool_]:
    # A feature that is constant in training has no span: it counts as far from FACTOR times its value.
    span = np.where(ranges.constant, FACTOR * np.maximum(1.0, np.abs(ranges.maximum)), share * ranges.span)
    # Rounding to another number format does not move a value out of the range.
    span = span + 1e-6 * np.maximum(np.abs(ranges.minimum), np.abs(ranges.maximum))
    return (x < ranges.minimum - span) | (x > ranges.maximum + span)


def _parts(x: Samples) -> list[slice]:
    """Return evenly spaced slices of the samples to compare."""
    total = x.shape[0]
    each = max(1, int(np.prod(x.shape[1:], dtype=np.int64)))
    most = min(MOST_SAMPLES, max(LEAST_SAMPLES, MOST_VALUES // each))
    if total <= most:
        return [slice(0, total)]
    size = max(1, most // PARTS)
    return [slice(start, start + size) for start in np.linspace(0, total - size, PARTS).astype(int).tolist()]


def _magnitude(ranges: FeatureRanges) -> FloatArray:
    return np.maximum(np.abs(ranges.minimum), np.abs(ranges.maximum))
