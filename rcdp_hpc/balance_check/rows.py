"""The rows of a check: those of the source that are not its test part, with their folds.

Each node reads them once, into memory that its ranks share. Everything follows from the configuration and the seed,
so that all nodes have the same rows.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.balance_check.resampling import Resampling, resampled_or_reason
from rcdp_hpc.config import Config, DataFacts, with_kind_defaults
from rcdp_hpc.data.fit_standardization import standardized
from rcdp_hpc.data.like import open_like
from rcdp_hpc.data.missing import with_mask
from rcdp_hpc.data.prepare import development_rows
from rcdp_hpc.data.shards.storage import Storage, storage_of
from rcdp_hpc.data.sources import Part, Source
from rcdp_hpc.data.split import fold_numbers
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.runtime.ram import MIB, machine_memory

log = logging.getLogger(__name__)

BLOCK_BYTES = 2**24
FOLDS = "--folds"
# Part of the memory of a node that samples, states and sums may take.
MEMORY_SHARE = 0.8


@dataclass(frozen=True, eq=False)
class CheckRows:
    """The rows of a check.

    Attributes
    ----------
    source : Source
        The rows as its training samples, standardised and rounded as in shards.
    storage : Storage
        Number format of the samples.
    facts : DataFacts
        Kind and shape of the data.
    folds : ndarray of int64, shape (rows,)
        The fold that holds out each row, from 0.
    fold_count : int
    resampled : dict of str to Resampling
        The rows of each value of ``data.balance`` that is compared.
    left_out : dict of str to str
        Why methods are not compared.
    grouped : bool
        Whether folds keep groups together.
    """

    source: Source
    storage: Storage
    facts: DataFacts
    folds: NDArray[np.int64]
    fold_count: int
    resampled: dict[str, Resampling]
    left_out: dict[str, str]
    grouped: bool

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class number of each row, shape (rows,)."""
        return self.source.train.y

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.source.classes

    @property
    def sample_bytes(self) -> int:
        """Bytes of the samples, which the ranks of a node share."""
        return len(self.labels) * math.prod(self.source.sample_shape) * self.storage.dtype.itemsize

    def counts(self) -> NDArray[np.int64]:
        """Return the rows of each class in each fold, shape (folds, classes)."""
        counts = np.zeros((self.fold_count, len(self.classes)), np.int64)
        np.add.at(counts, (self.folds, self.labels), 1)
        return counts


def read_rows(config: Config, folds: int, balances: Sequence[str], comm: Communicator) -> CheckRows:
    """Read the rows, assign them to folds and balance them. Collective.

    Parameters
    ----------
    config : Config
    folds : int
    balances : sequence of str
        Values of ``data.balance`` whose rows are needed.
    comm : Communicator

    Raises
    ------
    InputError
        If the source or the settings cannot be used, or the rows do not fit into memory.
    """
    if config.data.folds:
        config = config.model_copy(update={"data": config.data.model_copy(update={"folds": 0, "fold": 0})})
    arrays = agree(comm, lambda: comm.share_arrays(lambda: _read(config, folds, balances)))
    facts = json.loads(bytes(arrays["facts"]))
    storage = Storage(**facts["storage"])
    part = Part(arrays["x"], np.asarray(arrays["y"]), arrays.get("lengths"))
    source = Source(
        facts["name"], facts["classes"], part, None, storage.scale, facts["description"], tuple(facts["categories"]),
        kind=facts["facts"]["kind"], mask_channels=facts["mask_channels"],
    )  # fmt: skip
    resampled = {name: Resampling.of_arrays(_named(arrays, f"{name}.")) for name in facts["resampled"]}
    data_facts = DataFacts(**{**facts["facts"], "sample_shape": tuple(facts["facts"]["sample_shape"])})
    return CheckRows(
        source, storage, data_facts, arrays["folds"], folds, resampled, facts["left_out"], facts["grouped"]
    )


def _named(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _read(config: Config, folds: int, balances: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return all arrays of the rows; names, numbers and reasons are JSON in the array ``facts``."""
    source, earlier = open_like(config.data, config.run.progress)
    config = with_kind_defaults(config, source.facts)
    log.info("source: %s", source.description)
    rows = development_rows(source, config)
    labels = source.train.y[rows]
    _refuse_single_class(source, labels)
    source = with_mask(source, rows, config.data)
    groups = source.groups(rows)
    numbers = fold_numbers(labels, source.classes, folds, config.shard_seed, FOLDS, groups)
    standard, _ = standardized(source, rows, config.data, earlier)
    storage = storage_of(config.data, standard)
    _refuse_many_rows(standard, len(rows), storage)
    held = _held(standard, rows, storage)
    resampled, left_out = resampled_or_reason(held, config.data, numbers, balances, config.shard_seed, storage)
    facts = {
        "name": source.name,
        "classes": source.classes,
        "description": source.description,
        "categories": list(source.categories),
        "facts": asdict(standard.facts),
        "mask_channels": held.mask_channels,
        "storage": asdict(storage),
        "resampled": list(resampled),
        "left_out": left_out,
        "grouped": groups is not None,
    }
    tables = {f"{name}.{key}": array for name, one in resampled.items() for key, array in one.to_arrays().items()}
    lengths = {} if held.train.lengths is None else {"lengths": held.train.lengths}
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    return {"x": held.train.x, "y": labels, "folds": numbers, "facts": text, **lengths, **tables}  # type: ignore[dict-item]


def _held(source: Source, rows: NDArray[np.int64], storage: Storage) -> Source:
    """Return a source in memory with some rows of another, standardised and in the number format of shards."""
    x = np.empty((len(rows), *source.sample_shape), storage.dtype)
    size = max(1, BLOCK_BYTES // (4 * math.prod(source.sample_shape)))
    for start in range(0, len(rows), size):
        x[start : start + size] = storage.encode(source.samples(rows[start : start + size]))
    part = Part(x, source.train.y[rows], source.lengths(rows))
    return Source(
        source.name, source.classes, part, None, storage.scale, source.description, source.categories,
        kind=source.kind, mask_channels=source.sample_shape[-1] - source.raw_shape[-1],
    )  # fmt: skip


def _refuse_single_class(source: Source, labels: NDArray[np.int64]) -> None:
    present = np.unique(labels)
    if len(present) < 2:
        raise InputError(
            f"{source.description}: only class {source.classes[present[0]]} has rows besides the test part."
        )


def _refuse_many_rows(source: Source, rows: int, storage: Storage) -> None:
    needed, memory = rows * math.prod(source.sample_shape) * storage.dtype.itemsize, machine_memory()
    if needed > MEMORY_SHARE * memory:
        raise InputError(
            f"{source.description}: {rows} rows take {needed // MIB} MiB, and this machine has {memory // MIB} MiB. "
            "Set data.max_samples: a part of the rows shows the same."
        )
