"""``[data]``: where samples come from, how they are split, balanced and sharded."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from rcdp_hpc.config.choices import BALANCING_METHODS, SOURCES
from rcdp_hpc.config.section import PATH, RESUMABLE, Section

# Values of data.missing that fill missing values instead of refusing or dropping samples.
FILLS = ("mean", "median", "constant")


class DataSection(Section):
    """Where the samples come from, how they are split, balanced and sharded."""

    seed: int = Field(-1, ge=-1, lt=2**31, description="seed of the split and the balancing; -1 takes run.seed")
    source: Annotated[str, AfterValidator(SOURCES.accepted)] = Field("digits", description="kind of source")
    path: str = Field(
        "", description="file or folder of the source (digits needs none)", json_schema_extra=RESUMABLE | PATH
    )
    test_path: str = Field(
        "",
        description="file or folder of the test set, if it is separate",
        json_schema_extra=RESUMABLE | PATH,
    )
    kind: Literal["auto", "table", "series", "images"] = Field(
        "auto",
        description="kind of data; defaults of other keys depend on it",
    )
    standardize: Literal["auto", "none", "standard", "robust", "series"] = Field(
        "auto",
        description="how features are scaled before balancing",
    )
    missing: Literal["refuse", "drop", "mean", "median", "constant"] = Field(
        "refuse",
        description="what to do with a missing value",
    )
    missing_constant: float = Field(
        0.0, allow_inf_nan=False, description="value that fills gaps, in the numbers of the source"
    )
    missing_mask: bool = Field(
        False,
        description="add a channel for each feature with missing values in the training rows: 1 where they are missing",
    )
    image_layout: Literal["auto", "channels_last", "channels_first"] = Field(
        "auto", description="axes of images in arrays"
    )
    label_column: str = Field("label", description="column of the labels")
    id_column: str = Field(
        "",
        description="column with the names of the samples in predictions, not a feature; empty: row numbers",
    )
    sequence_column: str = Field(
        "",
        description="column whose value is the same for all rows of one sequence; empty: each row is a sample",
    )
    time_column: str = Field(
        "",
        description="column that sorts the rows of a sequence or of a series file; empty: the order in the file",
    )
    group_column: str = Field(
        "",
        description="column of the patient, subject or site of a sample, not a feature: samples of one group stay on "
        "one side of every split; empty: samples are split one by one",
    )
    category_columns: list[str] = Field(default_factory=list, description="columns of categories, encoded as numbers")
    drop_columns: list[str] = Field(default_factory=list, description="columns that are not read")
    keep_columns: list[str] = Field(
        default_factory=list,
        description="columns to use as features although they look like an id, an index or a time stamp",
    )
    delimiter: str = Field("", max_length=1, description="character between values; empty: detected")
    decimal: Literal["auto", ".", ","] = Field("auto", description="decimal mark of numbers")
    encoding: str = Field("", description="encoding of text files; empty: UTF-8, or Windows-1252 with a warning")
    unknown_categories: Literal["refuse", "most_frequent"] = Field(
        "refuse",
        description="what prediction does with a category that is not in the training data",
        json_schema_extra=RESUMABLE,
    )
    unit_pattern: str = Field(
        "",
        description="regular expression: its match in a sample's name, or the match of its first group, is the unit "
        "(site, patient) of the sample, which rcdp forget can remove; empty: no units",
    )
    group_pattern: str = Field(
        "",
        description="regular expression: its match in a sample's name, or the match of its first group, is the group "
        "(patient, subject, site) of the sample, instead of data.group_column",
    )
    like: str = Field(
        "",
        description="run directory whose classes and standardisation are used instead of new ones",
        json_schema_extra=RESUMABLE | PATH,
    )
    x_name: str = Field("x", description="dataset of the samples")
    y_name: str = Field("y", description="dataset of the labels")
    x_test_name: str = Field("", description="dataset of the test samples; empty: the test part is split off")
    y_test_name: str = Field("", description="dataset of the test labels")
    lengths_name: str = Field(
        "",
        description="dataset with the number of steps of each padded series; empty: lengths or length, if present",
    )
    group_name: str = Field(
        "",
        description="array or dataset with the patient, subject or site of each sample, instead of data.group_column; "
        "that of a separate test set has the same name with _test",
    )
    coarse_labels: bool = Field(False, description="use the 20 coarse classes instead of the 100 fine classes")
    image_size: list[int] = Field(
        default_factory=list,
        max_length=2,
        description="height and width that images are resized and cropped to; empty: the common size if all images "
        "have the same size of at most 64 x 64, otherwise [64, 64]",
    )
    image_channels: Literal[0, 1, 3] = Field(0, description="colour channels of the images")
    image_background: Literal["white", "grey", "black"] = Field(
        "white", description="colour that replaces transparent pixels"
    )
    image_bits: int = Field(
        16,
        ge=8,
        le=16,
        description="number of bits used in 16-bit images, for example 12 for many cameras; the highest 8 of them "
        "are read",
    )
    corrupt_images: Literal["fail", "skip"] = Field("fail", description="what to do with a corrupt image")
    class_keep_fractions: list[float] = Field(
        default_factory=list,
        description="fraction of the training samples to keep for each class, in class order, to make a data set "
        "uneven on purpose; empty keeps all",
    )
    class_keep_counts: list[int] = Field(
        default_factory=list,
        description="number of the training samples to keep for each class, in class order, instead of fractions; "
        "empty keeps all",
    )
    max_samples: int = Field(
        0,
        ge=0,
        description="largest number of samples to use, drawn in the proportions of the classes; 0 uses all",
    )
    validation_fraction: float = Field(
        0.1, gt=0, lt=0.9, description="fraction of the training data held out for validation"
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=0.9, description="fraction held out for the test, if the source has no test set"
    )
    folds: int = Field(
        0,
        ge=0,
        le=1000,
        description="number of cross-validation folds, which replace the test part; 0 is no cross-validation",
    )
    fold: int = Field(
        0,
        ge=0,
        le=1000,
        description="fold that is held out as the test part, counted from 1; rcdp crossvalidate runs all of them",
    )
    balance: Annotated[str, AfterValidator(BALANCING_METHODS.accepted)] = Field(
        "smote", description="method that balances the training part"
    )
    balance_ratio: float = Field(
        1.0, gt=0, le=1, description="target ratio of the smallest to the largest class; 1 makes all classes equal"
    )
    balance_counts: list[int] = Field(
        default_factory=list,
        description="target number of training rows of each class, in class order; 0 leaves a class as it is; empty: "
        "balance_ratio applies",
    )
    smote_neighbours: int = Field(7, ge=1, le=1000, description="nearest neighbours k of SMOTE (paper: 7)")
    memory_budget: int = Field(
        4096,
        ge=1,
        le=2**30,
        description="MiB of memory that preparation may use, in addition to 350 MiB for the process; larger data are "
        "streamed or refused",
        json_schema_extra=RESUMABLE,
    )
    reserve: float = Field(
        0.0,
        ge=0,
        le=1,
        description="synthetic rows to hold in reserve for each class, as a fraction of its training rows, to "
        "replace rows of damaged shards; 0 is none",
    )
    storage: Literal["auto", "float32", "float16", "uint8"] = Field(
        "auto", description="number format of the samples in the shards"
    )
    compression: Literal["none", "lzf", "gzip", "fastest"] = Field(
        "none",
        description="compression of the samples in the shards",
    )
    shards: int = Field(16, ge=1, le=100_000, description="number of training shards")
    verify_on_read: bool = Field(
        True, description="check each shard's checksum before its rows are used", json_schema_extra=RESUMABLE
    )
    stage_in: bool = Field(
        False,
        description="copy the training shards to $TMPDIR of each node first, and read them there",
        json_schema_extra=RESUMABLE,
    )
    on_damage: Literal["fail", "replace"] = Field(
        "fail",
        description="what to do if training finds a damaged shard",
        json_schema_extra=RESUMABLE,
    )

    @property
    def names_groups(self) -> bool:
        """Whether a setting names the groups of samples (patients, subjects, sites), which stay on one side."""
        return bool(self.group_column or self.group_name or self.group_pattern)

    @field_validator("unit_pattern", "group_pattern")
    @classmethod
    def _regular_expression(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from None
        return pattern

    @model_validator(mode="after")
    def _dealt(self) -> DataSection:
        if self.image_size and (len(self.image_size) != 2 or not all(1 <= side <= 8192 for side in self.image_size)):
            raise ValueError(
                f"data.image_size = {self.image_size}: expected height and width, each 1 to 8192, "
                "or [] to take them from the images"
            )
        if self.folds == 1:
            raise ValueError("data.folds = 1 leaves nothing to train on: take 2 or more, or 0 for no cross-validation")
        if self.fold > self.folds:
            bound = f"must be between 1 and data.folds ({self.folds})" if self.folds else "needs a number of data.folds"
            raise ValueError(f"data.fold = {self.fold} {bound}")
        return self
