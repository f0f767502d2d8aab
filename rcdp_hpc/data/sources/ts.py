"""The .ts format of the UCR/UEA archives of time series, with unequal lengths, and the archives' .tsv files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.memory import Budget
from rcdp_hpc.data.sources.base import NewSamples, Source
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.labels import Labels, checked_labels, encode_labels
from rcdp_hpc.data.sources.series import SeriesCollector
from rcdp_hpc.data.sources.text_files import open_text
from rcdp_hpc.errors import InputError

SUFFIXES = (".ts", ".tsv")
MISSING = {"?", "nan", "na", ""}
# Labels that say that there is none.
UNKNOWN = ("", "?")


@dataclass(eq=False)
class _File:
    """The series of a file, and the labels of those that are kept."""

    series: SeriesCollector
    drops_unlabelled: bool = False
    labels: list[str] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)


def read_source(path: Path, data: DataSection, budget: Budget) -> Source:
    """Read time series.

    Parameters
    ----------
    path : Path
        A .ts or .tsv file, or a folder with one ``*_TRAIN.ts`` (or .tsv) and, for the test, one ``*_TEST.ts``.
    data : DataSection
        ``test_path`` (the test file, if `path` is a file), ``missing`` and ``encoding``.
    budget : Budget
        What of it is held in memory; more goes to a temporary file.

    Returns
    -------
    Source
        Samples of shape (longest, dimensions), padded with zeros at the end, with their lengths; without lengths
        if all are equally long.

    Raises
    ------
    InputError
        If a file is missing, damaged, has no class labels or has time stamps, or a label is not among those that its
        header lists.
    """
    findings = Findings()
    train_file, test_file = _files(path, data.test_path)
    train = _parse(train_file, data, budget, findings)
    test = None if test_file is None else _parse(test_file, data, budget, findings)
    if test is not None and test.series.features != train.series.features:
        raise InputError(
            f"{test_file}: series of {test.series.features} dimensions, {train.series.features} in {train_file.name}."
        )
    labels = _labels(train, train_file)
    test_labels = None if test is None or test_file is None else _labels(test, test_file)
    classes, y, test_y = encode_labels(labels, test_labels, f"{test_file}", findings)
    lengths = train.series.lengths + ([] if test is None else test.series.lengths)
    longest, unequal = max(lengths), min(lengths) < max(lengths)
    return Source(
        kind="series",
        name="ts",
        classes=classes,
        train=train.series.part(y, longest, unequal),
        test=None if test is None or test_y is None else test.series.part(test_y, longest, unequal),
        scale=1.0,
        description=f"{train_file.name}: {len(y)} series of {min(lengths)} to {longest} steps in "
        f"{train.series.features} dimensions" + ("" if test_y is None else f", {len(test_y)} for the test"),
        findings=findings,
    )


def read_samples(path: Path, data: DataSection, budget: Budget, longest: int = 0) -> NewSamples:
    """Return series padded to `longest` steps at least, and their lengths (None: all of `longest` steps).

    Labels are not needed, and not used if there are any. Errors are otherwise those of `read_source`.
    """
    findings = Findings()
    file = _parse(path, data, budget, findings, needs_labels=False)
    # Numbers would no longer tell which series of the file were predicted.
    dropped = len(file.kept) < file.series.seen
    return file.series.new_samples(longest, [str(row) for row in file.kept] if dropped else None, "sample")


def _labels(file: _File, path: Path) -> Labels:
    return checked_labels(file.labels, path)


def _files(path: Path, test_path: str) -> tuple[Path, Path | None]:
    if not path.is_dir():
        return path, Path(test_path) if test_path else None
    found: dict[str, Path | None] = {}
    for part in ("train", "test"):
        files = sorted(
            file
            for file in path.iterdir()
            if file.suffix.lower() in SUFFIXES and file.stem.lower().endswith(f"_{part}") and file.name[:1] != "."
        )
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise InputError(f"{path}: several files of the {part} part ({names}); name one as data.path.")
        found[part] = files[0] if files else None
    if found["train"] is None:
        there = ", ".join(sorted(file.name for file in path.iterdir())[:10]) or "nothing"
        raise InputError(
            f"{path}: no file *_TRAIN.ts or *_TRAIN.tsv there; found {there}. Of the UCR/UEA archives the .ts and .tsv "
            "files are read, not .arff; name any other file as data.path."
        )
    return found["train"], found["test"] or (Path(test_path) if test_path else None)


def _parse(path: Path, data: DataSection, budget: Budget, findings: Findings, needs_labels: bool = True) -> _File:
    series = SeriesCollector(str(path), budget.source // 2, data.missing, findings)
    file = _File(series, drops_unlabelled=needs_labels and data.missing == "drop")
    with open_text(path, data.encoding, findings) as text:
        numbered = ((number, line.strip()) for number, line in enumerate(text, 1))
        lines = ((number, line) for number, line in numbered if line and not line.startswith("#"))
        if path.suffix.lower() == ".tsv":
            _take_tsv(path, lines, file)
        else:
            header = _read_header(path, lines)
            _check_header(path, header, needs_labels)
            _take_series(path, lines, file, header, needs_labels)
            _compare_header(path, header, series, findings)
    series.finish()
    return file


def _read_header(path: Path, lines: Iterator[tuple[int, str]]) -> dict[str, list[str]]:
    """Read the lines up to @data; keys are in small letters and without "@"."""
    header: dict[str, list[str]] = {}
    for number, line in lines:
        if not line.startswith("@"):
            raise InputError(f"{path}, line {number}: data before the line @data.")
        key, *values = line[1:].split() or [""]
        header[key.lower()] = values
        if key.lower() == "data":
            return header
    raise InputError(f"{path}: holds no series (is there a line @data?).")


def _true(header: dict[str, list[str]], key: str) -> bool:
    return [value.lower() for value in header.get(key, [])[:1]] == ["true"]


def _check_header(path: Path, header: dict[str, list[str]], needs_labels: bool) -> None:
    if _true(header, "timestamps"):
        raise InputError(
            f"{path}: '@timeStamps true': series with time stamps are not read; resample them to equal steps, and "
            "leave the time stamps out."
        )
    if needs_labels and _true(header, "targetlabel"):
        raise InputError(
            f"{path}: '@targetLabel true': its labels are a measured quantity (regression). This package classifies: "
            "group the values into a few classes, and name them with '@classLabel true NAMES'."
        )
    if needs_labels and not _true(header, "classlabel"):
        raise InputError(
            f"{path}: its header has no '@classLabel true', so its series have no classes: it can be predicted, not "
            "trained on."
        )


def _take_series(
    path: Path, lines: Iterator[tuple[int, str]], file: _File, header: dict[str, list[str]], needs_labels: bool
) -> None:
    allowed = " ".join(header.get("classlabel", [])[1:]) if needs_labels else ""
    labelled = _true(header, "classlabel") or _true(header, "targetlabel")
    for number, line in lines:
        where = f"{path}, line {number}"
        if not file.series.seen and not labelled and "classlabel" not in header:
            labelled = _ends_with_label(line)
        *dimensions, label = line.split(":") if labelled else [*line.split(":"), ""]
        if not dimensions:
            raise InputError(f"{where}: no ':' before a class label.")
        if allowed and not _is_among(label.strip(), allowed):
            raise InputError(f"{where}: label {label.strip()!r} is not among those of @classLabel ({allowed[:100]}).")
        values = [_numbers(dimension.split(","), where) for dimension in dimensions]
        lengths = {len(value) for value in values}
        if len(lengths) > 1:
            raise InputError(
                f"{where}: its dimensions have {min(lengths)} to {max(lengths)} steps, one number expected."
            )
        _take(file, np.stack(values, axis=1), label.strip(), where)


def _ends_with_label(line: str) -> bool:
    """Whether a line of a file whose header says nothing of labels ends with one, as all before has several steps."""
    *dimensions, last = line.split(":")
    return bool(dimensions) and all("," in dimension for dimension in dimensions) and "," not in last


def _is_among(label: str, allowed: str) -> bool:
    """Whether a label is in the list of the header, which is separated by blanks or commas."""
    return label in UNKNOWN or f" {label} " in f" {allowed} " or label in allowed.split(",")


def _take_tsv(path: Path, lines: Iterator[tuple[int, str]], file: _File) -> None:
    """Read lines of a label and values, separated by tabs: series of one dimension."""
    for number, line in lines:
        where = f"{path}, line {number}"
        label, *cells = line.split("\t")
        if not cells:
            raise InputError(f"{where}: a label and values, separated by tabs, expected.")
        _take(file, _numbers(cells, where)[:, None], label.strip(), where)


def _take(file: _File, block: NDArray[np.float64], label: str, where: str) -> None:
    number = file.series.seen
    if file.drops_unlabelled and label in UNKNOWN:
        file.series.leave_out("series without a label (data.missing = 'drop')", where)
    elif file.series.add(block, where):
        file.labels.append(label)
        file.kept.append(number)


def _numbers(cells: list[str], where: str) -> NDArray[np.float64]:
    try:
        return np.array(cells, np.float64)
    except ValueError:
        values = []
        for step, cell in enumerate(cells):
            try:
                values.append(np.nan if cell.strip().lower() in MISSING else float(cell))
            except ValueError:
                raise InputError(f"{where}: {cell.strip()!r} at step {step} is not a number.") from None
        return np.array(values)


def _compare_header(path: Path, header: dict[str, list[str]], series: SeriesCollector, findings: Findings) -> None:
    """Record what the header says and the series are not; the series count."""
    found: dict[str, tuple[bool, str]] = {
        "univariate": (series.features <= 1, f"series have {series.features} dimensions"),
        "equallength": (len(set(series.lengths)) <= 1, "series have unequal lengths"),
    }
    for key, (fact, words) in found.items():
        if _true(header, key) and not fact:
            findings.warnings.append(f"{path}: its header says '@{key} true', but its {words}")
