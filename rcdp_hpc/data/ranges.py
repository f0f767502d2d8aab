"""Statistics of each feature's raw values: preparation records them, prediction compares new samples with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
# Scaled raw samples, and the steps of each series that hold data.
Block = tuple[NDArray[Any], NDArray[np.int64] | None]


@dataclass(frozen=True, eq=False)
class FeatureRanges:
    """Statistics of the scaled raw values of each feature, before standardisation.

    Padding of series and missing values (NaN) do not count. All statistics of a feature without values are 0.

    Attributes
    ----------
    kind : {"table", "series", "images"}
        Kind of data.
    dtype : str
        Number format of the raw samples, as in "uint8".
    values : ndarray of int64, shape (F,)
        Number of values of each feature; F is `feature_count`.
    minimum, maximum, mean, deviation : ndarray of float64, shape (F,)
        Statistics of these values; `deviation` is the standard deviation.
    log_magnitude, log_deviation : ndarray of float64, shape (F,)
        Mean and standard deviation of ``log(abs(value))`` over the values other than 0. A change of unit shifts the
        mean by the logarithm of its factor, for any distribution of the values.
    """

    kind: str
    dtype: str
    values: NDArray[np.int64]
    minimum: FloatArray
    maximum: FloatArray
    mean: FloatArray
    deviation: FloatArray
    log_magnitude: FloatArray
    log_deviation: FloatArray

    @classmethod
    def of_blocks(
        cls, blocks: Iterable[Block], kind: str, sample_shape: Sequence[int], dtype: str = "float32"
    ) -> FeatureRanges:
        """Return the ranges of samples that arrive in blocks, in one pass.

        Parameters
        ----------
        blocks : iterable of (ndarray, ndarray or None)
            Scaled samples of shape (n, *sample_shape) before standardisation, and the steps of each that hold data, of
            shape (n,); None if no sample is padded. A series may have more steps than `sample_shape`.
        kind : {"table", "series", "images"}
        sample_shape : sequence of int
            Shape of one sample.
        dtype : str
            Number format of the raw samples.
        """
        features = feature_count(kind, sample_shape)
        plain, logs = Moments.empty(features), Moments.empty(features)
        for x, lengths in blocks:
            for rows in value_rows(x, lengths, features):
                plain = plain.merged(Moments.of(rows))
                logs = logs.merged(Moments.of_log_magnitudes(rows))
        return cls.of_moments(plain, logs, kind, dtype)

    @classmethod
    def of_moments(cls, plain: Moments, logs: Moments, kind: str, dtype: str) -> FeatureRanges:
        """Return the ranges for moments of the values (`plain`) and of the logarithms of their magnitudes (`logs`)."""
        held = plain.count > 0
        return cls(
            kind,
            dtype,
            plain.count,
            np.where(held, plain.minimum, 0.0),
            np.where(held, plain.maximum, 0.0),
            plain.mean,
            plain.deviation,
            logs.mean,
            logs.deviation,
        )

    def __len__(self) -> int:
        return len(self.values)

    @property
    def span(self) -> FloatArray:
        """Maximum minus minimum, shape (F,)."""
        return self.maximum - self.minimum

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Whether all values of a feature are equal, shape (F,)."""
        return self.minimum == self.maximum

    def to_json(self) -> dict[str, Any]:
        """Return the content as plain lists, for index.json and model files."""
        arrays = {name: getattr(self, name).tolist() for name in ARRAYS}
        return {"kind": self.kind, "dtype": self.dtype, "features": FEATURES[self.kind], **arrays}

    @classmethod
    def from_json(cls, content: dict[str, Any] | None) -> FeatureRanges | None:
        """Return the ranges that `to_json` wrote; None for None, which files of earlier versions hold."""
        if content is None:
            return None
        arrays: dict[str, Any] = {
            name: np.array(content[name], np.int64 if name == "values" else np.float64) for name in ARRAYS
        }
        return cls(content["kind"], content["dtype"], **arrays)


ARRAYS = ("values", "minimum", "maximum", "mean", "deviation", "log_magnitude", "log_deviation")
FEATURES = {"table": "per column", "series": "per dimension", "images": "per channel"}


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean, sum of squared distances from the mean, minimum and maximum of each feature, shape (F,)."""

    count: NDArray[np.int64]
    mean: FloatArray
    squares: FloatArray
    minimum: FloatArray
    maximum: FloatArray

    @classmethod
    def empty(cls, features: int) -> Moments:
        """Return the moments of an empty set of values."""
        zeros, infinite = np.zeros(features), np.full(features, np.inf)
        return cls(np.zeros(features, np.int64), zeros, zeros, infinite, -infinite)

    @classmethod
    def of(cls, rows: FloatArray) -> Moments:
        """Return the moments of the columns of a matrix without its NaN."""
        held = ~np.isnan(rows)
        everything = held.all()
        count = held.sum(0)
        divisor = np.maximum(count, 1)
        mean = (rows if everything else np.where(held, rows, 0.0)).sum(0) / divisor
        distance = rows - mean
        if not everything:
            distance = np.where(held, distance, 0.0)
        with np.errstate(over="ignore"):
            squares = np.square(distance).sum(0)
        minimum = rows.min(0, initial=np.inf) if everything else np.where(held, rows, np.inf).min(0, initial=np.inf)
        maximum = rows.max(0, initial=-np.inf) if everything else np.where(held, rows, -np.inf).max(0, initial=-np.inf)
        return cls(count.astype(np.int64), mean, squares, minimum, maximum)

    @classmethod
    def of_log_magnitudes(cls, rows: FloatArray) -> Moments:
        """Return the moments of ``log(abs(value))`` over the values other than 0 and NaN."""
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(np.abs(rows))
        return cls.of(np.where(np.isfinite(logs), logs, np.nan))

    def merged(self, other: Moments) -> Moments:
        """Return the moments of the union of both sets of values (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        difference = other.mean - self.mean
        with np.errstate(over="ignore"):
            squares = self.squares + other.squares + np.square(difference) * self.count * share
        return Moments(
            count,
            self.mean + difference * share,
            squares,
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
        )

    @property
    def deviation(self) -> FloatArray:
        """Standard deviation, exactly 0 for constant features."""
        deviation = np.sqrt(self.squares / np.maximum(self.count, 1))
        # Rounding of the mean must not make a constant look like a feature.
        return np.where(self.minimum == self.maximum, 0.0, deviation)


def feature_count(kind: str, sample_shape: Sequence[int]) -> int:
    """Return the number of features: columns, dimensions of series, or channels of images (1 if grey)."""
    return 1 if kind == "images" and len(sample_shape) == 2 else int(sample_shape[-1])


def value_rows(x: NDArray[Any], lengths: NDArray[np.int64] | None, features: int) -> Iterator[FloatArray]:
    """Yield the values of samples as float64 matrices with one column per feature, without padding.

    Parameters
    ----------
    x : ndarray, shape (n, *sample_shape)
        Samples.
    lengths : ndarray of int64, shape (n,), or None
        Steps of each sample that hold data.
    features : int
        Number of features, from `feature_count`.
    """
    size = max(1, BLOCK_VALUES // max(1, x[:1].size))
    for start in range(0, len(x), size):
        block = x[start : start + size].astype(np.float64)
        if lengths is None:
            yield block.reshape(-1, features)
        else:
            held = np.arange(block.shape[1]) < lengths[start : start + size, None]
            yield block[held].reshape(-1, features)


# Values converted to float64 at once: a few megabytes, which fit in the processor's cache.
BLOCK_VALUES = 2**18
