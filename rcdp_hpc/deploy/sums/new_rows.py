"""The rows of new data for a model with sums, prepared as its training data were, without writing shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from rcdp_hpc.config import Config, DataSection
from rcdp_hpc.config.root import RunSection
from rcdp_hpc.data.like import FACTS, Preparation
from rcdp_hpc.data.prepare import UNIT_SPLITS
from rcdp_hpc.data.rows import RowTable, make_samples, original_rows
from rcdp_hpc.data.shards.reader import Rows
from rcdp_hpc.data.shards.storage import Storage, storage_of
from rcdp_hpc.data.sources import Source, make_reader, open_source
from rcdp_hpc.data.units import Units
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.runtime.text import plain_line
from rcdp_hpc.training.solve.kept_sums import RESTORE, SumsFacts


@dataclass(frozen=True, eq=False)
class NewRows:
    """Training and validation rows of a source; a `rcdp_hpc.training.states.cache.SplitRows`.

    Attributes
    ----------
    source : Source
    tables : dict of str to RowTable
        The rows of "train" and "validation", in the order of their units.
    storage : Storage
    index : dict
        The units of the rows, as in the index of shards.
    """

    source: Source
    tables: Mapping[str, RowTable]
    storage: Storage
    index: dict[str, Any]

    def read(self, split: str, start: int, stop: int) -> Rows:
        """Return rows as shards would."""
        table = self.tables[split].part(slice(start, stop))
        lengths = self.source.lengths(table.source)
        return Rows(
            make_samples(self.source, table, self.storage), table.y, table.synthetic, table.source, table.neighbour,
            table.step, None if lengths is None else lengths.astype(np.int32),
        )  # fmt: skip

    def read_stored(self, split: str, start: int, stop: int) -> Rows:
        """Return rows as `read`: these are stored nowhere."""
        return self.read(split, start, stop)


def recorded_config(config: Config, facts: SumsFacts) -> Config:
    """Return a model's configuration with the sections ``data`` and ``run`` of its first fit.

    Raises
    ------
    DataDamagedError
        If the sums have other facts than this version writes.
    """
    try:
        data, run = DataSection(**facts.reading["data"]), RunSection(**facts.reading["run"])
        missing = [key for key in (*FACTS, "storage") if key not in facts.preparation]
    except (KeyError, TypeError, ValidationError) as error:
        reason = plain_line(error)
        raise DataDamagedError(f"the sums of the model: no settings of the data ({reason}). {RESTORE}") from None
    if missing or type(facts.reading.get("separate_test")) is not bool:
        raise DataDamagedError(f"the sums of the model: facts of the preparation are missing. {RESTORE}")
    return config.model_copy(update={"data": data, "run": run})


def read_new_rows(config: Config, facts: SumsFacts, path: Path, unit: str, progress: bool) -> NewRows:
    """Read new data, split each unit, and put its rows in order, as the preparation of shards would.

    Parameters
    ----------
    config : Config
        The result of `recorded_config`.
    facts : SumsFacts
        Of the model.
    path : Path
        File or folder of the source.
    unit : str
        Name of the unit of all rows; empty: by ``data.unit_pattern``, or the name of the file.
    progress : bool

    Raises
    ------
    InputError
        If the data cannot be read or do not fit the model, or a unit is named although the data have units.
    """
    data = config.data.model_copy(update={"path": str(path.absolute()), "test_path": "", "like": ""})
    if unit and data.unit_pattern:
        raise InputError(f"--unit {unit}: the model has units by data.unit_pattern = {data.unit_pattern!r}.")
    if not make_reader(data.source).needs_path:
        raise InputError(
            f"data.source = {data.source!r}: the samples of the model do not come from files, as {path} is."
        )
    source = replace(open_source(data, progress, fewest_classes=1), test=None)
    source = Preparation(facts.preparation, "the model").applied_to(source)
    storage = storage_of(data, source)
    if storage.kind != facts.preparation["storage"]:
        raise InputError(
            f"{path}: samples of {source.dtype} would be stored as {storage.kind}, and those of the model as "
            f"{facts.preparation['storage']}."
        )
    units = Units.of(source, data) or Units([unit or path.name], np.zeros(len(source.train), np.int64))
    y, seed = source.train.y, config.shard_seed
    test_fraction = None if facts.reading["separate_test"] else data.test_fraction
    split = units.split(y, data.validation_fraction, test_fraction, seed)
    tables: dict[str, RowTable] = {}
    for name in UNIT_SPLITS:
        table = original_rows(y[split[name]], split[name])
        tables[name] = table.part(units.order(table, seed))
    index = {"units": {name: units.entries(table) for name, table in tables.items()}}
    return NewRows(source, tables, storage, index)
