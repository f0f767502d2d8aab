"""Records that carry a SHA-256 of their own content, which is checked whenever they are read.

A sealed record is a JSON object with the key "sha256": the digest of all other keys in one canonical form, so that
white space and the order of keys do not count. An object "timing", which differs between runs with equal results, is
left out of it and carries a digest of its own. Files of JSON lines are sealed line by line.
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
    """Return the SHA-256 of a record as JSON has it, without its own keys "sha256" and "timing"."""
    # Once to JSON and back: tuples become lists and numbers as keys become text, and only then the keys are sorted.
    return _digest_of_plain(json.loads(json.dumps(value)))


def _digest_of_plain(value: dict[str, Any]) -> str:
    """Return the digest of a record that JSON or TOML was read into."""
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
    """Return a record with the digest of its content as the key "sha256"."""
    found = {**value, KEY: digest_of(value)}
    if isinstance(value.get(TIMING), dict):
        found[TIMING] = sealed(value[TIMING])
    return found


def is_sealed(value: Any) -> bool:
    """Return whether a value is an object whose digest matches its content."""
    if not isinstance(value, dict):
        return False
    try:
        return value.get(KEY) == _digest_of_plain(value) and (TIMING not in value or is_sealed(value[TIMING]))
    except (RecursionError, ValueError, TypeError):
        return False


def check_sealed(value: Any, path: Path | str, remedy: str = "") -> dict[str, Any]:
    """Return a record without its digest.

    Parameters
    ----------
    value : object
        What a file holds.
    path : Path or str
        Where it is from, for the message.
    remedy : str
        What to do if it is damaged: a sentence for the end of the message.

    Raises
    ------
    DataDamagedError
        If it is not an object, has no digest, or the digest does not match.
    """
    end = f" {remedy}" if remedy else ""
    if not isinstance(value, dict):
        raise DataDamagedError(f"{path}: not a record of this package. {DAMAGED}{end}")
    if KEY not in value:
        raise DataDamagedError(
            f"{path}: has no checksum (key {KEY!r}): it was altered, or an earlier version wrote it.{end}"
        )
    if not is_sealed(value):
        raise DataDamagedError(f"{path}: its checksum does not match its content. {DAMAGED}{end}")
    found = {name: part for name, part in value.items() if name != KEY}
    if TIMING in found:
        found[TIMING] = {name: part for name, part in found[TIMING].items() if name != KEY}
    return found


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
    """Return a record with its digest as a line of JSON, with the line's end."""
    return json.dumps(sealed(value)) + "\n"


def append_sealed(path: Path, value: dict[str, Any]) -> None:
    """Append a record with its digest to a file of JSON lines; a last line that was cut short ends there."""
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
    """What a file of sealed lines holds.

    Attributes
    ----------
    records : list of dict
        The lines whose digest matches, without it.
    damaged : list of int
        The numbers of all other lines, from 1.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)


def read_intact_lines(path: Path, growing: bool = False) -> SealedLines:
    """Read a file of sealed lines of which any may be damaged; nothing if there is no such file.

    Parameters
    ----------
    path : Path
    growing : bool
        Whether another process may be writing: a last line without an end is left out, and is not damaged.
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
    """Read a file of sealed lines of which none may be damaged; nothing if there is no such file.

    Raises
    ------
    DataDamagedError
        If a line is not JSON, or its digest is missing or wrong. The message names the first of them.
    """
    lines = read_intact_lines(path, growing)
    if lines.damaged:
        end = f" {remedy}" if remedy else ""
        raise DataDamagedError(f"{path}: line {lines.damaged[0]} was cut short or altered.{end}")
    return lines.records
