"""A first look at a user's data: what they are, and the settings of ``[data]`` that read them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rcdp_hpc.config import DataSection
from rcdp_hpc.config.regular_files import refuse_special_in, refuse_undecodable
from rcdp_hpc.data.fit_standardization import UNLIKE
from rcdp_hpc.data.ranges import FeatureRanges
from rcdp_hpc.data.sources import Source, open_source
from rcdp_hpc.data.sources.sniff import CSV, format_of
from rcdp_hpc.data.sources.ts import is_series_table
from rcdp_hpc.errors import InputError

SHOWN_CLASSES = 10
LOOKED_AT = 5000


@dataclass(frozen=True)
class Proposal:
    """What a first look found.

    Attributes
    ----------
    settings : dict
        Keys of ``[data]`` with the proposed values.
    facts : list of str
        Sentences about the data.
    assumed : list of str
        Sentences about what was decided without being asked.
    kind : str
        Kind of data: "table", "series" or "images".
    sample_shape : tuple of int
        Shape of one sample.
    """

    settings: dict[str, Any]
    facts: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    kind: str = "table"
    sample_shape: tuple[int, ...] = ()


def propose(path: Path) -> Proposal:
    """Look at a file or folder, and propose how to read it.

    Parameters
    ----------
    path : Path
        A table, an array file, a file of series, or a folder.

    Raises
    ------
    InputError
        If it cannot be read, its format is not known, or no column of labels can be told.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder.")
    refuse_special_in(path)
    refuse_undecodable(path.absolute())
    name = _source_of_folder(path) if path.is_dir() else _source_of_file(path)
    settings: dict[str, Any] = {"source": name, "path": str(path.absolute())}
    assumed: list[str] = []
    test = _sibling_test(path)
    if test is not None:
        settings["test_path"] = str(test.absolute())
        assumed.append(f"{test.name} is the test set: its name")
    if name in ("csv", "parquet"):
        from rcdp_hpc.data.sources.table_description import propose_columns

        columns, sentences = propose_columns(path, DataSection(**settings))
        settings.update(columns)
        assumed += sentences
    if name == "arff":
        from rcdp_hpc.data.sources.arff import propose_settings

        columns, sentences = propose_settings(path, DataSection(**settings))
        settings.update(columns)
        assumed += sentences
    source = open_source(DataSection(**settings), progress=True)
    ranges = _ranges(source)
    facts = [f"{source.description} ({source.kind})", *_class_facts(source), *_value_facts(source, ranges)]
    assumed += [*source.findings.assumed, *_left_out(source), *source.findings.warnings]
    if source.test is None:
        assumed.append("there is no test set, so a fifth of the samples is held out (data.test_fraction)")
    return Proposal(settings, facts, assumed, source.kind, source.sample_shape)


def _source_of_file(path: Path) -> str:
    found = format_of(path).name
    if found == CSV and is_series_table(path):
        return "ts"
    if found in ("image", "idx", "archive", "npy"):
        how = {
            "npy": "a single array has no labels; put x.npy and y.npy into a folder, or both into an npz file",
            "image": "name the folder that has a folder of images for each class",
            "idx": "name the folder of the IDX files of images and labels",
            "archive": "CIFAR's archives are read with data.source = 'cifar10' or 'cifar100'; unpack others",
        }[found]
        raise InputError(f"{path}: {how}.")
    return found


def _sibling_test(path: Path) -> Path | None:
    """Return the file of the same name with "test" instead of "train", if it is next to this file."""
    if path.is_dir():
        return None
    for train, test in (("train", "test"), ("TRAIN", "TEST"), ("Train", "Test")):
        head, found, tail = path.name.rpartition(train)
        sibling = path.with_name(f"{head}{test}{tail}")
        if found and sibling.is_file():
            return sibling
    return None


def _source_of_folder(path: Path) -> str:
    """Return the source that a folder is, by the names of what is in it."""
    rules: tuple[tuple[str, Callable[[Path], bool]], ...] = (
        ("npy", lambda folder: (folder / "x.npy").exists() and (folder / "y.npy").exists()),
        ("ts", lambda folder: any(_has(folder, f"_train.{end}") for end in ("ts", "tsv", "ts.gz", "tsv.gz"))),
        ("arff", lambda folder: _has(folder, "_train.arff") or _has(folder, "_train.arff.gz")),
        ("mnist", lambda folder: _has(folder, "-ubyte") or _has(folder, "-ubyte.gz")),
        ("cifar10", lambda folder: (folder / "batches.meta").exists() or (folder / "cifar-10-batches-py").exists()),
        ("cifar100", lambda folder: (folder / "meta").exists() or (folder / "cifar-100-python").exists()),
        ("parquet", lambda folder: _has(folder, ".parquet")),
    )
    for name, applies in rules:
        if applies(path):
            return name
    deepest = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    within = [file for file in deepest if file.parent != path]
    for file in within[:: max(1, len(within) // 50)]:
        if file.suffix.lower() in (".csv", ".txt", ".npy", ".tsv"):
            return "series_folder"
        return "image_folder"
    if _has(path, ".csv"):
        return "csv"
    raise InputError(
        f"{path}: no data found there. Expected a folder for each class, x.npy and y.npy, *_TRAIN.ts, .tsv or "
        ".arff, IDX files, CIFAR's batches, or parts of a table."
    )


def _has(folder: Path, ending: str) -> bool:
    return any(entry.name.lower().endswith(ending) for entry in folder.iterdir())


def _ranges(source: Source) -> FeatureRanges:
    rows = np.unique(np.linspace(0, len(source.train) - 1, min(LOOKED_AT, len(source.train))).astype(np.int64))
    size = max(1, 2**20 // max(1, math.prod(source.sample_shape)))
    blocks = (
        (source.train.x[part].astype(np.float64) * source.scale, source.lengths(part))
        for part in (rows[start : start + size] for start in range(0, len(rows), size))
    )
    return FeatureRanges.of_blocks(blocks, source.kind, source.sample_shape, str(source.dtype))


def _class_facts(source: Source) -> list[str]:
    counts = np.bincount(source.train.y, minlength=len(source.classes))
    order = np.argsort(-counts, kind="stable")[:SHOWN_CLASSES]
    named = ", ".join(f"{source.classes[label]} {counts[label]}" for label in order)
    more = f" and {len(counts) - len(order)} more" if len(counts) > len(order) else ""
    facts = [f"{len(counts)} classes: {named}{more}"]
    if counts.min() < counts.max():
        facts.append(f"uneven: the largest class has {counts.max() / counts.min():.3g} times the smallest's samples")
    if counts.min() < 10:
        facts.append(f"few: the smallest class has {counts.min()} samples, too few to judge it by")
    return facts


def _value_facts(source: Source, ranges: FeatureRanges) -> list[str]:
    facts = [f"values from {ranges.minimum.min():.4g} to {ranges.maximum.max():.4g}"]
    deviation = ranges.deviation[ranges.deviation > 0]
    if source.kind != "images" and len(deviation) and deviation.max() > UNLIKE * deviation.min():
        facts.append(
            f"scales: standard deviations of features from {deviation.min():.3g} to {deviation.max():.3g}; "
            "data.standardize brings them to one"
        )
    if source.train.lengths is not None:
        facts.append(f"lengths: {source.train.lengths.min()} to {source.train.lengths.max()} steps")
    return facts


def _left_out(source: Source) -> list[str]:
    return [f"left out: {count} {what}" for what, count in source.findings.left_out.items()]
