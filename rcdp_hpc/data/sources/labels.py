"""Convert labels to class indices: one set of rules for all readers.

A class is identified by its name. The texts ``01`` and ``1`` are two classes. Blanks at the ends of a text and the
Unicode form of its characters do not count. The numbers 0.0 and 1.0 are the classes 0 and 1; booleans are the classes
False and True.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.budget import TEXT_BYTES
from rcdp_hpc.data.sources.class_names import (
    NUMBER,
    canonical_names,
    clean_name,
    in_order,
    report_lookalikes,
    some_names,
)
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.errors import InputError

MISSING = -1
# Texts that are a missing label. The texts of MAYBE_MISSING are so only among numbers: "None" can be a class.
MISSING_TEXTS = {"", "nan", "NaN", "NAN", "<NA>", "NA", "N/A", "n/a", "#N/A", "NaT", "null", "NULL", "?"}
MAYBE_MISSING = {"None", "none", "NONE", "-", ".", "n.a.", "missing"}
MISSING_ADVICE = "complete the labels, or leave these samples out with data.missing = 'drop'"

# With fewer samples, labels are not checked for ids and measured quantities.
FEW_SAMPLES = 20
MANY_FRACTIONS = 30
MANY_NUMBERS = 100
LONGEST_NAME = 32_767  # limit of a cell in a spreadsheet

BLOCK_ROWS = 2**17
# Most bytes of different labels; more are not names of classes.
MOST_NAME_BYTES = 2**26

__all__ = ["MISSING", "LabelCollector", "Labels", "checked_labels", "clean_name", "encode_labels", "some_names"]


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of samples: the different labels, and the index of each sample's label.

    Attributes
    ----------
    names : list of str
        The different labels as text.
    codes : ndarray of int64, shape (N,)
        Index in `names` of each sample's label; -1 if it is missing.
    where : str
        File and key or column, for messages.
    numbers : bool
        Whether the labels are numbers instead of texts.
    """

    names: list[str]
    codes: NDArray[np.int64]
    where: str = "labels"
    numbers: bool = False

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Whether each sample has a label, shape (N,)."""
        return self.codes != MISSING

    def select(self, rows: NDArray[Any]) -> Labels:
        """Return the labels of some samples, selected by a mask or by indices."""
        return Labels(self.names, self.codes[rows], self.where, self.numbers)


class LabelCollector:
    """Collects labels block by block; each different label is held once.

    Parameters
    ----------
    where : str
        File and key or column, for messages.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._names: dict[str, int] = {}
        self._codes: list[NDArray[np.int64]] = []
        self._numbers = True
        self._rows = 0
        self._name_bytes = 0

    def add(self, values: Any) -> NDArray[np.bool_]:
        """Add a block of labels, an array or a list; return whether each label is missing, shape (n,).

        Raises
        ------
        InputError
            If a value is not a label, for example a date, a list or an infinite number.
        """
        names, codes, numbers = _distinct(values, self._where, self._rows)
        places = np.array([self._place(name) for name in names], np.int64)
        block = places[codes] if len(places) else codes
        self._codes.append(block)
        self._numbers = self._numbers and numbers
        self._rows += len(block)
        return block == MISSING

    def finish(self) -> Labels:
        """Return the labels of all blocks."""
        codes = np.concatenate(self._codes) if self._codes else np.empty(0, np.int64)
        return _without_missing_numbers(Labels(list(self._names), codes, self._where, self._numbers))

    def _place(self, name: str) -> int:
        if clean_name(name) in MISSING_TEXTS:
            return MISSING
        if name not in self._names:
            self._name_bytes += 2 * TEXT_BYTES + len(name)
            if self._name_bytes > MOST_NAME_BYTES:
                raise InputError(
                    f"{self._where}: more than {len(self._names)} distinct values look like an id or free text, not "
                    "like classes. Name the labels of the classes."
                )
        return self._names.setdefault(name, len(self._names))


def checked_labels(values: Any, where: Path | str, key: str = "", missing: str = "refuse") -> Labels:
    """Return the labels in an array or a list, checked.

    Parameters
    ----------
    values : array_like, shape (N,) or (N, 1)
        Integers of any size, integers as floats, booleans, texts or bytes. None, NaN and empty texts are missing
        labels.
    where : Path or str
        The file, for messages.
    key : str
        The key or column, for messages.
    missing : {"refuse", "drop", "mean", "median", "constant"}
        ``data.missing``. With "drop" a missing label has the code -1, and the reader leaves the sample out. With
        any other a missing label is refused, because a label cannot be filled.

    Raises
    ------
    InputError
        If there is not one label for each sample, a value is not a label, or a label is missing.
    """
    name = f"{where}: {key}" if key else str(where)
    collector = LabelCollector(name)
    values = _one_axis(values, name)
    # In blocks, because finding the different labels needs several times the memory of a block.
    for start in range(0, max(1, len(values)), BLOCK_ROWS):
        collector.add(values[start : start + BLOCK_ROWS])
    labels = collector.finish()
    if missing != "drop":
        refuse_missing(labels)
    return labels


