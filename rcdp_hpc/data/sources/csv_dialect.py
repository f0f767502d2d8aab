"""The dialect of a csv file: separator, decimal mark and header, detected from its first lines."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources.class_names import clean_name
from rcdp_hpc.data.sources.csv_text import TextFile
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.errors import InputError

SAMPLE_BYTES = 2**20
SAMPLE_ROWS = 1000
DELIMITERS = (",", ";", "\t", "|", " ")
MARKS = "\ufeff\u200b"
NAMES = {"\t": "a tab", " ": "a blank"}
NUMBER = re.compile(r"[-+]?(\d+[.,]?\d*|[.,]\d+)([eE][-+]?\d+)?", re.ASCII)
COMMA_NUMBER = re.compile(r"[-+]?[\d.]*,\d+([eE][-+]?\d+)?", re.ASCII)
DOT_THOUSANDS = re.compile(r"[-+]?\d{1,3}(\.\d{3}){2,}|[-+]?\d{1,3}(\.\d{3})+,\d+", re.ASCII)
COMMA_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?", re.ASCII)
ONE_COMMA = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}", re.ASCII)
DOT_NUMBER = re.compile(r"[-+]?\d*\.\d+([eE][-+]?\d+)?", re.ASCII)

Record = list[str]
# The column objects of wider tables would need gigabytes.
MOST_COLUMNS = 200_000
# The length of lines is checked earlier, so the csv module's limit for a cell is not needed.
csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class Dialect:
    """The dialect of a csv file.

    Attributes
    ----------
    names : list of str
        Names of the columns; a column without a name is "Unnamed: N", where N is its index from 0.
    delimiter : str
    decimal : {".", ","}
    skip : int
        Bytes of the header in UTF-8.
    rows : int
        Number of rows from which the dialect was detected.
    row_bytes : int
        Mean bytes of a row.
    """

    names: list[str]
    delimiter: str
    decimal: str
    skip: int
    rows: int
    row_bytes: int


def detect_dialect(file: TextFile, data: DataSection, expected: Collection[str], findings: Findings) -> Dialect:
    """Detect the dialect of a csv file.

    Parameters
    ----------
    file : TextFile
    data : DataSection
        ``delimiter`` and ``decimal`` override the detection.
    expected : collection of str
        Names of columns that the header should have.
    findings : Findings
        Receives the assumptions.

    Raises
    ------
    InputError
        If there is no header, two columns have the same name, or commas in numbers are ambiguous.
    """
    text, cut = _sample(file)
    delimiter = data.delimiter or _delimiter(text, cut, expected)
    header, rows, skip = _records(text, delimiter, cut)
    names = _names(file.path, [name.strip().strip(MARKS).strip() for name in header], rows, findings)
    if len(names) > MOST_COLUMNS:
        raise InputError(
            f"{file.path}: {len(names)} columns, at most {MOST_COLUMNS} are read from a text table. Save the samples "
            "as npz, npy or HDF5."
        )
    _refuse_title(file.path, header, rows, expected)
    _refuse_missing_header(file.path, names, delimiter, expected)
    _refuse_twins(file.path, names)
    decimal = _decimal(file.path, data.decimal, delimiter, rows, findings)
    if delimiter != ",":
        findings.assumed.append(f"{file.path}: the separator is {NAMES.get(delimiter, repr(delimiter))}")
    body = len(text.encode()) - skip
    return Dialect(names, delimiter, decimal, skip, len(rows), max(1, body // max(1, len(rows))))


def _sample(file: TextFile) -> tuple[str, bool]:
    """Return the first lines, and whether the last one may be incomplete."""
    size = max(SAMPLE_BYTES, 4 * file.longest_line)
    with file.open() as stream:
        data = stream.read(size)
        cut = bool(stream.read(1))
    return data.decode("utf-8", "ignore"), cut


def _records(text: str, delimiter: str, cut: bool) -> tuple[Record, list[Record], int]:
    """Return the header, the rows after it, and the bytes up to the end of the header line."""
    taken: list[str] = []
    records: list[Record] = []
    skip = 0
    reader = csv.reader(_recorded(io.StringIO(text, newline=""), taken), delimiter=delimiter)
    try:
        for record in reader:
            if not record or (not records and not any(field.strip() for field in record)):
                continue
            records.append(record)
            if len(records) == 1:
                skip = sum(len(line.encode()) for line in taken)
            if len(records) > SAMPLE_ROWS:
                break
        else:
            if cut and len(records) > 1:
                records.pop()
    except csv.Error:
        # A field exceeds the csv module's limit; the records read so far are enough.
        pass
    return (records[0] if records else []), records[1:], skip


def _recorded(lines: Iterable[str], taken: list[str]) -> Iterator[str]:
    for line in lines:
        taken.append(line)
        yield line


def _delimiter(text: str, cut: bool, expected: Collection[str]) -> str:
    """Return the separator with which the header has an expected name and all rows have the width of the header."""
    best, best_score = ",", (False, False, 0)
    for delimiter in DELIMITERS:
        header, rows, _ = _records(text, delimiter, cut)
        if len(header) < 2:
            continue
        widths = {len(row) for row in rows}
        even = widths <= {len(header)} or widths == {len(header) + 1}
        has_expected = bool(set(expected) & {name.strip() for name in header})
        score = (has_expected, even, len(header) if even or has_expected else 0)
        # Many names and texts have blanks, so a blank is the separator only if no other character fits.
        if (delimiter != " " or (best_score == (False, False, 0) and even)) and score > best_score:
            best, best_score = delimiter, score
    return best


def _names(path: Path, header: Record, rows: list[Record], findings: Findings) -> list[str]:
    """Return the names of the columns, also if rows have one value more than the header."""
    if rows and all(len(row) == len(header) + 1 for row in rows):
        if not any(row[-1].strip() for row in rows):
            header = [*header, ""]
        else:
            findings.assumed.append(f"{path}: rows have one value more than the header: the first one has no name")
            header = ["", *header]
    return [name or f"Unnamed: {place}" for place, name in enumerate(header)]


def _refuse_title(path: Path, header: Record, rows: list[Record], expected: Collection[str]) -> None:
    """Refuse a file whose first line is a title, a comment or Excel's sep= instead of the names of the columns."""
    first = header[0].strip() if header else ""
    excel = first.startswith("sep=") and len(header) <= 2
    unlike = bool(rows) and len(header) != len(rows[0]) and not set(header) & set(expected)
    if excel or (unlike and (first.startswith("#") or len(header) == 1)):
        raise InputError(
            f"{path}: its first line, {first!r}, does not name the columns. Remove the lines before the names; if "
            "another character separates the values, set data.delimiter."
        )


