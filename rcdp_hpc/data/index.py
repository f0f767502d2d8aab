"""index.json: what a folder of shards holds. It is written last, so where it is missing there are no shards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rcdp_hpc.config import Config, DataFacts, to_tree
from rcdp_hpc.data.sources.kinds import kind_of_array
from rcdp_hpc.data.split import RESERVE, SPLITS, Split
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.runtime.files import read_json

INDEX_NAME = "index.json"
FORMAT = "rcdp-shards"
FORMAT_VERSION = 3
FILE_PREFIX: dict[Split, str] = {"train": "train", "validation": "val", "test": "test", "reserve": "reserve"}
SHARD_NAME = re.compile(r"(train|val|test|reserve)-\d{5,}-of-\d{5,}\.h5")
REPAIR = "Run `rcdp verify` to see what is damaged; prepare again with --restart."


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
    def _adds_up(self) -> _Split:
        if self.rows != sum(shard.rows for shard in self.shards) or self.rows != sum(self.class_counts):
            raise ValueError("its row counts do not add up")
        return self


class _Columns(_Entry):
    features: list[str]
    categories: dict[str, list[str]]
    most_frequent: dict[str, str] = {}
    row_names: str = ""


class _TestIds(_Entry):
    file: Literal["test-ids.txt.gz"]
    rows: int
    sha256: str


class _Index(_Entry):
    format: Literal["rcdp-shards"]
    format_version: int
    classes: list[str] = Field(min_length=2)
    sample_shape: list[int] = Field(min_length=1)
    scale: float
    storage: _Storage = _Storage()
    lengths: bool = False
    shortest: int | None = None
    categories: list[int] = []
    columns: _Columns | None = None
    kind: Literal["", "table", "series", "images"] = ""
    standardization: dict[str, Any] | None = None
    ranges: dict[str, Any] | None = None
    test_ids: _TestIds | None = None
    settings: dict[str, Any]
    source: dict[str, Any]
    splits: dict[str, _Split]

    @model_validator(mode="after")
    def _complete(self) -> _Index:
        if set(self.splits) - {RESERVE} != set(SPLITS):
            raise ValueError(f"it has the splits {sorted(self.splits)}, expected {sorted(SPLITS)}")
        return self


def shard_file(split: Split, number: int, total: int) -> str:
    """Return a shard's file name, as in ``train-00000-of-00016.h5``."""
    return f"{FILE_PREFIX[split]}-{number:05d}-of-{total:05d}.h5"


def splits_in(index: dict[str, Any]) -> tuple[Split, ...]:
    """Return the splits that an index lists: `SPLITS`, and the reserve where there is one."""
    return (*SPLITS, RESERVE) if RESERVE in index["splits"] else SPLITS


def load_index(directory: Path) -> dict[str, Any]:
    """Read and check the index of a folder of shards.

    Raises
    ------
    InputError
        If there is none, or a later version of the package wrote it.
    DataDamagedError
        If it is not what this package writes.
    """
    path = directory / INDEX_NAME
    if not path.is_file():
        raise InputError(f"{path}: not there, so {directory} holds no complete shards. Run `rcdp prepare` first.")
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataDamagedError(f"{path}: not an index of shards. {REPAIR}")
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise InputError(
            f"{path}: has format version {version}, this package reads up to {FORMAT_VERSION}. "
            "Update rcdp_hpc, or prepare again."
        )
    try:
        _Index.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise DataDamagedError(f"{path}: {where or 'content'}: {problem['msg']}. {REPAIR}") from None
    # Earlier versions had fewer settings; what they did without them are the defaults of the new ones.
    content["settings"]["data"] = {**shard_settings(Config())["data"], **content["settings"].get("data", {})}
    return content


def facts_in(index: dict[str, Any]) -> DataFacts:
    """Return the facts of an index that decide defaults; one of an earlier version does not name the kind."""
    shape = tuple(index["sample_shape"])
    lengths = index.get("lengths", False)
    kind = index.get("kind") or kind_of_array(shape, np.dtype(index["source"].get("dtype", "float32")), lengths)
    return DataFacts(kind, shape)


def shard_settings(config: Config) -> dict[str, Any]:
    """Return the settings that shards are recorded with: the [data] section and the seed, wherever it is set."""
    data = to_tree(config)["data"]
    del data["seed"]
    return {"data": data, "run": {"seed": config.shard_seed}}
