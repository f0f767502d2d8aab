"""The .ts format of the UCR/UEA archives of time series, with unequal lengths."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.lengths import unless_whole
from rcdp_hpc.data.memory import Budget
from rcdp_hpc.data.sources.base import NewSamples, Part, Source
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.labels import checked_labels, encode_labels
from rcdp_hpc.data.sources.rows import RaggedRows, Spool
from rcdp_hpc.errors import InputError


@dataclass(eq=False)
class _Series:
    dimensions: int
    spool: Spool
    lengths: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)


def read_source(path: Path, test_path: str, budget: Budget) -> Source:
    """Read time series.

    Parameters
    ----------
    path : Path
        A .ts file, or a folder with one ``*_TRAIN.ts`` and, for the test, one ``*_TEST.ts``.
    test_path : str
        The test file, where `path` is a file.
    budget : Budget
        What of it is held in memory; more goes to a temporary file.

    Returns
    -------
    Source
        Samples of shape (longest, dimensions), padded with zeros at the end, with their lengths; without lengths
        where all are equally long.

    Raises
    ------
    InputError
        If a file is missing, damaged, has no class labels, time stamps or missing values, or a label is not among
        those that its header lists.
    """
    train_file, test_file = _files(path, test_path)
    train = _parse(train_file, budget)
    test = _parse(test_file, budget) if test_file is not None else None
    if test is not None and test.dimensions != train.dimensions:
        raise InputError(
            f"{test_file}: series of {test.dimensions} dimensions, {train.dimensions} in {train_file.name}."
        )
    findings = Findings()
    labels = checked_labels(train.labels, train_file)
    test_labels = None if test is None else checked_labels(test.labels, f"{test_file}")
    classes, y, test_y = encode_labels(labels, test_labels, f"{test_file}", findings)
    lengths = train.lengths + ([] if test is None else test.lengths)
    longest, unequal = max(lengths), min(lengths) < max(lengths)
    return Source(
        kind="series",
        name="ts",
        classes=classes,
        train=_part(train, y, longest, unequal),
        test=None if test is None or test_y is None else _part(test, test_y, longest, unequal),
        scale=1.0,
        description=f"{train_file.name}: {len(y)} series of {min(lengths)} to {longest} steps in {train.dimensions} "
        "dimensions" + ("" if test_y is None else f", {len(test_y)} for the test"),
        findings=findings,
    )


def read_samples(path: Path, budget: Budget, longest: int = 0) -> NewSamples:
    """Return series padded to `longest` steps at least, and their lengths (None: all of `longest` steps).

    Errors are those of `read_source`.
    """
    series = _parse(path, budget)
    part = _part(series, np.zeros(len(series.lengths), np.int64), max(longest, *series.lengths), True)
    assert part.lengths is not None
    return NewSamples(part.x, unless_whole(part.lengths, longest))


def _part(series: _Series, y: NDArray[np.int64], longest: int, unequal: bool) -> Part:
    lengths = np.array(series.lengths, np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return Part(RaggedRows(series.spool.finish(), starts, lengths, longest), y, lengths if unequal else None)


def _files(path: Path, test_path: str) -> tuple[Path, Path | None]:
    if not path.is_dir():
        return path, Path(test_path) if test_path else None
    found = {}
    for part in ("TRAIN", "TEST"):
        files = sorted(path.glob(f"*_{part}.ts"))
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise InputError(f"{path}: several files of the {part.lower()} part ({names}); name one as data.path.")
        found[part] = files[0] if files else None
    if found["TRAIN"] is None:
        raise InputError(f"{path}: no file *_TRAIN.ts there.")
    return found["TRAIN"], found["TEST"] or (Path(test_path) if test_path else None)


def _parse(path: Path, budget: Budget) -> _Series:
    try:
        with path.open(encoding="utf-8", errors="strict") as file:
            header: dict[str, list[str]] = {}
            series: _Series | None = None
            for number, raw in enumerate(file, 1):
                line = raw.strip()
                if not line or line.startswith("#"):
                    continue
                where = f"{path}, line {number}"
                if line.startswith("@") and series is None:
                    key, *values = line[1:].split()
                    header[key.lower()] = values
                    if key.lower() == "data":
                        _check_header(path, header)
                        series = _Series(0, Spool((1,), np.dtype(np.float32), 0), allowed=header["classlabel"][1:])
                elif series is None:
                    raise InputError(f"{where}: data before the line @data.")
                else:
                    _take(where, series, line, budget)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file, so no .ts file.") from None
    if series is None or not series.lengths:
        raise InputError(f"{path}: holds no series (is there a line @data?).")
    return series


def _check_header(path: Path, header: dict[str, list[str]]) -> None:
    label = header.get("classlabel", ["false"])
    if not label or label[0].lower() != "true":
        raise InputError(f"{path}: its header has no '@classLabel true', so its series have no classes.")
    if header.get("timestamps", ["false"])[:1] == ["true"]:
        raise InputError(f"{path}: series with time stamps are not read; resample them to equal steps.")


def _take(where: str, series: _Series, line: str, budget: Budget) -> None:
    *dimensions, label = line.split(":")
    if not dimensions:
        raise InputError(f"{where}: no ':' before a class label.")
    if series.allowed and label.strip() not in series.allowed:
        raise InputError(f"{where}: label {label.strip()!r} is not among those of @classLabel.")
    try:
        values = [np.array(dimension.split(","), np.float32) for dimension in dimensions]
    except ValueError as error:
        raise InputError(f"{where}: {error}; missing values ('?') are not read either.") from None
    lengths = {len(value) for value in values}
    if len(lengths) > 1:
        raise InputError(f"{where}: its dimensions have {min(lengths)} to {max(lengths)} steps, one number expected.")
    if series.dimensions == 0:
        series.dimensions = len(values)
        series.spool = Spool((len(values),), np.dtype(np.float32), budget.source // 2)
    if len(values) != series.dimensions:
        raise InputError(f"{where}: {len(values)} dimensions, {series.dimensions} in the first series.")
    block = np.stack(values, axis=1)
    if not np.isfinite(block).all():
        raise InputError(f"{where}: NaN, infinity or a number too large for float32.")
    series.spool.add(block)
    series.lengths.append(len(block))
    series.labels.append(label.strip())
