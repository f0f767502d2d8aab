"""What a model file carries of the data that the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.ranges import ARRAYS, FEATURES, FeatureRanges
from rcdp_hpc.data.sources import Columns
from rcdp_hpc.data.standardization import Method, Standardization
from rcdp_hpc.model.fields import Fields

# Keys of [data] that decide how new samples are read. The others only matter to preparation.
READING_KEYS = (
    "source", "missing", "image_layout", "label_column", "id_column", "group_column", "time_column",
    "category_columns", "drop_columns", "keep_columns", "delimiter", "decimal", "encoding", "unknown_categories",
    "x_name", "lengths_name", "coarse_labels", "image_size", "image_channels", "image_background",
    "image_bits", "corrupt_images", "memory_budget",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ModelData:
    """What prediction has to know of the training data; what the index of the shards does not have is None.

    Attributes
    ----------
    columns : Columns or None
        Of a table: the columns of a sample, and the numbers of categories.
    standardization : Standardization or None
        What is done to raw samples.
    ranges : FeatureRanges or None
        Of the raw training values, scaled and not standardised.
    reading : DataSection or None
        How files of samples are read: the keys `READING_KEYS`.
    """

    columns: Columns | None = None
    standardization: Standardization | None = None
    ranges: FeatureRanges | None = None
    reading: DataSection | None = None

    @staticmethod
    def contents(index: Mapping[str, Any]) -> dict[str, Any]:
        """Return what goes into a model file, out of the index of the shards."""
        data = index.get("settings", {}).get("data")
        return {
            "columns": index.get("columns"),
            "standardization": index.get("standardization"),
            "ranges": index.get("ranges"),
            "reading": None if data is None else {key: data[key] for key in READING_KEYS if key in data},
        }

    @classmethod
    def read(cls, fields: Fields, sample_shape: tuple[int, ...]) -> ModelData:
        """Return what a model file holds, for samples of this shape.

        Raises
        ------
        DataDamagedError
            If a part is missing, or does not fit the samples.
        """
        return cls(
            fields.converted("columns", lambda content: _columns(content, sample_shape)),
            fields.converted("standardization", lambda content: _standardization(content, sample_shape)),
            fields.converted("ranges", _ranges),
            fields.converted("reading", _section),
        )


def _columns(content: Any, sample_shape: tuple[int, ...]) -> Columns | None:
    if content is None:
        return None
    columns = Columns(**content)
    _see_that(_are_texts(columns.features) and len(columns.features) == sample_shape[-1], "names of all columns")
    _see_that(isinstance(columns.categories, dict) and isinstance(columns.most_frequent, dict), "categories by column")
    _see_that(all(_are_texts(texts) for texts in columns.categories.values()), "texts of categories")
    _see_that(_are_texts([*columns.categories, *columns.most_frequent.values(), columns.row_names]), "texts")
    return columns


def _standardization(content: Any, sample_shape: tuple[int, ...]) -> Standardization | None:
    found = Standardization.from_json(content)
    if found is not None:
        _see_that(found.method in get_args(Method), f"one of the methods {', '.join(get_args(Method))}")
        for values in (found.center, found.deviation, *(() if found.fill is None else (found.fill,))):
            sizes = (1, sample_shape[-1])
            _see_that(values.ndim == 1 and len(values) in sizes and bool(np.isfinite(values).all()), "finite numbers")
        _see_that(bool((found.deviation > 0).all()), "positive deviations")
    return found


def _ranges(content: Any) -> FeatureRanges | None:
    found = FeatureRanges.from_json(content)
    if found is not None:
        arrays = [getattr(found, name) for name in ARRAYS]
        _see_that(found.kind in FEATURES and isinstance(found.dtype, str), "ranges of a known kind of data")
        _see_that(all(values.shape == (len(found.minimum),) for values in arrays), "as many numbers in each array")
    return found


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is str for value in values)


def _see_that(holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"expected {expected}")


def _section(reading: Any) -> DataSection | None:
    return None if reading is None else DataSection(**reading)