def _refuse_missing_header(path: Path, names: list[str], delimiter: str, expected: Collection[str]) -> None:
    if set(names) & set(expected):
        return
    numbers = [name for name in names if NUMBER.fullmatch(name)]
    if not numbers or 2 * len(numbers) < len(names):
        return
    whole = [int(name) for name in numbers if name.isascii() and name.isdecimal()]
    if len(whole) == len(numbers) and whole == list(range(whole[0], whole[0] + len(whole))):
        # Consecutive numbers are column names that pandas writes.
        return
    raise InputError(
        f"{path}: its first line looks like data, not like the names of columns ({', '.join(names[:5])}, ...): put a "
        f"line of names before it, as in a{delimiter}b{delimiter}label."
    )


def _refuse_twins(path: Path, names: list[str]) -> None:
    seen: set[str] = set()
    # Two Unicode forms of one name look alike, so they count as the same name.
    twins = sorted({name for name in map(clean_name, names) if name in seen or seen.add(name)})  # type: ignore[func-returns-value]
    if twins:
        raise InputError(
            f"{path}: several columns have the same name: {', '.join(map(repr, twins[:10]))}. Rename or remove them."
        )


def _decimal(path: Path, setting: str, delimiter: str, rows: list[Record], findings: Findings) -> str:
    """Return the decimal mark, detected from the numbers with commas or several points."""
    if setting != "auto":
        return setting
    fields = {field.strip() for row in rows for field in row if "," in field or field.count(".") > 1}
    commas = {field for field in fields if COMMA_NUMBER.fullmatch(field) and not COMMA_THOUSANDS.fullmatch(field)}
    thousands = {field for field in fields if COMMA_THOUSANDS.fullmatch(field)}
    if commas or any(DOT_THOUSANDS.fullmatch(field) for field in fields):
        shown = min(commas or fields)
        findings.assumed.append(f"{path}: the decimal mark is a comma, as in {shown}")
        return ","
    if not thousands:
        return "."
    points = any(DOT_NUMBER.fullmatch(field.strip()) for row in rows for field in row)
    if delimiter != "," and not points and all(ONE_COMMA.fullmatch(field) for field in thousands):
        raise InputError(
            f"{path}: {min(thousands)!r} is either {min(thousands).replace(',', '')} or "
            f"{min(thousands).replace(',', '.')}: set data.decimal = ',' if commas are decimal marks, or '.' if they "
            "separate thousands."
        )
    findings.assumed.append(f"{path}: commas in numbers separate thousands, as in {min(thousands)}")
    return "."
