"""Missing values of the training rows: what fills them, and which features get a mask channel (``data.missing``).

Everything is computed from the original training rows alone, so that neither validation nor test has a part in it, and
never from one class, because prediction does not know the class. `rcdp_hpc.data.standardization.Standardization` stores
the result and applies it wherever samples are read.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.config.data import FILLS
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.ranges import FeatureRanges, feature_count
from rcdp_hpc.data.sources import Source
from rcdp_hpc.data.standardization import Standardization
from rcdp_hpc.data.training_values import feature_values, raw_blocks, value_count
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.text import plain_name

log = logging.getLogger(__name__)

NAMED = 10


def fill_values(
    source: Source, train: NDArray[np.int64], data: DataSection, ranges: FeatureRanges
) -> NDArray[np.float64] | None:
    """Return the value that fills the gaps of each feature, scaled and not standardised; None if gaps are not filled.

    Parameters
    ----------
    source : Source
    train : ndarray of int64
        Ascending indices of the original training rows. The values depend on no other rows.
    data : DataSection
        ``missing``, ``missing_constant`` and ``memory_budget``.
    ranges : FeatureRanges
        Of these rows.

    Returns
    -------
    ndarray of float64, shape (F,), or None
        A feature of categories is filled with its most frequent one, the first of several.

    Raises
    ------
    InputError
        If a feature has no value in the training rows, or the values of a feature do not fit in the memory budget.
    """
    if data.missing not in FILLS:
        return None
    _refuse_empty(source, ranges)
    if data.missing == "median":
        why = "the median of a feature (data.missing = 'median') needs its values at once"
        columns = feature_values(source, train, Budget.of(data), why, "set data.missing = 'mean'")
        fill = np.concatenate([np.nanmedian(values, axis=0) for values in columns])
    elif data.missing == "constant":
        fill = np.full(len(ranges), data.missing_constant * source.scale)
    else:
        fill = ranges.mean.copy()
    for feature in source.categories:
        fill[feature] = _most_frequent(source, train, feature)
    return fill


def mask_features(source: Source, train: NDArray[np.int64], ranges: FeatureRanges) -> tuple[int, ...]:
    """Return the features that get a mask channel: those with missing values in the training rows, ascending."""
    return tuple(np.flatnonzero(missing_counts(source, train, ranges)).tolist())


def missing_counts(source: Source, train: NDArray[np.int64], ranges: FeatureRanges) -> NDArray[np.int64]:
    """Return the number of missing values of each feature in the training rows, shape (F,)."""
    # The ranges of images come from some rows only.
    return np.maximum(0, value_count(source, train) - ranges.values) if source.kind != "images" else 0 * ranges.values


def with_mask(source: Source, train: NDArray[np.int64], data: DataSection) -> Source:
    """Return a source whose samples already have the mask channels that its standardisation will have.

    The checks of the settings need the shape of the stored samples before anything is fitted. Without
    ``data.missing_mask``, and with ``data.like``, whose channels are known, the source is returned as it is.

    Raises
    ------
    InputError
        If the samples are images.
    """
    if not data.missing_mask or data.like:
        return source
    if source.kind == "images":
        raise InputError("data.missing_mask is for tables and series, and these samples are images: set it to false.")
    features = feature_count(source.kind, source.raw_shape)
    ranges = FeatureRanges.of_blocks(raw_blocks(source, train), source.kind, source.raw_shape)
    zeros, ones = np.zeros(features), np.ones(features)
    mask = mask_features(source, train, ranges)
    return replace(source, standardization=Standardization("none", zeros, ones, zeros, mask))


def refuse_unfilled(source: Source, train: NDArray[np.int64], data: DataSection, ranges: FeatureRanges) -> None:
    """Raise an `InputError` if values are missing, and the preparation of ``data.like``, as this source, fills none."""
    fills = source.standardization is not None and source.standardization.fill is not None
    missing = np.flatnonzero(missing_counts(source, train, ranges))
    if len(missing) and not fills:
        raise InputError(
            f"{source.description}: values are missing in {feature_names(source, missing)}, and {data.like} was "
            "prepared without filling: leave these samples out with data.missing = 'drop'."
        )


def report_filled(
    source: Source, train: NDArray[np.int64], data: DataSection, ranges: FeatureRanges
) -> list[int] | None:
    """Log how many values of each feature are filled in the training rows, and which features have a mask channel.

    Returns
    -------
    list of int, or None
        The number of each feature; None if gaps are not filled.
    """
    if data.missing not in FILLS:
        return None
    counts = missing_counts(source, train, ranges)
    for line in describe_filled(counts, _names(source), source.standardization):
        log.info("%s", line)
    return counts.tolist()


def described_in(index: dict[str, Any]) -> list[str]:
    """Return the lines about the missing values that an index of shards records; empty if no gaps are filled."""
    counts, columns = index.get("missing"), index.get("columns")
    if counts is None:
        return []
    names = [plain_name(name) for name in columns["features"]] if columns else None
    standardization = Standardization.from_json(index["standardization"])
    return describe_filled(np.array(counts, np.int64), names, standardization)


def describe_filled(
    counts: NDArray[np.int64], names: Sequence[str] | None, standardization: Standardization | None
) -> list[str]:
    """Return a line about the filled values of the training rows, and one about the mask channels, if there are any.

    Parameters
    ----------
    counts : ndarray of int64, shape (F,)
        Missing values of each feature.
    names : sequence of str or None
        Names of the features, as they are shown.
    standardization : Standardization or None
    """
    affected = np.flatnonzero(counts)
    if not len(affected):
        return ["no values are missing in the training rows"]
    shown = [f"{_name(names, place)}: {counts[place]}" for place in affected[:NAMED].tolist()]
    more = f" and {len(affected) - NAMED} more features" if len(affected) > NAMED else ""
    lines = [f"missing values of the training rows that are filled: {', '.join(shown)}{more}"]
    mask = () if standardization is None else standardization.mask
    if mask:
        lines.append(f"mask channels of missing values: {listed_names(names, mask)}")
    return lines


def feature_names(source: Source, features: NDArray[np.int64]) -> str:
    """Return the names of some features as text."""
    return listed_names(_names(source), features.tolist())


def listed_names(names: Sequence[str] | None, places: Sequence[int]) -> str:
    """Return the names of the features at these places as text; features without names are numbered."""
    shown = [_name(names, place) for place in places[:NAMED]]
    return ", ".join(shown) + (f" and {len(places) - NAMED} more" if len(places) > NAMED else "")


def _names(source: Source) -> list[str] | None:
    return None if source.columns is None else [plain_name(name) for name in source.columns.features]


def _name(names: Sequence[str] | None, place: int) -> str:
    return f"feature {place}" if names is None else f"column {names[place]!r}"


def _refuse_empty(source: Source, ranges: FeatureRanges) -> None:
    empty = np.flatnonzero(ranges.values == 0)
    if len(empty):
        raise InputError(
            f"{source.description}: {feature_names(source, empty)}: every value is missing in the training rows, so "
            "that there is nothing to learn from and nothing to fill with. Leave these features out (data.drop_columns "
            "for tables)."
        )


def _most_frequent(source: Source, train: NDArray[np.int64], feature: int) -> float:
    counts: dict[float, int] = {}
    for values, lengths in raw_blocks(source, train):
        column = values[..., feature]
        held = ~np.isnan(column)
        if lengths is not None:
            held &= np.arange(column.shape[1]) < lengths[:, None]
        for code, count in zip(*np.unique(column[held], return_counts=True), strict=True):
            counts[float(code)] = counts.get(float(code), 0) + int(count)
    return max(sorted(counts), key=lambda code: counts[code])
