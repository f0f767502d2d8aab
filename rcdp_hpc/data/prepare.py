"""Preparation: read the source, split it, balance the training part, write the shards."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rcdp_hpc
from rcdp_hpc.config import Config, DataSection, refuse_other_settings, with_kind_defaults
from rcdp_hpc.config.apply_defaults import completed_quietly
from rcdp_hpc.config.choices import ARRAYS, is_user_class
from rcdp_hpc.data.balancing.methods import balanced_rows, exact_method, wanted_rows
from rcdp_hpc.data.balancing.registry import method_choice
from rcdp_hpc.data.balancing.reserve import refuse_small_classes, reserve_rows
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.class_table import log_class_table, report_dropped, report_missed, report_unevenness
from rcdp_hpc.data.fit_standardization import standardized
from rcdp_hpc.data.groups import (
    origin_of,
    refuse_one_group,
    report_absent,
    report_shared,
    report_split,
    shared_with_test,
)
from rcdp_hpc.data.like import open_like
from rcdp_hpc.data.missing import report_filled, with_mask
from rcdp_hpc.data.rows import RowTable, make_samples, original_rows
from rcdp_hpc.data.shards.atomic_folder import atomic_folder, recover, refuse_foreign_files
from rcdp_hpc.data.shards.compression import SAMPLE_BYTES, fastest_compression
from rcdp_hpc.data.shards.index import FORMAT, FORMAT_VERSION, INDEX_NAME, facts_in, load_index, shard_settings
from rcdp_hpc.data.shards.sample_ids import write_test_ids
from rcdp_hpc.data.shards.storage import Storage, storage_of
from rcdp_hpc.data.shards.writer import Layout, shard_numbers, shards_bytes, write_split
from rcdp_hpc.data.size_checks import refuse_many_rows, warn_of_padding
from rcdp_hpc.data.sources import LabelledArrays, Source
from rcdp_hpc.data.split import (
    RESERVE,
    Split,
    fold_indices,
    interleave,
    refuse_empty_split,
    sample_indices,
    split_indices,
    uneven_indices,
)
from rcdp_hpc.data.units import Units
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.runtime.code_consent import code_named_by, digests_of, find_module, search_path
from rcdp_hpc.runtime.digests import write_sealed
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.threads import available_cores

log = logging.getLogger(__name__)

# The splits whose rows are in the order of their units.
UNIT_SPLITS: tuple[Split, ...] = ("train", "validation")

CheckStop = Callable[[], None]
Counts = dict[str, list[int]]


def prepare_shards(
    config: Config,
    directory: Path,
    check_stop: CheckStop = lambda: None,
    restart: bool = False,
    check_source: Callable[[Source, Config, Counts], None] = lambda source, config, counts: None,
    arrays: LabelledArrays | None = None,
) -> dict[str, Any]:
    """Prepare the shards of a configuration in a folder, unless they are there already.

    It runs in one process and needs neither MPI nor torch. An earlier preparation stays in place until the new one is
    complete. The same settings give the same bytes.

    Parameters
    ----------
    config : Config
        Settings; ``[data]`` and ``run.seed`` (unless ``data.seed`` is set) determine the content of the shards.
    directory : Path
        Folder of the shards (``RUN/shards``).
    check_stop : callable
        Called between blocks of work. An exception that it raises ends the preparation, whose files are removed.
    restart : bool
        Prepare again even if the folder holds a complete preparation, which is replaced when the new one is complete.
    check_source : callable
        Called with the source, the settings and the counts of `split_rows` before balancing, unless the shards are
        there already. It raises an `InputError` if settings of later stages do not match the data.
    arrays : LabelledArrays, optional
        Samples in memory, for ``data.source = "arrays"``.

    Returns
    -------
    dict
        The content of index.json.

    Raises
    ------
    InputError
        If the source or the settings cannot be used, the folder cannot be written, or it holds other files or shards
        of other settings.
    DataDamagedError
        If the folder holds shards of the same settings, but a file is missing or has another length.
    StageFailedError
        If the disk is full.
    """
    # A folder that is a link to another disk stays a link.
    directory = directory.resolve()
    recover(directory)
    if not restart and (directory / INDEX_NAME).exists():
        return _existing_index(config, directory, arrays)
    refuse_foreign_files(directory)
    started = time.monotonic()
    # A class of the user's own is imported before the source is read.
    method_choice(config.data.balance)
    source, earlier = open_like(config.data, config.run.progress, arrays)
    given, config = config, with_kind_defaults(config, source.facts)
    _refuse_wide_rows(source, config.data)
    log.info("source: %s", source.description)
    warn_of_padding(source)
    train, others, counts = split_rows(source, config)
    source = with_mask(source, train, config.data)
    config = completed_quietly(given, source.facts)
    refuse_many_rows(source, config.data, others, counts)
    check_source(source, config, counts)
    report_dropped(source.classes, counts, config.data)
    report_unevenness(source.classes, counts["before"], config.data.balance)
    refuse_small_classes(source, counts["before"], config.data)
    source, ranges = standardized(source, train, config.data, earlier)
    statistics = {"ranges": ranges.to_json(), "missing": report_filled(source, train, config.data, ranges)}
    storage = storage_of(config.data, source)
    tables = plan_rows(source, config, storage, train, others, check_stop)
    check_stop()
    exact = exact_method(source, counts["before"], config.data)
    report_missed(source.classes, config.data.balance, counts, tables["train"].counts(len(source.classes)), exact)
    log_class_table(source.classes, counts, tables)
    index = _write(config, directory, source, statistics, storage, tables, counts, check_stop)
    rows = ", ".join(f"{len(table)} {split}" for split, table in tables.items())
    log.info("prepared %s in %.1f s: %s rows", directory, time.monotonic() - started, rows)
    return index


def _refuse_wide_rows(source: Source, data: DataSection) -> None:
    try:
        Budget.of(data).refuse_wide_rows(4 * math.prod(source.sample_shape), available_cores())
    except InputError as error:
        raise InputError(f"{data.path or data.source}: {error}") from None


def split_rows(source: Source, config: Config) -> tuple[NDArray[np.int64], dict[Split, RowTable], dict[str, list[int]]]:
    """Split the source.

    Returns
    -------
    train : ndarray of int64
        Ascending indices of the training samples.
    others : dict
        Recipes of the rows of validation and test.
    counts : dict
        Per class: samples of the ``source``, training samples that ``data.class_keep_fractions`` or
        ``data.class_keep_counts`` and ``data.max_samples`` left out (``dropped``), training rows ``before`` balancing,
        and rows ``wanted`` after it.
    """
    data, seed = config.data, config.shard_seed
    y = source.train.y
    used = sample_indices(y, data.max_samples, seed)
    if len(used) < len(y):
        log.warning("data.max_samples = %d: %d of %d samples are used", data.max_samples, len(used), len(y))
    refuse_one_group(source, data)
    indices = {name: used[rows] for name, rows in _split(source, used, data, seed).items()}
    report_split(source, data, indices)
    split = indices["train"]
    # Only the training part is made uneven. Validation and test keep the class proportions of the source.
    kept = uneven_indices(y[split], data.class_keep_fractions, source.classes, seed, data.class_keep_counts)
    train = split[kept]
    others: dict[Split, RowTable] = {
        name: original_rows(y[rows], rows) for name, rows in indices.items() if name != "train"
    }
    if "test" not in others and source.test is not None:
        # The same share of a separate test set is used.
        rows = sample_indices(source.test.y, math.ceil(len(used) / len(y) * len(source.test)), seed)
        others["test"] = original_rows(source.test.y[rows], len(y) + rows)
        report_shared(source, data, np.concatenate([train, indices["validation"]]), others["test"])
    if not report_absent(source, others):
        _warn_of_absent(source.classes, others)
    before = np.bincount(y[train], minlength=len(source.classes))
    counts = {
        "source": np.bincount(y, minlength=len(source.classes)).tolist(),
        "dropped": (np.bincount(y[split], minlength=len(source.classes)) - before).tolist(),
        "before": before.tolist(),
        "wanted": wanted_rows(before.tolist(), source.classes, data),
    }
    return train, others, counts


def development_rows(source: Source, config: Config) -> NDArray[np.int64]:
    """Return the ascending indices of the training samples that are not in the test part: training and validation.

    If the training part is made uneven on purpose (``data.class_keep_fractions``, ``data.class_keep_counts``), all of
    these rows are made so.
    """
    data, seed = config.data, config.shard_seed
    y = source.train.y
    used = sample_indices(y, data.max_samples, seed)
    refuse_one_group(source, data)
    indices = _split(source, used, data, seed)
    rows = np.sort(used[np.concatenate([indices["train"], indices["validation"]])])
    return rows[uneven_indices(y[rows], data.class_keep_fractions, source.classes, seed, data.class_keep_counts)]


def plan_rows(
    source: Source,
    config: Config,
    storage: Storage,
    train: NDArray[np.int64],
    others: dict[Split, RowTable],
    check_stop: CheckStop = lambda: None,
) -> dict[Split, RowTable]:
    """Plan the synthetic rows of the training part, and put the rows of each part in order.

    Returns
    -------
    dict
        Recipes of the rows of each split, and of the reserve if ``data.reserve`` is set, in the order of the shards.
    """
    data, seed, progress = config.data, config.shard_seed, config.run.progress
    balanced = balanced_rows(source, train, data, seed, storage, progress, check_stop)
    tables: dict[Split, RowTable] = {"train": balanced, **others}
    if data.reserve:
        tables[RESERVE] = reserve_rows(source, balanced, data, seed, storage, progress, check_stop)
    units = Units.of(source, data)

    def order(split: Split, table: RowTable) -> NDArray[np.int64]:
        return (
            units.order(table, seed) if units and split in UNIT_SPLITS else interleave(table.y.astype(np.int64), seed)
        )

    return {split: table.part(order(split, table)) for split, table in tables.items()}


def _split(source: Source, used: NDArray[np.int64], data: DataSection, seed: int) -> dict[Split, NDArray[np.int64]]:
    """Split training samples of the source, by their indices; with folds a separate test set is not used."""
    y, groups, units = source.train.y[used], source.groups(used), Units.of(source, data)
    test_fraction = None if source.test else data.test_fraction
    if units is not None:
        split = units.select(used).split(y, data.validation_fraction, test_fraction, seed)
        refuse_empty_split(split)
        return split
    if data.folds:
        return fold_indices(y, source.classes, data.folds, data.fold, data.validation_fraction, seed, groups)
    return split_indices(y, data.validation_fraction, test_fraction, seed, groups=groups)


def _write(
    config: Config,
    directory: Path,
    source: Source,
    statistics: dict[str, Any],
    storage: Storage,
    tables: dict[Split, RowTable],
    counts: dict[str, list[int]],
    check_stop: CheckStop,
) -> dict[str, Any]:
    row_bytes = storage.dtype.itemsize * math.prod(source.sample_shape)
    numbers = shard_numbers({split: len(table) for split, table in tables.items()}, config.data.shards, row_bytes)
    layout = Layout.of(source, storage)
    needed = sum(shards_bytes(len(tables[split]), numbers[split], layout) for split in tables)
    total = sum(map(len, tables.values()))
    with (
        atomic_folder(directory, needed) as partial,
        Progress("shards", total, "rows", enabled=config.run.progress, unit_bytes=row_bytes) as bar,
    ):
        if storage.compression == "fastest":
            storage = replace(storage, compression=_fastest(partial, layout, source, tables["train"]))

        def advance(rows: int) -> None:
            bar.advance(rows)
            check_stop()

        splits = {
            split: write_split(partial, split, tables[split], numbers[split], source, storage, advance)
            for split in tables
        }
        index = _index(config, source, statistics, storage, counts, splits)
        units = Units.of(source, config.data)
        if units is not None:
            index["units"] = {split: units.entries(tables[split]) for split in UNIT_SPLITS}
        if source.train.groups is not None:
            index["groups"] = _groups_entry(source, config.data, tables)
        index["test_ids"] = write_test_ids(partial, source, tables["test"].source)
        write_sealed(partial / INDEX_NAME, index)
    return index


def _groups_entry(source: Source, data: DataSection, tables: dict[Split, RowTable]) -> dict[str, Any]:
    """Return what index.json says about groups: their names by code, and those that a separate test set shares."""
    assert source.train.groups is not None
    entry: dict[str, Any] = {"origin": origin_of(data), "names": source.train.groups.names, "shared_with_test": None}
    test = tables["test"]
    if source.test is not None and test.source[0] >= len(source.train):
        others = np.concatenate([tables[split].source for split in UNIT_SPLITS])
        entry["shared_with_test"] = asdict(shared_with_test(source, others, test))
    return entry


def _fastest(directory: Path, layout: Layout, source: Source, rows: RowTable) -> str:
    """Return the compression that reads the first training rows fastest."""
    storage = layout.storage
    count = max(1, SAMPLE_BYTES // (storage.dtype.itemsize * math.prod(source.sample_shape)))
    first_rows = rows.part(slice(count))
    return fastest_compression(directory, layout, storage.encode(make_samples(source, first_rows, storage)))


def _index(
    config: Config,
    source: Source,
    statistics: dict[str, Any],
    storage: Storage,
    counts: dict[str, list[int]],
    splits: dict[Split, dict[str, Any]],
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "package_version": rcdp_hpc.__version__,
        "classes": source.classes,
        "kind": source.kind,
        "sample_shape": list(source.sample_shape),
        "scale": source.scale,
        "storage": asdict(storage),
        "lengths": source.has_lengths,
        "separate_test": source.test is not None,
        "shortest": source.shortest,
        "categories": list(source.categories),
        "columns": _columns(source),
        "standardization": None if source.standardization is None else source.standardization.to_json(),
        **statistics,
        "source": {
            "name": source.name,
            "description": source.description,
            "dtype": str(source.dtype),
            "samples": len(source.train) + (0 if source.test is None else len(source.test)),
            "sha256": source.fingerprint(),
        },
        "seed": config.shard_seed,
        "settings": shard_settings(config),
        **_code_of(config),
        "class_table": [
            {
                "class": name,
                **{key: values[label] for key, values in counts.items()},
                "after": splits["train"]["class_counts"][label],
                "validation": splits["validation"]["class_counts"][label],
                "test": splits["test"]["class_counts"][label],
                **({"reserve": splits[RESERVE]["class_counts"][label]} if RESERVE in splits else {}),
            }
            for label, name in enumerate(source.classes)
        ],
        "splits": dict(splits),
    }


def _code_of(config: Config) -> dict[str, Any]:
    """Return the digests of the modules with the user's own classes that made the shards; empty if there are none."""
    digests = digests_of(name for key, name in code_named_by(config).items() if key.startswith("data."))
    return {"code": digests} if digests else {}


