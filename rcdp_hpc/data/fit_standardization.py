"""Fit the standardisation of a source: ``data.standardize``, and what fills its missing values (``data.missing``).

The statistics come from the original training rows only. index.json and the model file store them, so that shards and
prediction use the same ones.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.like import Preparation
from rcdp_hpc.data.missing import fill_values, mask_features, refuse_unfilled
from rcdp_hpc.data.ranges import FeatureRanges, feature_count
from rcdp_hpc.data.sources import Source
from rcdp_hpc.data.standardization import Method, Standardization
from rcdp_hpc.data.training_values import feature_values, raw_blocks
from rcdp_hpc.errors import InputError

log = logging.getLogger(__name__)

# Most rows from which quartiles and the ranges of images are computed; if there are more, evenly spaced ones.
MOST_ROWS = 20_000
# Interquartile range of a normal distribution, in standard deviations.
QUARTILE_RANGE = 1.349
# A float32 has a mantissa of 24 bits: with a smaller spread relative to their magnitude, values keep fewer than 256
# levels.
LEAST_SPREAD = 2.0**-16
UNLIKE = 100.0
NAMED = 5


def method_for(setting: str, kind: str) -> Method:
    """Return the method of ``data.standardize`` for a kind of data: "auto" does not change images."""
    if setting == "auto":
        return "none" if kind == "images" else "standard"
    return setting  # type: ignore[return-value]


def standardized(
    source: Source, train: NDArray[np.int64], data: DataSection, earlier: Preparation | None = None
) -> tuple[Source, FeatureRanges]:
    """Return a source whose samples are standardised by its training rows, and the ranges of their raw values.

    Parameters
    ----------
    source : Source
    train : ndarray of int64
        Ascending indices of the original training rows. The statistics depend on no other rows.
    data : DataSection
        ``standardize``, and the keys of missing values.
    earlier : Preparation, optional
        The preparation whose standardisation is used instead.

    Raises
    ------
    InputError
        If the method does not apply to this kind of data, different values would become equal in float32, or missing
        values cannot be filled.
    """
    method = method_for(data.standardize, source.kind)
    if method == "series" and source.kind != "series":
        raise InputError(
            f"data.standardize = 'series' is for series, these data are of the kind '{source.kind}': set 'standard' or "
            "'robust'."
        )
    rows = _spaced(train) if source.kind == "images" else train
    ranges = FeatureRanges.of_blocks(raw_blocks(source, rows), source.kind, source.raw_shape, str(source.dtype))
    if earlier is not None:
        log.info("features are standardised as in %s", earlier.where)
        source = replace(source, standardization=earlier.standardization)
        refuse_unfilled(source, train, data, ranges)
        return source, ranges
    features = feature_count(source.kind, source.raw_shape)
    center, deviation = np.zeros(features), np.ones(features)
    if method == "standard":
        center, deviation = ranges.mean.copy(), ranges.deviation.copy()
    elif method == "robust":
        center, deviation = _quartiles(source, _spaced(train), ranges, Budget.of(data))
    fill = fill_values(source, train, data, ranges)
    # Constant features and the numbers of categories are not scaled.
    deviation[deviation <= 1e-12 * np.abs(center)] = 1.0
    deviation[deviation == 0] = 1.0
    for feature in source.categories if source.kind == "table" else ():
        center[feature], deviation[feature] = 0.0, 1.0
    mask = mask_features(source, train, ranges) if data.missing_mask else ()
    standardization = Standardization(method, center, deviation, fill, mask)
    _refuse_collapse(source, standardization, ranges)
    _report(source, standardization, ranges)
    return replace(source, standardization=standardization if standardization.changes else None), ranges


def _spaced(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(rows) <= MOST_ROWS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_ROWS).astype(np.int64)]


def _quartiles(
    source: Source, rows: NDArray[np.int64], ranges: FeatureRanges, budget: Budget
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the median and the scaled interquartile range of each feature, both of shape (F,).

    A feature whose range is 0 gets its standard deviation instead.
    """
    why = "the quartiles of a feature (data.standardize = 'robust') need its values at once"
    columns = feature_values(source, rows, budget, why, "set data.standardize = 'standard'")
    blocks = [np.nanpercentile(values, (25, 50, 75), axis=0) for values in columns]
    low, median, high = np.concatenate(blocks, axis=1)
    deviation = (high - low) / QUARTILE_RANGE
    return median, np.where(deviation > 0, deviation, ranges.deviation)


def _refuse_collapse(source: Source, standardization: Standardization, ranges: FeatureRanges) -> None:
    """Raise an `InputError` if different values would become equal in float32."""
    if standardization.method != "none":
        return
    size = np.maximum(np.abs(ranges.minimum), np.abs(ranges.maximum))
    spread = ranges.maximum - ranges.minimum
    lost = np.flatnonzero((spread > 0) & (spread < LEAST_SPREAD * size))
    if not len(lost):
        return
    first = int(lost[0])
    raise InputError(
        f"{source.description}: {_names(source, lost)}: values from {ranges.minimum[first]:.15g} to "
        f"{ranges.maximum[first]:.15g} lose their differences in float32. Set data.standardize = 'standard', or leave "
        "them out (data.drop_columns for tables)."
    )


def _report(source: Source, standardization: Standardization, ranges: FeatureRanges) -> None:
    if standardization.method == "none":
        deviation = ranges.deviation[ranges.deviation > 0]
        unlike = len(deviation) and deviation.max() > UNLIKE * deviation.min()
        if unlike and source.kind != "images":
            log.warning(
                "the standard deviations of features differ by a factor of %.3g, and data.standardize = 'none': the "
                "largest features dominate SMOTE's distances and the reservoir's input. Set data.standardize = "
                "'standard'",
                deviation.max() / deviation.min(),
            )
    else:
        what = {"standard": "mean and standard deviation", "robust": "median and quartile range"}
        method = standardization.method
        each = "each series" if method == "series" else f"the training rows ({what[method]})"
        log.info("features are standardised by %s", each)
    constant = np.flatnonzero(ranges.deviation == 0)
    if len(constant) and source.kind != "images":
        log.warning("constant in the training rows, so they carry no information: %s", _names(source, constant))


def _names(source: Source, features: NDArray[np.int64]) -> str:
    names = source.columns.features if source.columns is not None else None
    shown = [names[place] if names else str(place) for place in features[:NAMED].tolist()]
    kind = "column" if names else "feature"
    more = f" and {len(features) - NAMED} more" if len(features) > NAMED else ""
    return f"{kind}{'s' if len(features) > 1 else ''} {', '.join(shown)}{more}"
