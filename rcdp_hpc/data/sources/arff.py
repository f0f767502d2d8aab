"""The source ``arff``: series of the UCR/UEA archives, and tables."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.arff_file import Attribute, content_lines, number_of, read_header, rows
from rcdp_hpc.data.sources.base import NewSamples, Source
from rcdp_hpc.data.sources.by_content import read_by_content
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.folders import holds_file
from rcdp_hpc.data.sources.labels import some_names
from rcdp_hpc.data.sources.reader import FixedFilesReader
from rcdp_hpc.data.sources.request import SampleRequest, SourceRequest
from rcdp_hpc.data.sources.series import SeriesCollector
from rcdp_hpc.data.sources.series_parts import SeriesOfFile, series_source, train_and_test
from rcdp_hpc.data.sources.sniff import ARFF, CSV, PARQUET, TS, format_of
from rcdp_hpc.data.sources.text_files import open_text
from rcdp_hpc.errors import InputError

LABEL_NAMES = ("class", "target", "label", "classattribute")
# Names of the steps of a series in the archives.
_STEP = re.compile(r"att(?:ribute)?_?([0-9]+)", re.IGNORECASE)


class ArffReader(FixedFilesReader):
    """Series or a table in an ARFF file."""

    takes_test_path = True
    file_formats = (ARFF, TS, CSV, PARQUET)

    def read(self, request: SourceRequest) -> Source:
        """Read an ARFF file, and the test file if there is one.

        A file with a relational attribute, or with attributes named att0, att1, ..., holds series; any other file holds
        a table. ``data.kind`` overrides this. Nominal features of a table are categories.

        Parameters
        ----------
        request : SourceRequest
            Its path is a file, or a folder with one ``*_TRAIN.arff`` and at most one ``*_TEST.arff``. The labels are
            the attribute ``data.label_column``; if there is none of this name, the attribute named class, target or
            label, otherwise the last nominal attribute.

        Raises
        ------
        InputError
            If a file is missing or damaged, or no attribute can hold the labels.
        """
        path, data, budget = request.path, request.data, request.budget
        findings = Findings()
        train_file, test_file = train_and_test(path, data.test_path, (".arff",))
        attributes = header_of(train_file, data, findings)
        label = label_of(attributes, data)
        if label is None:
            if "label_column" in data.model_fields_set:
                raise InputError(
                    f"{train_file}: no attribute {data.label_column!r} (data.label_column); it has "
                    f"{some_names([one.name for one in attributes])}."
                )
            raise InputError(
                f"{train_file}: no nominal attribute that could be the class; name the attribute of the labels in "
                "data.label_column."
            )
        if not has_series(attributes, label, data.kind):
            from rcdp_hpc.data.sources import tables

            settings = _table_settings(attributes, label, data, test_file)
            source = tables.TableReader().read(SourceRequest(train_file, settings))
            source.findings.assumed[:0] = findings.assumed
            return source
        parts = [_series(file, data, budget, findings) for file in (train_file, test_file) if file is not None]
        if data.kind == "auto" and not parts[0].relational:
            findings.assumed.append(
                f"{train_file.name}: by their names, its attributes are the steps of a series (data.kind = 'table' "
                "reads each as a feature)"
            )
        return series_source("arff", parts[0].file, parts[1].file if len(parts) > 1 else None, findings)

    def read_new(self, request: SampleRequest) -> NewSamples:
        """Return the samples of a folder, training samples first, or those of a file."""
        if request.path.is_dir():
            return self.read_all(request)
        return read_by_content(request, self.file_formats, tsv_is_series=len(request.shape) == 2)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether the file, or a file of the folder, is an ARFF file."""
        return holds_file(path, "_train.arff", "_train.arff.gz") if path.is_dir() else format_of(path).name == ARFF

    def propose(self, path: Path, data: DataSection) -> tuple[dict[str, Any], list[str]]:
        """Return the settings of the columns of a table, and sentences that give the reasons."""
        return propose_settings(path, data)


def read_samples(request: SampleRequest) -> NewSamples:
    """Return the samples of a file without their labels; errors are those of `ArffReader.read`.

    The file has series if the model's samples have two axes, and a table if the model was trained on columns.
    """
    path, data, columns = request.path, request.data, request.columns
    findings = Findings()
    attributes = header_of(path, data, findings)
    kind = "table" if columns is not None else "series" if len(request.shape) == 2 else data.kind
    label = label_of(attributes, data)
    if has_series(attributes, label, kind):
        part = _series(path, data, request.budget, findings, needs_labels=False)
        return part.file.new_samples(request.longest)
    from rcdp_hpc.data.sources import tables

    if columns is None:
        return tables.read_samples(replace(request, data=_table_settings(attributes, label, data, None)))
    if label is not None and label.name not in columns.features:
        data = data.model_copy(update={"label_column": label.name})
    return tables.read_samples(replace(request, data=data))


