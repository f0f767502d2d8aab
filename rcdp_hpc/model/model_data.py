"""The part of a model file that describes the training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypedDict, get_args

import numpy as np

from rcdp_hpc.config import DataSection
from rcdp_hpc.config.choices import SOURCES
from rcdp_hpc.config.choices.sources import PREPARATION_KEYS
from rcdp_hpc.data.ranges import ARRAYS, FEATURES, FeatureRanges
from rcdp_hpc.data.sources import Columns
from rcdp_hpc.data.standardization import Method, Standardization, raw_shape
from rcdp_hpc.model.fields import Fields

# Keys of [data] that decide how new samples are read. The other keys only affect the preparation.
READING_KEYS = (
    "source", "missing", "unknown_categories", "memory_budget",
    *dict.fromkeys(
        key.removeprefix("data.") for source in SOURCES for key in source.keys if key not in PREPARATION_KEYS
    ),
)  # fmt: skip


class DataContent(TypedDict):
    """The fields of a model file that describe the training data, as in the index of the shards; None if missing."""

    columns: Any
    standardization: Any
    ranges: Any
    reading: Any


@dataclass(frozen=True, eq=False)
class ModelData:
    """Facts about the training data that prediction needs. A fact that the index of the shards does not have is None.

    Attributes
    ----------
    columns : Columns or None
        For a table: the feature columns, and the categories with their numbers.
    standardization : Standardization or None
        How raw samples are standardised.
    ranges : FeatureRanges or None
        Ranges of the training values, scaled and not standardised.
    reading : DataSection or None
        How new samples are read: the keys `READING_KEYS`.
    """

    columns: Columns | None = None
    standardization: Standardization | None = None
    ranges: FeatureRanges | None = None
    reading: DataSection | None = None

    @staticmethod
    def contents(index: Mapping[str, Any]) -> DataContent:
        """Return the fields of a model file, from the index of the shards."""
        data = index.get("settings", {}).get("data")
        return {
            "columns": index.get("columns"),
            "standardization": index.get("standardization"),
            "ranges": index.get("ranges"),
            "reading": None if data is None else {key: data[key] for key in READING_KEYS if key in data},
        }

    def stored(self) -> DataContent:
        """Return the fields of a model file with these facts."""
        reading = None
        if self.reading is not None:
            tree = self.reading.model_dump(exclude_none=True)
            reading = {key: tree[key] for key in READING_KEYS if key in tree}
        return {
            "columns": None if self.columns is None else asdict(self.columns),
            "standardization": None if self.standardization is None else self.standardization.to_json(),
            "ranges": None if self.ranges is None else self.ranges.to_json(),
            "reading": reading,
        }

    @classmethod
    def read(cls, fields: Fields, sample_shape: tuple[int, ...], raw: bool = False) -> ModelData:
        """Return the facts in a model file, checked for samples of shape `sample_shape`.

        Parameters
        ----------
        fields : Fields
        sample_shape : tuple of int
        raw : bool
            Whether the shape is that of raw samples, without the mask channels of missing values.

        Raises
        ------
        DataDamagedError
            If a field is missing or does not fit the samples.
        """
        standardization = fields.converted(
            "standardization", lambda content: _standardization(content, sample_shape, raw)
        )
        if not raw:
            sample_shape = raw_shape(standardization, sample_shape)
        return cls(
            fields.converted("columns", lambda content: _columns(content, sample_shape)),
            standardization,
            fields.converted("ranges", _ranges),
            fields.converted("reading", _section),
        )


def _columns(content: Any, sample_shape: tuple[int, ...]) -> Columns | None:
    if content is None:
        return None
    columns = Columns(**content)
    _require(_are_texts(columns.features) and len(columns.features) == sample_shape[-1], "names of all columns")
    _require(isinstance(columns.categories, dict) and isinstance(columns.most_frequent, dict), "categories by column")
    _require(all(_are_texts(texts) for texts in columns.categories.values()), "texts of categories")
    _require(_are_texts([*columns.categories, *columns.most_frequent.values(), columns.row_names]), "texts")
    return columns


def _standardization(content: Any, sample_shape: tuple[int, ...], raw: bool) -> Standardization | None:
    standardization = Standardization.from_json(content)
    if standardization is not None:
        mask = standardization.mask
        if not raw:
            sample_shape = standardization.raw_shape(sample_shape)
        sound = all(type(place) is int and 0 <= place < sample_shape[-1] for place in mask)
        _require(sound and list(mask) == sorted({*mask}), "the features with a mask channel, ascending")
        _require(not mask or standardization.fill is not None, "values that fill gaps, as there are mask channels")
        _require(standardization.method in get_args(Method), f"one of the methods {', '.join(get_args(Method))}")
        arrays = [standardization.center, standardization.deviation, standardization.fill]
        for values in (array for array in arrays if array is not None):
            sizes = (1, sample_shape[-1])
            _require(values.ndim == 1 and len(values) in sizes and bool(np.isfinite(values).all()), "finite numbers")
        _require(bool((standardization.deviation > 0).all()), "positive deviations")
    return standardization


def _ranges(content: Any) -> FeatureRanges | None:
    ranges = FeatureRanges.from_json(content)
    if ranges is not None:
        arrays = [getattr(ranges, name) for name in ARRAYS]
        _require(ranges.kind in FEATURES and isinstance(ranges.dtype, str), "ranges of a known kind of data")
        _require(all(values.shape == (len(ranges.minimum),) for values in arrays), "arrays of equal length")
    return ranges


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is str for value in values)


def _require(condition: bool, expected: str) -> None:
    if not condition:
        raise ValueError(f"expected {expected}")


def _section(reading: Any) -> DataSection | None:
    return None if reading is None else DataSection(**_with_present_names(reading))


def _with_present_names(reading: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a file of any version, of which earlier ones had other names for two of them."""
    if "sequence_column" not in reading and "group_column" in reading:
        # It named the sequence of a row, and there were no groups.
        reading = {**reading, "sequence_column": reading["group_column"], "group_column": ""}
    # The values that fill are in the file, whatever they were computed by.
    return {**reading, "missing": "mean"} if reading.get("missing") == "fill" else reading
