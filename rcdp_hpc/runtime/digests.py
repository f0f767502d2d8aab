"""Sealed records: JSON objects that contain a SHA-256 of their content, which is checked when they are read.

The key "sha256" of a sealed record has the digest of all other keys in a canonical form, so white space and the order
of keys do not matter. The object "timing", which differs between runs with equal results, is excluded and has a
separate digest. Files of JSON lines are sealed line by line.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.files import os_errors_explained, write_json, write_text
from rcdp_hpc.runtime.json_text import DAMAGED, parse_json, read_json_file, read_regular_file

KEY = "sha256"
TIMING = "timing"


def digest_of(value: dict[str, Any]) -> str:
    """Return the SHA-256 of the JSON form of a record, without its keys "sha256" and "timing"."""
    # The conversion to JSON and back turns tuples into lists and numeric keys into text before the keys are sorted.
    return _digest_of_plain(json.loads(json.dumps(value)))


def _digest_of_plain(value: dict[str, Any]) -> str:
    """Return the digest of a record that was read from JSON or TOML."""
    plain = {name: part for name, part in value.items() if name not in (KEY, TIMING)}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Raises
    ------
    OSError
        If the file cannot be read; the error names the file.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a record with the digest of its content under the key "sha256"."""
    record = {**value, KEY: digest_of(value)}
    if isinstance(value.get(TIMING), dict):
        record[TIMING] = sealed(value[TIMING])
    return record


def is_sealed(value: Any) -> bool:
    """Return whether a value is an object whose digest matches its content."""
    if not isinstance(value, dict):
        return False
    try:
        return value.get(KEY) == _digest_of_plain(value) and (TIMING not in value or is_sealed(value[TIMING]))
    except (RecursionError, ValueError, TypeError):
        return False


def check_sealed(value: Any, path: Path | str, remedy: str = "") -> dict[str, Any]:
    """Check the digest of a record and return the record without it.

    Parameters
    ----------
    value : object
        The content of a file.
    path : Path or str
        The file, for the message.
    remedy : str
        Last sentence of the message: what to do if the record is damaged.

    Raises
    ------
    DataDamagedError
        If `value` is not an object, has no digest, or the digest does not match.
    """
    end = f" {remedy}" if remedy else ""
    if not isinstance(value, dict):
        raise DataDamagedError(f"{path}: not a record of this package. {DAMAGED}{end}")
    if KEY not in value:
        raise DataDamagedError(
            f"{path}: has no checksum (key {KEY!r}). It was altered, or written by an earlier version.{end}"
        )
    if not is_sealed(value):
        raise DataDamagedError(f"{path}: its checksum does not match its content. {DAMAGED}{end}")
    record = {name: part for name, part in value.items() if name != KEY}
    if TIMING in record:
        record[TIMING] = {name: part for name, part in record[TIMING].items() if name != KEY}
    return record


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write a record with its digest as a JSON file, atomically."""
    write_json(path, sealed(value))


def read_sealed(path: Path, remedy: str = "") -> dict[str, Any]:
    """Return the record of a JSON file, without its digest.

    Raises
    ------
    DataDamagedError
        If the file cannot be read, is not JSON, or its digest is missing or wrong.
    """
    return check_sealed(read_json_file(path, remedy), path, remedy)


def sealed_line(value: dict[str, Any]) -> str:
    """Return a record with its digest as a line of JSON, including the line break."""
    return json.dumps(sealed(value)) + "\n"


def append_sealed(path: Path, value: dict[str, Any]) -> None:
    """Append a record with its digest to a file of JSON lines; an incomplete last line is ended first."""
    with os_errors_explained(path), open(path, "a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(sealed_line(value).encode())


def write_sealed_lines(path: Path, values: Iterable[dict[str, Any]]) -> None:
    """Write records, each with its digest, as a file of JSON lines, atomically."""
    write_text(path, "".join(map(sealed_line, values)))


@dataclass
class SealedLines:
    """The content of a file of sealed lines.

    Attributes
    ----------
    records : list of dict
        Records whose digest matches, without the digest.
    damaged : list of int
        Numbers of all other lines, counted from 1.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)


def read_intact_lines(path: Path, growing: bool = False) -> SealedLines:
    """Read a file of sealed lines and skip damaged ones; a missing file has no lines.

    Parameters
    ----------
    path : Path
    growing : bool
        Whether another process may be writing the file. An incomplete last line is then ignored, not damaged.
    """
    lines = SealedLines()
    if not path.exists():
        return lines
    content = read_regular_file(path)
    if growing:
        content = content[: content.rfind(b"\n") + 1]
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            lines.records.append(check_sealed(parse_json(line), path))
        except (ValueError, DataDamagedError):
            lines.damaged.append(number)
    return lines


def read_sealed_lines(path: Path, growing: bool = False, remedy: str = "") -> list[dict[str, Any]]:
    """Read a file of sealed lines and require all of them to be intact; a missing file has no lines.

    Raises
    ------
    DataDamagedError
        If a line is not JSON, or its digest is missing or wrong. The message names the first such line.
    """
    lines = read_intact_lines(path, growing)
    if lines.damaged:
        end = f" {remedy}" if remedy else ""
        raise DataDamagedError(f"{path}: line {lines.damaged[0]} was cut short or altered.{end}")
    return lines.records