def refuse_missing(labels: Labels) -> None:
    """Raise an `InputError` if a label is missing."""
    unlabelled = np.flatnonzero(~labels.present)
    if len(unlabelled):
        what = "label is missing" if len(unlabelled) == 1 else "labels are missing"
        raise InputError(
            f"{labels.where}: {len(unlabelled)} {what} (empty, NaN or NA), first in row {unlabelled[0]} (from 0): "
            f"{MISSING_ADVICE}."
        )


def encode_labels(
    train: Labels | NDArray[Any] | Sequence[Any],
    test: Labels | NDArray[Any] | Sequence[Any] | None,
    test_name: str,
    findings: Findings | None = None,
) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64] | None]:
    """Assign indices to the classes, in numerical order if all names are numbers, otherwise in alphabetical order.

    Parameters
    ----------
    train : Labels, or an array of labels, shape (N,)
        Training labels, which define the classes. No label is missing.
    test : Labels, or an array of labels, shape (M,), or None
        Test labels.
    test_name : str
        Origin of the test labels, for messages.
    findings : Findings, optional
        Receives names that were merged and names that look alike.

    Returns
    -------
    classes : list of str
    train_indices : ndarray of int64, shape (N,)
    test_indices : ndarray of int64, shape (M,), or None

    Raises
    ------
    InputError
        If a test label does not occur in the training labels, the labels look like a measured quantity or an id, or a
        label is missing.
    """
    train = train if isinstance(train, Labels) else checked_labels(train, "labels")
    if test is not None and not isinstance(test, Labels):
        test = checked_labels(test, test_name)
    findings = Findings() if findings is None else findings
    for labels in (train, test):
        if labels is not None:
            refuse_missing(labels)
    names = canonical_names(train.names, [] if test is None else test.names, findings, train.where)
    classes = in_order({names[name] for name in train.names})
    _refuse_other_than_classes(train, classes, findings)
    report_lookalikes(classes, findings)
    for name in sorted(MAYBE_MISSING & set(classes)):
        findings.warnings.append(
            f"{train.where}: {name!r} is read as a class; if it is a missing label, leave it empty"
        )
    _report_odd(train.where, classes, findings)
    formulas = [name for name in classes if name.startswith("=") and len(name) > 1]
    if formulas:
        findings.warnings.append(
            f"{train.where}: labels that begin as spreadsheet formulas are read as texts: {some_names(formulas)}. If "
            "formulas give the labels, save their values"
        )
    places = {name: place for place, name in enumerate(classes)}
    train_indices = _indices(train, names, places)
    if test is None:
        return classes, train_indices, None
    test_indices = _indices(test, names, places)
    unknown = np.flatnonzero(test_indices == MISSING)
    if len(unknown):
        row = int(unknown[0])
        raise InputError(
            f"{test_name}: label {test.names[test.codes[row]]!r} of row {row} does not occur in the training labels "
            f"({some_names(classes)})."
        )
    return classes, train_indices, test_indices


def _indices(labels: Labels, names: dict[str, str], places: dict[str, int]) -> NDArray[np.int64]:
    table = np.array([places.get(names[name], MISSING) for name in labels.names], np.int64)
    return table[labels.codes] if len(table) else np.empty(0, np.int64)


def _report_odd(where: str, classes: list[str], findings: Findings) -> None:
    """Refuse names that are too long, and record those with line breaks, which may be several rows read as one."""
    longest = max(map(len, classes))
    if longest > LONGEST_NAME:
        raise InputError(f"{where}: a label of {longest} characters; names of classes have at most {LONGEST_NAME}.")
    broken = [name for name in classes if "\n" in name or "\r" in name]
    if broken:
        findings.warnings.append(
            f"{where}: labels have line breaks, as in {some_names(broken[:1])}. If a quotation mark is not closed, "
            "rows are missing"
        )


def _refuse_other_than_classes(labels: Labels, classes: list[str], findings: Findings) -> None:
    """Refuse labels that are a measured quantity or an id, and record those that may be."""
    rows, distinct = len(labels), len(classes)
    summary = f"{labels.where}: {distinct} distinct values in {rows} samples"
    advice = "This package classifies: name the labels of the classes, or group the values into a few classes first."
    numbers = all(NUMBER.fullmatch(name) for name in classes)
    fractions = numbers and not all(float(name).is_integer() for name in classes)
    if fractions and (distinct > MANY_FRACTIONS or (2 * distinct > rows and distinct > 2)):
        raise InputError(f"{summary} look like a measured quantity, as in {some_names(classes[:3])}. {advice}")
    if fractions:
        findings.warnings.append(f"{summary} are read as classes, as in {some_names(classes)}")
    if rows >= FEW_SAMPLES and 2 * distinct > rows:
        what = "a measured quantity or an id" if numbers else "an id or free text"
        raise InputError(f"{summary} look like {what}, as in {some_names(classes[:3])}. {advice}")
    if numbers and distinct > MANY_NUMBERS:
        low, high = float(classes[0]), float(classes[-1])
        if high - low + 1 > 2 * distinct:
            findings.warnings.append(
                f"{summary} from {classes[0]} to {classes[-1]} may be a measured quantity. {advice}"
            )


