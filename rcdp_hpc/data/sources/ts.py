"""The source ``ts``: .ts files of the UCR/UEA archives, also with series of unequal length, and their .tsv files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.base import NewSamples, Source
from rcdp_hpc.data.sources.by_content import read_by_content
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.folders import holds_file
from rcdp_hpc.data.sources.number_text import are_plain, number_of_text
from rcdp_hpc.data.sources.reader import FixedFilesReader
from rcdp_hpc.data.sources.request import SampleRequest, SourceRequest
from rcdp_hpc.data.sources.series import SeriesCollector
from rcdp_hpc.data.sources.series_parts import UNKNOWN, SeriesOfFile, series_source, train_and_test
from rcdp_hpc.data.sources.sniff import ARFF, CSV, TS, format_of
from rcdp_hpc.data.sources.text_files import open_text
from rcdp_hpc.errors import InputError

# Some files of the archives were converted from ARFF files and have their comments.
COMMENTS = ("#", "%")
SUFFIXES = (".ts", ".tsv")
MISSING = {"?", "nan", "na", ""}


class TsReader(FixedFilesReader):
    """Time series of the UCR/UEA archives."""

    takes_test_path = True
    file_formats = (TS, ARFF)

    def read(self, request: SourceRequest) -> Source:
        """Read time series.

        Parameters
        ----------
        request : SourceRequest
            Its path is a .ts or .tsv file, or a folder with one ``*_TRAIN.ts`` (or .tsv) and at most one ``*_TEST.ts``.
            ``data.test_path`` is the test file if the path is a file. Series beyond the memory budget are stored in a
            temporary file.

        Returns
        -------
        Source
            Samples of shape (longest, dimensions), padded with zeros at the end, with their lengths; without lengths if
            all series have the same number of steps.

        Raises
        ------
        InputError
            If a file is missing or damaged, has no class labels or has time stamps, or a label is not among those that
            its header lists.
        """
        path, data, budget = request.path, request.data, request.budget
        findings = Findings()
        train_file, test_file = train_and_test(path, data.test_path, SUFFIXES)
        train = _parse(train_file, data, budget, findings)
        test = None if test_file is None else _parse(test_file, data, budget, findings)
        return series_source("ts", train, test, findings)

    def read_new(self, request: SampleRequest) -> NewSamples:
        """Return the series of a folder, training series first, or those of a file."""
        if request.path.is_dir():
            return self.read_all(request)
        return read_by_content(request, self.file_formats, tsv_is_series=True)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether the file, or a file of the folder, holds series of the archives."""
        if path.is_dir():
            return holds_file(path, *(f"_train{suffix}{packed}" for suffix in SUFFIXES for packed in ("", ".gz")))
        content = format_of(path).name
        return content == TS or (content == CSV and is_series_table(path))


def read_samples(request: SampleRequest) -> NewSamples:
    """Return the series of a file, padded to at least `longest` steps; lengths are None if all have `longest`.

    Labels are not used. Errors are those of `TsReader.read`, except for labels.
    """
    file = _parse(request.path, request.data, request.budget, Findings(), needs_labels=False)
    return file.new_samples(request.longest)