def _columns(source: Source) -> dict[str, Any] | None:
    return None if source.columns is None else asdict(source.columns)


def _existing_index(config: Config, directory: Path, arrays: LabelledArrays | None) -> dict[str, Any]:
    """Return the index of a complete preparation, if it has the same settings and its files are complete."""
    index = load_index(directory)
    config = with_kind_defaults(config, facts_in(index))
    refuse_other_settings(str(directory), index["settings"], shard_settings(config), "data")
    _refuse_changed_source(config.data, directory, index, arrays)
    for split in index["splits"].values():
        for shard in split["shards"]:
            path = directory / shard["file"]
            if not path.is_file() or path.stat().st_size != shard["bytes"]:
                raise DataDamagedError(f"{path}: missing or of another length. Prepare again with --restart.")
    _warn_of_changed_method(config.data, directory, index)
    log.info("%s: already prepared with these settings; nothing to do", directory)
    return index


def _warn_of_changed_method(data: DataSection, directory: Path, index: dict[str, Any]) -> None:
    """Log a warning if the module of a user's balancing method has changed since it prepared the shards."""
    module = data.balance.partition(":")[0]
    files = find_module(module, search_path(working_directory=True)) if is_user_class(data.balance) else None
    if files is not None and files.sha256 != index.get("code", {}).get(module):
        log.warning(
            "%s has changed since it prepared the shards in %s. The shards are used unchanged; add --restart to "
            "prepare them again",
            *(files.files[-1], directory),
        )