def _without_missing_numbers(labels: Labels) -> Labels:
    """Treat the texts of MAYBE_MISSING as missing if all other labels are numbers."""
    others = [place for place, name in enumerate(labels.names) if clean_name(name) not in MAYBE_MISSING]
    names = [labels.names[place] for place in others]
    if len(names) in (0, len(labels.names)) or not all(NUMBER.fullmatch(clean_name(name)) for name in names):
        return labels
    table = np.full(len(labels.names), MISSING)
    table[others] = np.arange(len(others))
    return Labels(names, np.where(labels.present, table[labels.codes], MISSING), labels.where, labels.numbers)


def _one_axis(values: Any, where: str) -> Any:
    shape = getattr(values, "shape", None)
    if shape is None or len(shape) == 1:
        return values
    if len(shape) == 2 and shape[1] == 1:
        return values[:, 0]
    hint = ""
    if len(shape) == 2 and shape[1] > 1 and values.dtype.kind in "buif":
        one_hot = bool(((values == 0) | (values == 1)).all() and (values.astype(np.float64).sum(1) == 1).all())
        hint = " It is one-hot: save y.argmax(axis=1)." if one_hot else ""
    raise InputError(f"{where} has shape {tuple(shape)}, expected one label for each sample, (samples,).{hint}")


def _distinct(values: Any, where: str, first_row: int) -> tuple[list[str], NDArray[np.int64], bool]:
    """Return the different labels as text, the index of each value's label, and whether labels are numbers."""
    array = values if isinstance(values, np.ndarray) else None
    if array is None or array.dtype.kind == "O":
        return _distinct_objects(values, where, first_row)
    kind = array.dtype.kind
    if kind not in "buifUS":
        raise InputError(f"{where} holds {array.dtype}, expected whole numbers or texts as labels.")
    different, codes = np.unique(array, return_inverse=True)
    codes = codes.reshape(-1).astype(np.int64)
    if kind == "f":
        return [_float_name(value, where) for value in different], codes, True
    if kind == "S":
        return [value.decode("utf-8", "backslashreplace") for value in different], codes, False
    return [str(value) for value in different], codes, kind in "ui"


def _distinct_objects(values: Iterable[Any], where: str, first_row: int) -> tuple[list[str], NDArray[np.int64], bool]:
    places: dict[str, int] = {}
    codes_of: dict[Any, int] = {}
    codes: list[int] = []
    numbers = True
    for row, value in enumerate(values, first_row):
        # The type is part of the key, because 1, 1.0 and True are equal as keys.
        key = (type(value), value) if isinstance(value, str | int | bytes | float) else None
        code = codes_of.get(key) if key is not None else None
        if code is None:
            name, number = _object_name(value, where, row)
            numbers = numbers and number
            code = places.setdefault(name, len(places))
            if key is not None:
                codes_of[key] = code
        codes.append(code)
    return list(places), np.array(codes, np.int64), numbers


def _object_name(value: Any, where: str, row: int) -> tuple[str, bool]:
    """Return the name of a label, and whether it is a number."""
    if value is None:
        return "", True
    if isinstance(value, str):
        return str(value), False
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace"), False
    if isinstance(value, bool | np.bool_):
        return str(bool(value)), False
    if isinstance(value, int | np.integer):
        return str(int(value)), True
    if isinstance(value, float | np.floating):
        return _float_name(value, where), True
    if isinstance(value, Decimal):
        return _decimal_name(value, where), True
    if isinstance(value, date | time | timedelta | np.datetime64 | np.timedelta64):
        raise InputError(f"{where} holds dates or times (row {row}, from 0, is {value}), which are not classes.")
    raise InputError(
        f"{where} holds {type(value).__name__} in row {row} (from 0), expected whole numbers or texts as labels."
    )


def _float_name(value: Any, where: str) -> str:
    """Return "1" for 1.0, and other numbers with the digits of their number format."""
    if math.isnan(value):
        return ""
    if math.isinf(value):
        raise InputError(f"{where} holds infinity, which is not a class.")
    return str(int(value)) if float(value).is_integer() else str(value)


def _decimal_name(value: Decimal, where: str) -> str:
    if value.is_nan():
        return ""
    if value.is_infinite():
        raise InputError(f"{where} holds infinity, which is not a class.")
    return str(int(value)) if value == value.to_integral_value() else f"{value.normalize():f}"
