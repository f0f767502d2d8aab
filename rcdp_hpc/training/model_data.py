"""What a model file carries of the data that the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.ranges import FeatureRanges
from rcdp_hpc.data.sources import Columns
from rcdp_hpc.data.standardization import Standardization
from rcdp_hpc.errors import InputError

# Keys of [data] that decide how new samples are read. The others only matter to preparation.
READING_KEYS = (
    "source", "missing", "image_layout", "label_column", "id_column", "group_column", "time_column",
    "category_columns", "drop_columns", "keep_columns", "delimiter", "decimal", "encoding", "unknown_categories",
    "x_name", "lengths_name", "coarse_labels", "image_size", "image_channels", "image_background",
    "image_bits", "corrupt_images", "memory_budget",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ModelData:
    """What prediction has to know of the training data. Model files of earlier versions lack some of it.

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
    def of(cls, content: Mapping[str, Any]) -> ModelData:
        """Return what a model file holds."""
        columns, reading = content.get("columns"), content.get("reading")
        return cls(
            Columns(**columns) if columns else None,
            Standardization.from_json(content.get("standardization")),
            FeatureRanges.from_json(content.get("ranges")),
            None if reading is None else _section(reading),
        )


def _section(reading: Mapping[str, Any]) -> DataSection:
    known = {key: value for key, value in reading.items() if key in DataSection.model_fields}
    try:
        return DataSection(**known)
    except ValueError as error:
        raise InputError(f"the model file's settings for reading are not accepted by this version: {error}") from None