def _parse(
    path: Path, data: DataSection, budget: Budget, findings: Findings, needs_labels: bool = True
) -> SeriesOfFile:
    series = SeriesCollector(str(path), budget.source // 2, data.missing, findings)
    file = SeriesOfFile(path, series, drops_unlabelled=needs_labels and data.missing == "drop")
    with open_text(path, data.encoding, findings, budget) as text:
        numbered = ((number, line.strip()) for number, line in enumerate(text, 1))
        lines = ((number, line) for number, line in numbered if line and not line.startswith(COMMENTS))
        if is_tsv(path):
            _take_tsv(path, lines, file)
        else:
            header = _read_header(path, lines)
            _check_header(path, header, needs_labels)
            _take_series(path, lines, file, header, needs_labels)
            _compare_header(path, header, series, findings)
    series.finish()
    return file


def is_tsv(path: Path) -> bool:
    """Return whether a file has the suffix .tsv or .tsv.gz."""
    return path.name.lower().removesuffix(".gz").endswith(".tsv")


def is_series_table(path: Path) -> bool:
    """Return whether a file is a ``*_TRAIN.tsv`` or ``*_TEST.tsv`` of the UCR archive, without a header line."""
    if not is_tsv(path) or not path.name.lower().removesuffix(".gz").endswith(("_train.tsv", "_test.tsv")):
        return False
    with open_text(path, "", Findings()) as text:
        cells = next((line for line in text if line.strip()), "").rstrip("\r\n").split("\t")
    try:
        _numbers(cells[1:], "")
    except InputError:
        return False
    return len(cells) > 2


def _read_header(path: Path, lines: Iterator[tuple[int, str]]) -> dict[str, list[str]]:
    """Return the values of each key up to @data; keys are in small letters and without "@"."""
    header: dict[str, list[str]] = {}
    for number, line in lines:
        if not line.startswith("@"):
            raise InputError(f"{path}, line {number}: data before the line @data.")
        key, *values = line[1:].split() or [""]
        header[key.lower()] = values
        if key.lower() == "data":
            return header
    raise InputError(f"{path}: holds no series: there is no line @data, or nothing after it.")


def _true(header: dict[str, list[str]], key: str) -> bool:
    return [value.lower() for value in header.get(key, [])[:1]] == ["true"]


def _check_header(path: Path, header: dict[str, list[str]], needs_labels: bool) -> None:
    if _true(header, "timestamps"):
        raise InputError(
            f"{path}: '@timeStamps true': series with time stamps are not read; resample them to equal steps, and "
            "remove the time stamps."
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
    path: Path, lines: Iterator[tuple[int, str]], file: SeriesOfFile, header: dict[str, list[str]], needs_labels: bool
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
        file.take(np.stack(values, axis=1), label.strip(), where)


def _ends_with_label(line: str) -> bool:
    """Return whether a line without a declared label ends with one: all its other dimensions have several steps."""
    *dimensions, last = line.split(":")
    return bool(dimensions) and all("," in dimension for dimension in dimensions) and "," not in last


def _is_among(label: str, allowed: str) -> bool:
    """Return whether a label is in the list of the header, which is separated by blanks or commas."""
    return label in UNKNOWN or f" {label} " in f" {allowed} " or label in allowed.split(",")


def _take_tsv(path: Path, lines: Iterator[tuple[int, str]], file: SeriesOfFile) -> None:
    """Read lines of a label and values separated by tabs: series of one dimension."""
    for number, line in lines:
        where = f"{path}, line {number}"
        label, *cells = line.split("\t")
        if not cells:
            raise InputError(f"{where}: a label and values, separated by tabs, expected.")
        file.take(_numbers(cells, where)[:, None], label.strip(), where)


def _numbers(cells: list[str], where: str) -> NDArray[np.float64]:
    try:
        if not are_plain(cells):
            raise ValueError("not a number")
        return np.array(cells, np.float64)
    except ValueError:
        values = []
        for step, cell in enumerate(cells):
            try:
                values.append(np.nan if cell.strip().lower() in MISSING else number_of_text(cell))
            except ValueError:
                raise InputError(f"{where}: {cell.strip()!r} at step {step} is not a number.") from None
        return np.array(values)


def _compare_header(path: Path, header: dict[str, list[str]], series: SeriesCollector, findings: Findings) -> None:
    """Record where the header contradicts the series; the series are used."""
    facts: dict[str, tuple[bool, str]] = {
        "univariate": (series.features <= 1, f"series have {series.features} dimensions"),
        "equallength": (len(set(series.lengths)) <= 1, "series have unequal lengths"),
    }
    for key, (fact, words) in facts.items():
        if _true(header, key) and not fact:
            findings.warnings.append(f"{path}: its header declares '@{key} true', but its {words}")
