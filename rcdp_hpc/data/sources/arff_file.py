"""ARFF files of Weka and of the UCR/UEA archives: header and rows, as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rcdp_hpc.data.sources.number_text import number_of_text
from rcdp_hpc.errors import InputError

NUMBERS = ("numeric", "real", "integer")
MISSING = "?"
# A quoted or a plain value and the separator after it. Possessive quantifiers (*+) prevent backtracking, so that a long
# line is scanned once.
_VALUE = re.compile(
    r"""\s*+(?:'((?:[^'\\]|\\.)*+)'|"((?:[^"\\]|\\.)*+)"|((?:[^\s,'"][^,'"]*+)?))\s*+(,|$)""", re.DOTALL
)
_NAME = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s{]+)\s*(.*)""", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_MEANING = {"n": "\n", "t": "\t", "r": "\r"}

Lines = Iterator[tuple[int, str]]


@dataclass(eq=False)
class Attribute:
    """An attribute of an ARFF file.

    Attributes
    ----------
    name : str
    kind : {"number", "nominal", "string", "relational"}
        "string" includes dates.
    values : tuple of str
        Declared values of a nominal attribute.
    inner : list of Attribute
        Attributes of a relational attribute.
    """

    name: str
    kind: str
    values: tuple[str, ...] = ()
    inner: list[Attribute] = field(default_factory=list)


def content_lines(text: Iterable[str]) -> Lines:
    """Yield the lines that are neither empty nor comments, with their numbers from 1."""
    for number, line in enumerate(text, 1):
        line = line.strip()
        if line and not line.startswith("%"):
            yield number, line


def read_header(path: Path, lines: Lines) -> list[Attribute]:
    """Read the lines up to @data, and return the attributes.

    Raises
    ------
    InputError
        If a line does not belong to a header, or there is no attribute or no @data.
    """
    open_lists: list[list[Attribute]] = [[]]
    names: list[set[str]] = [set()]
    for number, line in lines:
        where = f"{path}, line {number}"
        keyword, _, rest = line.replace("\t", " ").partition(" ")
        keyword, rest = keyword.lower(), rest.strip()
        if keyword == "@attribute":
            attribute = _attribute(rest, where)
            if attribute.name in names[-1]:
                raise InputError(f"{where}: a second attribute {attribute.name!r}.")
            open_lists[-1].append(attribute)
            names[-1].add(attribute.name)
            if attribute.kind == "relational":
                open_lists.append(attribute.inner)
                names.append(set())
        elif keyword == "@end" and len(open_lists) > 1:
            open_lists.pop()
            names.pop()
        elif keyword == "@data":
            if len(open_lists) > 1:
                raise InputError(f"{where}: a relational attribute without its '@end'.")
            if not open_lists[0]:
                raise InputError(f"{where}: '@data' before any '@attribute'.")
            return open_lists[0]
        elif keyword != "@relation":
            raise InputError(f"{where}: '@relation', '@attribute', '@end' or '@data' expected, found {line[:40]!r}.")
    raise InputError(f"{path}: its header has no line '@data'; the file may be cut short.")


def _attribute(text: str, where: str) -> Attribute:
    match = _NAME.fullmatch(text)
    name, kind = (_plain(match[1]), match[2].strip()) if match else ("", "")
    lowered = kind.lower()
    if name and kind.startswith("{") and kind.endswith("}"):
        return Attribute(name, "nominal", tuple(text for text, _ in split_row(kind[1:-1], where)))
    if name and lowered in NUMBERS:
        return Attribute(name, "number")
    if name and (lowered == "string" or lowered.split()[:1] == ["date"]):
        return Attribute(name, "string")
    if name and lowered == "relational":
        return Attribute(name, "relational")
    raise InputError(
        f"{where}: '@attribute NAME TYPE' expected, with a type of numeric, real, integer, string, date, relational "
        f"or {{a, b, ...}}; found {text[:60]!r}."
    )


def _plain(text: str) -> str:
    return unescaped(text[1:-1]) if text[:1] in "'\"" else text


def unescaped(text: str) -> str:
    """Return a quoted text without its backslashes."""
    return _ESCAPED.sub(lambda match: _MEANING.get(match[1], match[1]), text) if "\\" in text else text


def split_row(line: str, where: str) -> list[tuple[str, bool]]:
    """Return the values of a line, and whether each was quoted.

    Commas separate values. In a line without commas, blanks or tabs do.

    Raises
    ------
    InputError
        If a quotation mark is not closed or is inside a value.
    """
    if "'" not in line and '"' not in line:
        cells = line.split(",") if "," in line else line.split()
        return [(cell.strip(), False) for cell in cells]
    values: list[tuple[str, bool]] = []
    place = 0
    while True:
        match = _VALUE.match(line, place)
        if match is None:
            raise InputError(f"{where}: a quotation mark is not closed, or a value is quoted only in part.")
        single, double, bare, end = match.groups()
        quoted = single if single is not None else double
        values.append((bare.rstrip(), False) if quoted is None else (unescaped(quoted), True))
        place = match.end()
        if not end:
            return values


def rows(path: Path, lines: Lines, attributes: list[Attribute]) -> Iterator[tuple[str, list[str | None]]]:
    """Yield the place of each row after @data and its values; a missing value is None.

    Raises
    ------
    InputError
        If the number of values in a row differs from the number of attributes, or a nominal value is not declared.
    """
    declared = [frozenset(one.values) if one.kind == "nominal" else None for one in attributes]
    for number, line in lines:
        where = f"{path}, line {number}"
        if line.startswith("{"):
            raise InputError(f"{where}: a sparse row, '{{index value, ...}}', is not read; save the file dense.")
        cells = split_row(line, where)
        if len(cells) != len(attributes):
            raise InputError(f"{where}: {len(cells)} values, {len(attributes)} expected, one for each attribute.")
        values = [None if text == MISSING and not quoted else text for text, quoted in cells]
        for value, attribute, among in zip(values, attributes, declared, strict=True):
            if value is not None and among is not None and value not in among:
                listed = ", ".join(attribute.values[:10])
                raise InputError(
                    f"{where}: {value!r} is not among the values of attribute {attribute.name!r} ({listed})."
                )
        yield where, values


def number_of(value: str | None, name: str, where: str) -> float:
    """Return a value as a number, NaN if it is missing."""
    if value is None:
        return float("nan")
    try:
        return number_of_text(value)
    except ValueError:
        what = f"{value[:40]!r} is not a number" if value else "an empty value; a missing one is '?'"
        raise InputError(f"{where}, attribute {name!r}: {what}.") from None