def _refuse_changed_source(
    data: DataSection, directory: Path, index: dict[str, Any], arrays: LabelledArrays | None
) -> None:
    """Raise an `InputError` if the source no longer holds the data that the shards were made of."""
    if arrays is None and not _may_have_changed(data, directory, index):
        return
    source, _ = open_like(data, arrays=arrays)
    # The fingerprint covers the numbers of categories, not their texts. Indices of earlier versions have no columns, or
    # fewer facts about them.
    columns = index.get("columns") or {}
    renamed = columns and columns != {key: value for key, value in (_columns(source) or {}).items() if key in columns}
    if renamed or source.fingerprint() != index["source"]["sha256"]:
        raise InputError(
            f"{directory}: holds shards of other data than {_name_of(data)} now. Choose another --out, or "
            "prepare again with --restart."
        )


def _name_of(data: DataSection) -> str:
    if data.source == ARRAYS:
        return "the arrays given"
    return f"data.path = {data.path} holds" if data.path else f"data.source = {data.source!r} holds"


def _may_have_changed(data: DataSection, directory: Path, index: dict[str, Any]) -> bool:
    """Return whether the source has to be read again to compare it with the shards.

    It is read if its path or its modification time differs, or the file of a user's own reader. Data that no longer
    exist are not compared.
    """
    path = Path(data.path)
    if data.path and not path.exists():
        return False
    if is_user_class(data.source):
        module = data.source.partition(":")[0]
        files = find_module(module, search_path(working_directory=True))
        if files is not None and files.sha256 != index.get("code", {}).get(module):
            return True
    if not data.path:
        return False
    entries = [path, *(file for file in path.iterdir() if file.exists())] if path.is_dir() else [path]
    newer = max(file.stat().st_mtime for file in entries) > (directory / INDEX_NAME).stat().st_mtime
    return newer or data.path != index["settings"]["data"]["path"]


def _warn_of_absent(classes: list[str], tables: dict[Split, RowTable]) -> None:
    for split in ("validation", "test"):
        absent = [name for name, count in zip(classes, tables[split].counts(len(classes)), strict=True) if not count]
        if absent:
            more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
            log.warning("no samples in %s, because there are too few: class %s%s", split, ", ".join(absent[:10]), more)
