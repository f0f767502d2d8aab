"""Reading JSON files that may be damaged or altered, with one type of error for every defect."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.os_errors import explain_os_error

DAMAGED = "The file is damaged or was edited."


class _RepeatedKeyError(ValueError):
    """An object with a repeated key, of which JSON readers use different values."""


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises
    ------
    ValueError
        If it is not JSON in UTF-8, repeats a key, contains a number of thousands of digits, or is nested too deeply.
    """
    try:
        content = text.decode("utf-8") if isinstance(text, bytes) else text
        return json.loads(content, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for at, name in enumerate(names) if name in names[:at])
        raise _RepeatedKeyError(f"the key {repeated[:40]!r} occurs twice")
    return content


def read_regular_file(path: Path, remedy: str = "") -> bytes:
    """Return the content of a small file that this package wrote.

    Parameters
    ----------
    path : Path
    remedy : str
        Last sentence of the message: what to do if the file is damaged.

    Raises
    ------
    DataDamagedError
        If the file is missing, or is a folder, a device or a named pipe (reading a pipe could wait forever).
    InputError, StageFailedError
        If the file cannot be read for lack of permission, or because the file system fails.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise DataDamagedError(_sentence(f"{path}: not a regular file", remedy))
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise DataDamagedError(_sentence(f"{path}: missing", remedy)) from None
    except OSError as error:
        raise explain_os_error(error, path, reading=True) from None


def read_json_file(path: Path, remedy: str = "") -> Any:
    """Return the value of a JSON file that this package wrote.

    Raises
    ------
    DataDamagedError
        If the file cannot be read or is not JSON. The message names the file and ends with `remedy`.
    """
    content = read_regular_file(path, remedy)
    try:
        return parse_json(content)
    except ValueError as error:
        raise DataDamagedError(_sentence(f"{path}: not valid JSON ({error}). {DAMAGED}", remedy)) from None


def _sentence(text: str, remedy: str) -> str:
    return f"{text}{'' if text.endswith('.') else '.'}{' ' if remedy else ''}{remedy}"
