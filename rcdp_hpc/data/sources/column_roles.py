"""The roles of the columns of a table: features, labels, sequences, times, names of the rows, unusable columns."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources.base import Columns
from rcdp_hpc.data.sources.cells import kind_of_type
from rcdp_hpc.data.sources.column_selection import quoted
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.labels import some_names
from rcdp_hpc.data.sources.table_files import TableFile
from rcdp_hpc.errors import InputError


def special_columns(data: DataSection, labelled: bool) -> list[str]:
    """Return the columns of labels and groups (if they are read), sequences and times that the settings name."""
    read = (data.label_column, data.group_column) if labelled else ()
    return [name for name in dict.fromkeys((*read, data.sequence_column, data.time_column)) if name]


class ColumnRoles:
    """The roles of the columns of a table, known before its rows are read.

    Parameters
    ----------
    path : Path
        File or folder, for messages.
    data : DataSection
        Names of columns.
    findings : Findings
        Receives warnings.
    files : sequence of TableFile
    known : Columns, optional
        Features and categories of the training table; default: they are determined from this table.
    labelled : bool
        Whether the labels are read.

    Attributes
    ----------
    names : list of str
        All columns, in the order of the file.
    kinds : dict of str to str
        Kind of each column, as from `kind_of_type`.
    special : list of str
        Columns of labels, groups, sequences and times.
    index, empty, nested : list of str
        Columns of pandas' index, columns without values, and columns of lists, structures or bytes.
    candidates : list of str
        Columns that can be features.
    id_name : str
        Column that names the samples; empty if there is none.

    Raises
    ------
    InputError
        If columns that the settings or the training table name are missing, or there is no candidate.
    """

    def __init__(
        self,
        path: Path,
        data: DataSection,
        findings: Findings,
        files: Sequence[TableFile],
        known: Columns | None,
        labelled: bool,
    ) -> None:
        self._path = path
        self._data = data
        self._findings = findings
        self._files = files
        self._known = known
        self._labelled = labelled
        self.special = special_columns(data, labelled)
        self.names = files[0].names
        self.kinds = self._kinds_of_columns()
        self._refuse_missing_columns()
        self.index, self.empty, self.nested = self._unusable_columns()
        self.candidates = list(known.features) if known else self._possible_features()
        self._refuse_nested_features()
        self._refuse_excluded_categories()
        if not self.candidates:
            raise InputError(f"{path}: no column of features; it has {some_names(self.names)}.")
        self.id_name = self._name_of_ids()

    def _kinds_of_columns(self) -> dict[str, str]:
        """Return the kind of each column; with several files, the first kind in `order` that a file has."""
        order = ("other", "time", "text", "number", "empty")
        kinds: dict[str, str] = {}
        for file in self._files:
            for name, arrow_type in zip(file.names, file.types(), strict=True):
                kinds[name] = min(kinds.get(name, "empty"), kind_of_type(arrow_type), key=order.index)
        return kinds

    def _refuse_missing_columns(self) -> None:
        data = self._data
        required = [*self.special, *(self._known.features if self._known else data.category_columns)]
        if self._known is None and self._labelled:
            required += [*filter(None, [data.id_column]), *data.keep_columns]
        missing = [name for name in dict.fromkeys(required) if name not in self.kinds]
        if not missing:
            if self._known is None and (unused := [name for name in data.drop_columns if name not in self.kinds]):
                self._findings.warnings.append(
                    f"{self._path}: data.drop_columns names {quoted(unused)}, which do not exist"
                )
            return
        if missing == [data.label_column] and self._labelled:
            raise InputError(self._no_label())
        close = get_close_matches(missing[0], self.names, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        what = (
            f"no column {missing[0]!r}"
            if len(missing) == 1
            else f"{len(missing)} columns are missing: {quoted(missing)}"
        )
        raise InputError(f"{self._path}: {what}; it has {some_names(self.names) or 'none'}.{hint}")

    def _no_label(self) -> str:
        from rcdp_hpc.data.sources.label_guess import likely_labels

        likely = likely_labels(self._files)
        message = f"{self._path}: no column {self._data.label_column!r}; it has {some_names(self.names) or 'none'}."
        if not likely:
            return f"{message} Name the column of the labels: --set data.label_column=NAME."
        lines = " or ".join(_label_line(name) for name in likely[:3])
        return f"{message} Name the column of the labels, likely {lines}."

    def _unusable_columns(self) -> tuple[list[str], list[str], list[str]]:
        """Return the columns of pandas' index, those without values, and those of lists, structures or bytes."""
        data = self._data
        used = {
            *self.special,
            data.label_column,
            data.group_column,
            data.id_column,
            *data.drop_columns,
            *data.category_columns,
        }
        features = {*used, *data.keep_columns}
        index = [name for name in self._files[0].index_columns if name not in features]
        empty = [name for name, kind in self.kinds.items() if kind == "empty" and name not in used]
        nested = [name for name, kind in self.kinds.items() if kind == "other" and name not in {*used, *index}]
        return index, empty, nested

    def _possible_features(self) -> list[str]:
        data = self._data
        excluded = {data.label_column, data.sequence_column, data.time_column, data.id_column, *data.drop_columns}
        excluded |= {data.group_column, *self.index, *self.empty, *self.nested}
        keep = {*data.keep_columns, *data.category_columns}
        return [
            name
            for name in self.names
            if name not in excluded and (self.kinds[name] in ("number", "text") or name in keep)
        ]

    def _refuse_excluded_categories(self) -> None:
        candidates = set(self.candidates)
        for name in self._known.categories if self._known else self._data.category_columns:
            if name not in candidates:
                raise InputError(
                    f"data.category_columns names {name}, which other settings of [data] exclude from the features."
                )

    def _name_of_ids(self) -> str:
        """Return the column that names the samples, if it is known before reading; empty otherwise."""
        if self._data.sequence_column:
            return ""
        if self._data.id_column and self._data.id_column in self.kinds:
            return self._data.id_column
        if self._data.id_column:
            self._findings.warnings.append(
                f"{self._path}: no column {self._data.id_column!r} (data.id_column); samples are numbered"
            )
        if self._known is not None and self._known.row_names in self.kinds:
            return self._known.row_names
        return self.index[0] if len(self.index) == 1 else ""

    def _refuse_nested_features(self) -> None:
        """Refuse new samples in which a feature of the training table is a column of lists, structures or bytes."""
        wrong = [name for name in self.nested if self._known is not None and name in self.candidates]
        if wrong:
            raise InputError(
                f"{self._path}: columns of lists, structures or bytes are not read: {quoted(wrong)}. The model was "
                "trained with single values there: write them as numbers or texts."
            )


def _label_line(name: str) -> str:
    quote = "'" if not name.replace("_", "").isalnum() else ""
    return f"--set {quote}data.label_column={name}{quote}"
