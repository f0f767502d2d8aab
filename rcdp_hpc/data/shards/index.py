"""index.json: the content of a folder of shards. It is written last; a folder without it has no complete shards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rcdp_hpc.config import Config, DataFacts, to_tree
from rcdp_hpc.data.split import RESERVE, SPLITS, Split
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.runtime.digests import KEY, check_sealed, is_sealed
from rcdp_hpc.runtime.json_text import read_json_file

INDEX_NAME = "index.json"
FORMAT = "rcdp-shards"
FORMAT_VERSION = 4
FILE_PREFIX: dict[Split, str] = {"train": "train", "validation": "val", "test": "test", "reserve": "reserve"}
SHARD_NAME = re.compile(r"(train|val|test|reserve)-\d{5,}-of-\d{5,}\.h5")
REPAIR_ADVICE = "Run `rcdp verify` to see what is damaged; prepare again with --restart."


class _Entry(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Storage(_Entry):
    kind: Literal["float32", "float16", "uint8"] = "float32"
    scale: float = 1.0
    compression: Literal["none", "lzf", "gzip"] = "none"


class _Shard(_Entry):
    file: str = Field(pattern=f"^{SHARD_NAME.pattern}$")
    rows: int = Field(ge=1)
    class_counts: list[int]
    synthetic_counts: list[int]
    bytes: int = Field(ge=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class _Split(_Entry):
    rows: int = Field(ge=1)
    class_counts: list[int]
    synthetic_counts: list[int]
    shards: list[_Shard] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_sums(self) -> _Split:
        if self.rows != sum(shard.rows for shard in self.shards) or self.rows != sum(self.class_counts):
            raise ValueError("the row counts do not add up")
        return self


class _Columns(_Entry):
    features: list[str]
    categories: dict[str, list[str]]
    most_frequent: dict[str, str] = {}
    row_names: str = ""


class _TestIds(_Entry):
    file: Literal["test-ids.jsonl.gz"]
    rows: int
    sha256: str


class _Source(_Entry):
    name: str
    description: str
    dtype: str
    samples: int
    sha256: str


class _ClassRow(_Entry):
    name: str = Field(alias="class")
    source: int
    dropped: int
    before: int
    wanted: int
    after: int
    validation: int
    test: int


class _Settings(_Entry):
    data: dict[str, Any]
    run: dict[str, Any]


class _Unit(_Entry):
    name: str = Field(min_length=1)
    rows: int = Field(ge=1)


class _SharedGroups(_Entry):
    groups: int = Field(ge=0)
    rows: int = Field(ge=0)


class _Groups(_Entry):
    origin: str
    names: list[str] = Field(min_length=1)
    shared_with_test: _SharedGroups | None = None


class _Index(_Entry):
    format: Literal["rcdp-shards"]
    format_version: int
    classes: list[str] = Field(min_length=2)
    sample_shape: list[int] = Field(min_length=1)
    scale: float
    storage: _Storage
    lengths: bool
    shortest: int | None
    categories: list[int]
    columns: _Columns | None
    kind: Literal["table", "series", "images"]
    standardization: dict[str, Any] | None
    ranges: dict[str, Any] | None
    test_ids: _TestIds | None
    seed: int
    settings: _Settings
    code: dict[str, str] = {}
    source: _Source
    class_table: list[_ClassRow]
    splits: dict[str, _Split]
    units: dict[Literal["train", "validation"], list[_Unit]] | None = None
    groups: _Groups | None = None

    @model_validator(mode="after")
    def _check_complete(self) -> _Index:
        if set(self.splits) - {RESERVE} != set(SPLITS):
            raise ValueError(f"it has the splits {sorted(self.splits)}, expected {sorted(SPLITS)}")
        if len(self.class_table) != len(self.classes):
            raise ValueError(f"{len(self.class_table)} rows of the class table for {len(self.classes)} classes")
        for split, units in (self.units or {}).items():
            if sum(unit.rows for unit in units) != self.splits[split].rows:
                raise ValueError(f"the rows of the units of {split} do not add up")
        return self


def shard_file(split: Split, number: int, total: int) -> str:
    """Return a shard's file name, as in ``train-00000-of-00016.h5``."""
    return f"{FILE_PREFIX[split]}-{number:05d}-of-{total:05d}.h5"


def splits_in(index: dict[str, Any]) -> tuple[Split, ...]:
    """Return the splits in an index: `SPLITS`, and the reserve if there is one."""
    return (*SPLITS, RESERVE) if RESERVE in index["splits"] else SPLITS


def load_index(directory: Path) -> dict[str, Any]:
    """Read and check the index of a folder of shards.

    Raises
    ------
    InputError
        If it is missing, or has another format version.
    DataDamagedError
        If its digest does not match its content, or it does not have the form that this package writes.
    """
    path = directory / INDEX_NAME
    if not path.is_file():
        raise InputError(f"{path}: missing, so {directory} has no complete shards. Run `rcdp prepare` first.")
    content = read_json_file(path, REPAIR_ADVICE)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataDamagedError(f"{path}: not an index of shards. {REPAIR_ADVICE}")
    version = content.get("format_version")
    # The first formats had no digest.
    sound = is_sealed(content) if KEY in content else isinstance(version, int) and version < FORMAT_VERSION
    if sound and isinstance(version, int) and version != FORMAT_VERSION:
        raise InputError(
            f"{path}: has format version {version}, this package reads version {FORMAT_VERSION}. Prepare again with "
            "--restart, or use the version of rcdp_hpc that wrote it."
        )
    content = check_sealed(content, path, REPAIR_ADVICE)
    try:
        _Index.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise DataDamagedError(f"{path}: {where or 'content'}: {problem['msg']}. {REPAIR_ADVICE}") from None
    return content


def facts_in(index: dict[str, Any]) -> DataFacts:
    """Return the facts in an index that decide the defaults of other settings."""
    return DataFacts(index["kind"], tuple(index["sample_shape"]), index.get("shortest"))


def shard_settings(config: Config) -> dict[str, Any]:
    """Return the settings that index.json records: the [data] section, and the seed as ``run.seed``."""
    data = to_tree(config)["data"]
    del data["seed"]
    return {"data": data, "run": {"seed": config.shard_seed}}
