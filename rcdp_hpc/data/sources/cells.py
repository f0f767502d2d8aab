"""Convert values of a table to numbers: arrow columns of any type, and texts in the notations of csv files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

MISSING_TEXTS = (
    "", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "NaT", "NULL", "Null", "null", "None", "none", "NONE",
    "?", "-", "--", ".", "missing", "n.a.", "#N/A N/A", "-nan", "#DIV/0!", "#VALUE!", "#REF!", "#NUM!", "#NAME?",
)  # fmt: skip
# float64 represents integers below this exactly; 2**53 + 1 is already rounded to 2**53.
EXACT = 2**53
PLAIN = r"^-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$|^[-+]?(inf|Inf|INF|infinity|Infinity)$"
GROUPS = {
    ".": r"^([-+]?)([0-9]{1,3}(?:[, '’\x{00a0}\x{202f}][0-9]{3})+)((?:\.[0-9]*)?)$",
    ",": r"^([-+]?)([0-9]{1,3}(?:[. '’\x{00a0}\x{202f}][0-9]{3})+)((?:,[0-9]*)?)$",
}
LONG_WHOLE = r"^[-+]?[0-9]{16,}$"
BOOLEANS = {"true": "1", "false": "0"}
ISO_DATE = r"[0-9]{4}[-/.](0?[1-9]|1[0-2])[-/.](0?[1-9]|[12][0-9]|3[01])"
LOCAL_DATE = r"(0?[1-9]|[12][0-9]|3[01])[-/.](0?[1-9]|[12][0-9]|3[01])[-/.]([0-9]{4}|[0-9]{2})"
CLOCK = r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?( ?[AaPp][Mm])?"
TIME_TEXT = re.compile(
    rf"({ISO_DATE}|{LOCAL_DATE})([T ]{CLOCK})?( ?(Z|UTC|[-+][0-9]{{2}}:?[0-9]{{2}}))?|{CLOCK}", re.ASCII
)
DAY_FIRST = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})(.*)", re.ASCII | re.DOTALL)


@dataclass(eq=False)
class OddText:
    """A column of a block with texts that are not numbers.

    Attributes
    ----------
    texts : pyarrow.Array
        Values without blanks at the ends; null if missing.
    odd : ndarray of bool, shape (rows,)
        Whether a value is neither a number nor missing.
    """

    texts: Any
    odd: NDArray[np.bool_]


@dataclass(eq=False)
class Numbers:
    """Columns of a block as numbers.

    Attributes
    ----------
    values : ndarray of float64, shape (rows, columns)
        NaN if a value is missing or odd.
    odd : dict of int to OddText
        Columns with texts that are not numbers, by their index.
    inexact : set of int
        Indices of columns with integers beyond 2**53, which float64 does not represent exactly.
    booleans : set of int
        Indices of columns of True and False, written as text.
    """

    values: NDArray[np.float64]
    odd: dict[int, OddText] = field(default_factory=dict)
    inexact: set[int] = field(default_factory=set)
    booleans: set[int] = field(default_factory=set)


def kind_of_type(arrow_type: pa.DataType) -> str:
    """Return the kind of values of an arrow type: "number", "text", "time", "empty" or "other"."""
    from pyarrow import types

    if types.is_dictionary(arrow_type):
        return kind_of_type(arrow_type.value_type)
    if types.is_null(arrow_type):
        return "empty"
    if types.is_boolean(arrow_type) or types.is_integer(arrow_type) or types.is_floating(arrow_type):
        return "number"
    if types.is_decimal(arrow_type) or types.is_duration(arrow_type):
        return "number"
    if types.is_date(arrow_type) or types.is_timestamp(arrow_type) or types.is_time(arrow_type):
        return "time"
    if types.is_string(arrow_type) or types.is_large_string(arrow_type) or types.is_string_view(arrow_type):
        return "text"
    return "other"


def read_numbers(columns: list[pa.Array], decimal: str) -> Numbers:
    """Convert columns of equal length to numbers.

    Parameters
    ----------
    columns : list of pyarrow.Array
        Columns of the kinds "number", "text", "time" (becomes seconds since 1970 or since midnight) and "empty".
    decimal : {".", ","}
        Decimal mark of numbers in texts.
    """
    import pyarrow as pa

    rows = len(columns[0]) if columns else 0
    result = Numbers(np.full((rows, len(columns)), np.nan))
    places: dict[pa.DataType, list[int]] = {}
    for place, column in enumerate(columns):
        if pa.types.is_dictionary(column.type):
            columns[place] = column = column.dictionary_decode()
        if not pa.types.is_null(column.type):
            places.setdefault(column.type, []).append(place)
    for arrow_type, same in places.items():
        if kind_of_type(arrow_type) == "text":
            _read_texts(columns, same, decimal, result)
        else:
            _read_typed(pa.concat_arrays([columns[place] for place in same]), same, result)
    return result


def texts_of(column: pa.Array) -> tuple[list[str], NDArray[np.int64]]:
    """Return the different values of a column as clean texts, and the index of each row's text; -1 is missing.

    Integers are written without a decimal point, so that missing values do not change the texts.
    """
    import pyarrow as pa

    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    codes = np.where(np.isnan(codes), -1, codes) if codes.dtype.kind == "f" else codes
    names: dict[str, int] = {}
    table = [_place(value, names) for value in encoded.dictionary.to_pylist()]
    # The last entry is for the code -1.
    return list(names), np.array([*table, -1], np.int64)[codes.astype(np.int64)]


def is_time_text(text: str) -> bool:
    """Return whether a text is a date, a time of day or both."""
    return TIME_TEXT.fullmatch(text) is not None


def seconds_of(text: str) -> float | None:
    """Return a date in ISO form or in the form day.month.year as seconds since 1970; None for other texts.

    A date without a time zone is read as UTC.
    """
    text = re.sub(r"^(\d{4})/(\d{1,2})/(\d{1,2})", lambda match: f"{match[1]}-{match[2]:0>2}-{match[3]:0>2}", text)
    if match := DAY_FIRST.fullmatch(text):
        text = f"{match[3]}-{match[2]:0>2}-{match[1]:0>2}{match[4]}"
    try:
        time = datetime.fromisoformat(text.replace(" UTC", "Z"))
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _place(value: Any, names: dict[str, int]) -> int:
    from rcdp_hpc.data.sources.class_names import clean_name

    if value is None or value != value:
        return -1
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    name = clean_name(value.isoformat() if isinstance(value, date) else str(value))
    return names.setdefault(name, len(names)) if name else -1


def _read_typed(column: pa.Array, places: list[int], result: Numbers) -> None:
    """Convert columns of one type, given as one concatenated array."""
    import pyarrow as pa
    from pyarrow import compute as pc

    arrow_type, unit = column.type, 1.0
    if pa.types.is_float16(arrow_type):
        column = pc.cast(column, pa.float32())
    elif pa.types.is_date(arrow_type):
        column, unit = pc.cast(pc.cast(column, pa.timestamp("ms")), pa.int64()), 1e3
    elif pa.types.is_temporal(arrow_type):
        units = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
        unit = units[arrow_type.unit]
        column = pc.cast(column, pa.int32() if pa.types.is_time32(arrow_type) else pa.int64())
    values = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    values = values.reshape(len(places), -1).T
    if pa.types.is_integer(arrow_type):
        with np.errstate(invalid="ignore"):
            beyond = (np.abs(values) >= EXACT).any(axis=0)
        result.inexact |= {places[number] for number in np.flatnonzero(beyond)}
    result.values[:, places] = values / unit


def _read_texts(columns: list[pa.Array], places: list[int], decimal: str, result: Numbers) -> None:
    """Convert columns of text: in one cast if all are plain numbers, otherwise step by step."""
    import pyarrow as pa
    from pyarrow import compute as pc

    joined = pa.concat_arrays([columns[place] for place in places])
    if decimal == ".":
        try:
            values = pc.cast(joined, pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:
            pass
        else:
            result.values[:, places] = values.reshape(len(places), -1).T
            _note_inexact(joined, places, result)
            return
    texts = pc.utf8_trim_whitespace(pc.cast(joined, pa.large_string()))
    missing = pc.is_in(texts, value_set=pa.array(MISSING_TEXTS, pa.large_string()))
    texts = pc.if_else(missing, pa.scalar(None, pa.large_string()), texts)
    plain = _plain_numbers(texts, decimal)
    odd = _numbers_of(plain, places, result)
    _note_inexact(plain, places, result)
    for number in np.flatnonzero(odd.any(axis=1)).tolist():
        column = texts.slice(number * odd.shape[1], odd.shape[1])
        lower = pc.utf8_lower(column)
        if pc.all(pc.is_in(lower, value_set=pa.array([*BOOLEANS, None], pa.large_string()))).as_py():
            ones = pc.replace_substring(pc.replace_substring(lower, "true", "1"), "false", "0")
            _numbers_of(ones, [places[number]], result)
            result.booleans.add(places[number])
        else:
            result.odd[places[number]] = OddText(column, odd[number])


def _numbers_of(plain: pa.Array, places: list[int], result: Numbers) -> NDArray[np.bool_]:
    """Store numbers in the result; return which texts are not numbers, shape (columns, rows)."""
    import pyarrow as pa
    from pyarrow import compute as pc

    is_number = pc.match_substring_regex(plain, PLAIN)
    values = pc.cast(pc.if_else(is_number, plain, pa.scalar(None, plain.type)), pa.float64())
    result.values[:, places] = values.to_numpy(zero_copy_only=False).reshape(len(places), -1).T
    odd: NDArray[np.bool_] = pc.fill_null(pc.invert(is_number), False).to_numpy(zero_copy_only=False)
    return odd.reshape(len(places), -1)


def _note_inexact(joined: pa.Array, places: list[int], result: Numbers) -> None:
    with np.errstate(invalid="ignore"):
        beyond = (np.abs(result.values[:, places]) >= EXACT).any(axis=0)
    rows = len(result.values)
    for number in np.flatnonzero(beyond).tolist():
        if _any_matches(joined.slice(number * rows, rows), LONG_WHOLE):
            result.inexact.add(places[number])


def _plain_numbers(texts: pa.Array, decimal: str) -> pa.Array:
    """Return numbers with a decimal point, without a plus sign and without separators of thousands."""
    from pyarrow import compute as pc

    texts = pc.replace_substring(texts, "\u2212", "-")
    grouped = pc.match_substring_regex(texts, GROUPS[decimal])
    marks = "[, '’\\x{00a0}\\x{202f}]" if decimal == "." else "[. '’\\x{00a0}\\x{202f}]"
    plain = pc.if_else(grouped, pc.replace_substring_regex(texts, marks, ""), texts)
    if decimal == ",":
        # With a decimal comma, a point that does not separate thousands makes the text invalid.
        plain = pc.replace_substring(pc.replace_substring(plain, ".", "!"), ",", ".")
    return pc.replace_substring_regex(plain, r"^\+", "")


def _any_matches(texts: pa.Array, pattern: str) -> bool:
    from pyarrow import compute as pc

    return bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())
