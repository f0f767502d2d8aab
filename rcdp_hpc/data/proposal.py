"""Examine a user's data, and propose the settings of ``[data]`` that read them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rcdp_hpc.config import DataSection
from rcdp_hpc.config.choices import SOURCES
from rcdp_hpc.config.regular_files import refuse_special_in, refuse_undecodable
from rcdp_hpc.data.fit_standardization import UNLIKE
from rcdp_hpc.data.ranges import FeatureRanges
from rcdp_hpc.data.sources import Source, make_reader, open_source
from rcdp_hpc.data.sources.sniff import format_of
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.user_code import load_choice

SHOWN_CLASSES = 10
EXAMINED_ROWS = 5000


@dataclass(frozen=True)
class Proposal:
    """Proposed settings, with facts about the data.

    Attributes
    ----------
    settings : dict
        Keys of ``[data]`` with the proposed values.
    facts : list of str
        Sentences about the data.
    assumed : list of str
        Sentences about assumptions that the settings rest on.
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
    """Examine a file or folder, and propose how to read it.

    Parameters
    ----------
    path : Path
        A table, an array file, a file of series, or a folder.

    Raises
    ------
    InputError
        If it cannot be read, its format is not known, or no column of labels can be identified.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder.")
    refuse_special_in(path)
    refuse_undecodable(path.absolute())
    name = _source_name(path)
    settings: dict[str, Any] = {"source": name, "path": str(path.absolute())}
    assumed: list[str] = []
    test = _sibling_test(path)
    if test is not None:
        settings["test_path"] = str(test.absolute())
        assumed.append(f"{test.name} is the test set: its name")
    columns, sentences = make_reader(name).propose(path, DataSection(**settings))
    settings.update(columns)
    assumed += sentences
    source = open_source(DataSection(**settings), progress=True)
    ranges = _ranges(source)
    facts = [f"{source.description} ({source.kind})", *_class_facts(source), *_value_facts(source, ranges)]
    assumed += [*source.findings.assumed, *_left_out(source), *source.findings.warnings]
    if source.test is None:
        assumed.append("there is no test set, so a fifth of the samples is held out (data.test_fraction)")
    return Proposal(settings, facts, assumed, source.kind, source.sample_shape)


def _source_name(path: Path) -> str:
    """Return the name of the first source whose reader recognises a file or folder."""
    content = None if path.is_dir() else format_of(path)
    for choice in SOURCES:
        if load_choice(SOURCES, str(choice.name)).recognises(path):
            return str(choice.name)
    if content is not None:
        raise InputError(f"{path}: {content.without_labels}.")
    raise InputError(
        f"{path}: no data found there. Expected a folder for each class, x.npy and y.npy, *_TRAIN.ts, .tsv or "
        ".arff, IDX files, CIFAR's batches, or parts of a table."
    )


def _sibling_test(path: Path) -> Path | None:
    """Return the file in the same folder whose name has "test" instead of "train", if there is one."""
    if path.is_dir():
        return None
    for train, test in (("train", "test"), ("TRAIN", "TEST"), ("Train", "Test")):
        head, separator, tail = path.name.rpartition(train)
        sibling = path.with_name(f"{head}{test}{tail}")
        if separator and sibling.is_file():
            return sibling
    return None


def _ranges(source: Source) -> FeatureRanges:
    rows = np.unique(np.linspace(0, len(source.train) - 1, min(EXAMINED_ROWS, len(source.train))).astype(np.int64))
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
        facts.append(f"few: the smallest class has {counts.min()} samples, too few for a reliable score")
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