def propose_settings(path: Path, data: DataSection) -> tuple[dict[str, Any], list[str]]:
    """Return settings of ``[data]`` for a file and the reasons, as `table_description.propose_columns` does."""
    train_file, _ = train_and_test(path, data.test_path, (".arff",))
    attributes = header_of(train_file, data, Findings())
    label = label_of(attributes, data)
    if label is None or has_series(attributes, label, data.kind):
        return {}, []
    from rcdp_hpc.data.sources.table_description import propose_columns

    labelled = DataSection(**data.model_dump(exclude_unset=True) | {"label_column": label.name})
    settings, sentences = propose_columns(train_file, labelled)
    return settings, [f"label_column = {label.name!r}: its name, or the last nominal attribute", *sentences[1:]]


def header_of(path: Path, data: DataSection, findings: Findings) -> list[Attribute]:
    """Return the attributes of a file."""
    with open_text(path, data.encoding, findings, Budget.of(data)) as text:
        return read_header(path, content_lines(text))


def label_of(attributes: list[Attribute], data: DataSection) -> Attribute | None:
    """Return the attribute of the labels; None if no attribute can hold them."""
    by_name = {one.name: one for one in attributes if one.kind != "relational"}
    if data.label_column in by_name:
        return by_name[data.label_column]
    if "label_column" in data.model_fields_set and data.label_column != "label":
        return None
    usual = [one for name, one in by_name.items() if name.lower() in LABEL_NAMES]
    nominal = [one for one in attributes if one.kind == "nominal"]
    return next(reversed(usual or nominal), None)


def has_series(attributes: list[Attribute], label: Attribute | None, kind: str) -> bool:
    """Return whether the attributes are those of series."""
    features = [one for one in attributes if one is not label]
    if any(one.kind == "relational" for one in features):
        return True
    if kind != "auto":
        return kind == "series"
    steps = [_STEP.fullmatch(one.name) for one in features if one.kind == "number"]
    places = [int(match[1]) for match in steps if match]
    return len(places) == len(features) > 1 and places == list(range(places[0], places[0] + len(places)))


def _table_settings(
    attributes: list[Attribute], label: Attribute | None, data: DataSection, test: Path | None
) -> DataSection:
    excluded = {data.id_column, data.sequence_column, data.time_column, data.group_column}
    excluded |= {*data.drop_columns, *data.category_columns}
    nominal = [
        one.name for one in attributes if one.kind == "nominal" and one is not label and one.name not in excluded
    ]
    changes = {
        "category_columns": [*data.category_columns, *nominal],
        "test_path": "" if test is None else str(test),
        **({} if label is None else {"label_column": label.name}),
    }
    return data.model_copy(update=changes)


class _Series:
    """The series of a file, and the roles of its attributes."""

    def __init__(self, path: Path, attributes: list[Attribute], label: Attribute | None, file: SeriesOfFile) -> None:
        self.file = file
        features = [one for one in attributes if one is not label]
        relational = [place for place, one in enumerate(attributes) if one.kind == "relational"]
        self.relational = bool(relational)
        wrong = next((one for one in features if one.kind not in ("number", "relational")), None)
        if len(relational) > 1 or (relational and len(features) > 1) or wrong is not None:
            what = f"attribute {wrong.name!r} is neither" if wrong else "it has more"
            raise InputError(
                f"{path}: a file of series has a class and one relational attribute, or a class and a number for each "
                f"step; {what}."
            )
        self._attributes = attributes
        self._label = None if label is None else attributes.index(label)
        self._places = relational or [place for place, one in enumerate(attributes) if one is not label]
        if not self._places:
            raise InputError(f"{path}: no attribute of values.")

    def take(self, values: list[str | None], where: str) -> None:
        """Add the series of a row."""
        label = "" if self._label is None else (values[self._label] or "")
        if self.relational:
            block = self._dimensions(values[self._places[0]], where)
        else:
            cells = [(values[place], self._attributes[place].name) for place in self._places]
            block = np.array([[number_of(value, name, where)] for value, name in cells])
        self.file.take(block, label, where)

    def _dimensions(self, text: str | None, where: str) -> NDArray[np.float64]:
        """Return the series in a relational value, which has one line per dimension with one value per step."""
        inner = self._attributes[self._places[0]].inner
        lines = [line.split(",") for line in (text or "").strip().split("\n") if line.strip()]
        if not lines:
            raise InputError(f"{where}: an empty series.")
        steps = {len(line) for line in lines}
        if len(steps) > 1 or (inner and steps != {len(inner)}):
            expected = f"{len(inner)} expected" if inner else "one number expected"
            raise InputError(f"{where}: its dimensions have {min(steps)} to {max(steps)} values, {expected}.")
        numbers = [
            [
                number_of(None if cell.strip() == "?" else cell.strip(), f"step {step}, dimension {dimension}", where)
                for step, cell in enumerate(line)
            ]
            for dimension, line in enumerate(lines)
        ]
        return np.array(numbers).T


def _series(path: Path, data: DataSection, budget: Budget, findings: Findings, needs_labels: bool = True) -> _Series:
    collector = SeriesCollector(str(path), budget.source // 2, data.missing, findings)
    file = SeriesOfFile(path, collector, drops_unlabelled=needs_labels and data.missing == "drop")
    with open_text(path, data.encoding, findings, Budget.of(data)) as text:
        lines = content_lines(text)
        attributes = read_header(path, lines)
        series = _Series(path, attributes, label_of(attributes, data), file)
        for where, values in rows(path, lines, attributes):
            series.take(values, where)
    collector.finish()
    return series
