"""The source ``series_folder``: one file for each series, in one folder per class or listed in a table of labels."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.base import NewSamples, Source
from rcdp_hpc.data.sources.by_content import read_by_content
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.folders import SERIES_SUFFIXES, first_nested_file
from rcdp_hpc.data.sources.image_files import entries, shown
from rcdp_hpc.data.sources.image_layout import PARTS
from rcdp_hpc.data.sources.labels import checked_labels, encode_labels
from rcdp_hpc.data.sources.reader import SourceReader
from rcdp_hpc.data.sources.request import SampleRequest, SourceRequest
from rcdp_hpc.data.sources.series import SeriesCollector
from rcdp_hpc.data.sources.series_file import SUFFIXES, has_series, looks_like_time, read_series
from rcdp_hpc.data.sources.sniff import CSV, format_of
from rcdp_hpc.data.sources.text_files import open_text
from rcdp_hpc.errors import InputError

LABELS = "labels.csv"
FILE_NAMES = ("file", "filename", "file_name", "path", "name")
LABEL_NAMES = ("label", "class", "target", "y")
NAMED = 5
# Most levels of subfolders that are searched.
DEEPEST = 20


@dataclass(eq=False)
class _Part:
    """The series of a folder that are used, with their files and labels."""

    series: SeriesCollector
    files: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    names: tuple[str, ...] | None = None


class SeriesFolderReader(SourceReader):
    """Series with one file each."""

    takes_test_path = True
    file_formats = (CSV, "npy", "npz")

    def read(self, request: SourceRequest) -> Source:
        """Read series: ``path/CLASS/*.csv``, or files with a table ``path/labels.csv`` (columns file and label).

        Parameters
        ----------
        request : SourceRequest
            Its path is the folder. It may contain the folders ``train`` and ``test``, each with one folder per class or
            with ``labels.csv``. Series beyond the memory budget are stored in a temporary file.

        Returns
        -------
        Source
            Samples of shape (longest, features), padded with zeros at the end, with their lengths and file names.

        Raises
        ------
        InputError
            If there is no series, a file does not hold a series, or its features differ from those of the first file.
        """
        path, data, budget = request.path, request.data, request.budget
        findings = Findings()
        train_folder, test_folder = _parts(path, data.test_path, findings)
        train = _read(train_folder, _labelled(train_folder, data, findings), data, budget, findings)
        test = None
        if test_folder is not None:
            labelled = _labelled(test_folder, data, findings)
            test = _read(test_folder, labelled, data, budget, findings, train)
        for name in looks_like_time(train.names or (), data):
            findings.warnings.append(
                f"{path}: column {name!r} is a feature although it looks like a time. Set data.time_column = '{name}' "
                f"to put steps in its order and leave it out, or keep it with data.keep_columns = ['{name}']."
            )
        labels = checked_labels(train.labels, train_folder)
        test_labels = None if test is None else checked_labels(test.labels, f"{test_folder}")
        classes, y, test_y = encode_labels(labels, test_labels, f"{test_folder}", findings)
        lengths = train.series.lengths + ([] if test is None else test.series.lengths)
        longest, unequal = max(lengths), min(lengths) < max(lengths)
        return Source(
            kind="series",
            name="series_folder",
            classes=classes,
            train=train.series.part(y, longest, unequal, train.files),
            test=None if test is None or test_y is None else test.series.part(test_y, longest, unequal, test.files),
            scale=1.0,
            description=f"{path.name}: {len(y)} series of {min(lengths)} to {longest} steps with "
            f"{train.series.features} features" + ("" if test_y is None else f", {len(test_y)} for the test"),
            findings=findings,
        )

    def read_new(self, request: SampleRequest) -> NewSamples:
        """Return the series of a folder or of one file; an npz file holds many series."""
        path = request.path
        if path.is_dir():
            return read_samples(request)
        reader = None if format_of(path).name == "npz" else read_samples
        return read_by_content(request, self.file_formats, reader=reader)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether the folder has files of series in subfolders."""
        if not path.is_dir():
            return False
        file = first_nested_file(path)
        return file is not None and file.suffix.lower() in SERIES_SUFFIXES


def read_samples(request: SampleRequest) -> NewSamples:
    """Return the series of a file, or of a folder and its subfolders in the order of their paths.

    Errors are those of `SeriesFolderReader.read`.
    """
    path, findings = request.path, Findings()
    if path.is_dir():
        files = [file for file in _files(path, findings, deep=True) if file.name.lower() != LABELS]
    else:
        files, path = [path], path.parent
    part = _read(path, [(file, "") for file in files], request.data, request.budget, findings)
    return part.series.new_samples(request.longest, part.files, "file")


def _parts(path: Path, test_path: str, findings: Findings) -> tuple[Path, Path | None]:
    """Return the folders of the training and the test part."""
    if not path.is_dir():
        raise InputError(
            f"data.path = {path}: not a folder; data.source = 'series_folder' needs the folder of the files."
        )
    roles: dict[str, Path] = {}
    others = []
    for folder in entries(path, Findings())[0]:
        role = next((part for part, names in PARTS.items() if folder.name.lower() in names), "")
        if role and role in roles:
            raise InputError(f"{path}: {roles[role].name} and {folder.name} could each be the {role} part.")
        if role:
            roles[role] = folder
        else:
            others.append(folder)
    test = Path(test_path) if test_path else None
    if test is not None and not test.is_dir():
        raise InputError(f"data.test_path = {test}: no such folder.")
    if "train" not in roles:
        if roles:
            raise InputError(
                f"{path}: the folder {next(iter(roles.values())).name} is there, but no folder train. Put the classes "
                "of the training part into a folder train, or give the two folders as data.path and data.test_path."
            )
        return path, test
    test = test or roles.get("test") or roles.get("validation")
    for folder in [*others, *roles.values()]:
        if folder not in (test, roles["train"]):
            findings.leave_out("folders next to those of training and test", example=folder.name)
    if test is not None and test == roles.get("validation"):
        findings.assumed.append(f"{path}: the series of {test.name} are the test part")
    return roles["train"], test


def _labelled(folder: Path, data: DataSection, findings: Findings) -> list[tuple[Path, str]]:
    """Return the files of a part with their labels."""
    table = next((file for file in entries(folder, Findings())[1] if file.name.lower() == LABELS), None)
    if table is not None:
        return _listed(folder, table, data, findings)
    classes, _ = entries(folder, findings)
    if not classes:
        raise InputError(
            f"{folder}: no folders of classes and no {LABELS} there. Put the files of each class into a folder of its "
            f"name, or list them in {LABELS} with the columns file and label."
        )
    for file in _files(folder, Findings()):
        findings.leave_out("files outside the folders of the classes", example=file.name)
    labelled = [(file, entry.name) for entry in classes for file in _files(entry, findings, deep=True)]
    filled = {label for _, label in labelled}
    for entry in classes:
        if entry.name not in filled:
            raise InputError(
                f"{entry}: no series ({', '.join(SUFFIXES)}) of this class. Remove the folder, or add files."
            )
    return labelled


def _listed(folder: Path, table: Path, data: DataSection, findings: Findings) -> list[tuple[Path, str]]:
    """Return the files that a table of labels lists, with their labels."""
    with open_text(table, data.encoding, findings, Budget.of(data)) as text:
        content = text.read()
    first = content.partition("\n")[0]
    delimiter = next((sign for sign in ("\t", ";", ",") if sign in first), ",")
    try:
        header, *rows = list(csv.reader(io.StringIO(content), delimiter=delimiter, strict=True)) or [[]]
    except csv.Error as error:
        raise InputError(
            f"{table}: cannot be read as csv ({error}). A quotation mark that is not closed is a likely cause."
        ) from None
    names = [name.strip().lower() for name in header]
    places = [
        next((names.index(name) for name in accepted if name in names), -1) for accepted in (FILE_NAMES, LABEL_NAMES)
    ]
    if -1 in places:
        raise InputError(f"{table}: columns file and label expected in its first line, {', '.join(header)} found.")
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    short = next((number for number, row in enumerate(rows) if len(row) <= max(places)), None)
    if short is not None:
        raise InputError(
            f"{table}: row {short} (from 0) has {len(rows[short])} cells, {len(header)} in the first line."
        )
    _refuse_outside(table, [row[places[0]].strip() for row in rows])
    pairs = [(folder / row[places[0]].strip(), row[places[1]]) for row in rows]
    _refuse_wrong_list(table, [file for file, _ in pairs])
    listed = {file.resolve() for file, _ in pairs}
    for file in _files(folder, findings, deep=True):
        if file.resolve() not in listed and file != table:
            findings.leave_out(f"files that {table.name} does not list", example=file.name)
    return pairs


def _refuse_outside(table: Path, names: list[str]) -> None:
    """Raise an `InputError` if a table, which may come from others, names a file outside its folder."""
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{table}: {name[:80]!r} is not in the folder of the table. Names are relative to it.")


def _exists(file: Path) -> bool:
    try:
        return file.is_file()
    except (OSError, ValueError):  # an invalid file name
        return False


def _refuse_wrong_list(table: Path, files: list[Path]) -> None:
    absent = [file.name[:80] for file in files if not _exists(file)]
    if absent:
        raise InputError(
            f"{table}: {len(absent)} of {len(files)} files are not in its folder: {', '.join(absent[:NAMED])}"
            + (", ..." if len(absent) > NAMED else "")
            + ". Names are relative to the folder, with their endings."
        )
    if len(set(files)) < len(files):
        twice = next(file for number, file in enumerate(files) if file in files[:number])
        raise InputError(f"{table}: lists {twice.name} twice.")


def _read(
    folder: Path,
    files: list[tuple[Path, str]],
    data: DataSection,
    budget: Budget,
    findings: Findings,
    like: _Part | None = None,
) -> _Part:
    """Read series; all must have the features of the first file and of the training part `like`."""
    part = _Part(SeriesCollector(str(folder), budget.source // 2, data.missing, findings))
    names = None if like is None else like.names
    for file, label in files:
        content = read_series(file, data, findings)
        names = names or content.names
        if content.names is not None and content.names != names:
            raise InputError(
                f"{file}: columns {', '.join(content.names)}; the first file has {', '.join(names or ())}. All need "
                "the same columns in the same order."
            )
        if part.series.add(content.values, str(file)):
            part.files.append(shown(file, folder if folder in file.parents else None))
            part.labels.append(label)
    part.series.finish()
    part.names = names
    if like is not None and part.series.features != like.series.features:
        raise InputError(
            f"{folder}: series with {part.series.features} features, {like.series.features} in the training part."
        )
    return part


def _files(folder: Path, findings: Findings, deep: bool = False) -> list[Path]:
    """Return the files of series of a folder in the order of their paths, and record other files as left out."""
    files = []
    for file in _walk(folder, findings, deep):
        if has_series(file):
            files.append(file)
        elif file.name.lower() != LABELS:
            findings.leave_out(f"files that are not series ({', '.join(SUFFIXES)})", example=file.name)
    return sorted(files, key=lambda file: file.relative_to(folder).parts)


def _walk(folder: Path, findings: Findings, deep: bool, depth: int = 0) -> Iterator[Path]:
    folders, files = entries(folder, findings)
    yield from files
    if deep and depth < DEEPEST:
        for inner in folders:
            yield from _walk(inner, findings, deep, depth + 1)
