"""Paths as users write them: with ``~``, and relative to the working directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from rcdp_hpc.config.keys import marked_keys
from rcdp_hpc.config.regular_files import refuse_special
from rcdp_hpc.config.root import Config
from rcdp_hpc.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


def absolute_path(path: str | Path) -> Path:
    """Return a path with ``~`` expanded, relative to the working directory if it is not absolute.

    Links and ``..`` are kept as they are.

    Raises
    ------
    InputError
        If it is not a path, or empty, as that of a variable that is not set: it never means the working directory.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"a path was given as a {type(path).__name__}: expected text or a pathlib.Path.")
    if not os.fspath(path).strip():
        raise InputError("an empty path was given: is a variable not set? Write . for the working directory.")
    return Path(os.path.expanduser(path)).absolute()


def with_absolute_paths(config: Config) -> Config:
    """Return the configuration with every path made absolute; empty ones are left.

    A run directory is used again from other working directories, so it records absolute paths.
    """
    for key in marked_keys("path"):
        for path in _paths(config, key.split(".")):
            refuse_special(path, f"{key} =")
        config = _with_absolute(config, key.split("."))
    return config


def _paths(section: BaseModel, names: Sequence[str]) -> list[str]:
    """Return the paths that a key names: one, or those of a list."""
    value = getattr(section, names[0])
    if len(names) > 1:
        return _paths(value, names[1:])
    return [os.path.expanduser(str(one)) for one in (value if isinstance(value, list) else [value]) if one]


def _with_absolute(section: Model, names: Sequence[str]) -> Model:
    name, *inner = names
    value = getattr(section, name)
    if not value:
        return section
    if inner:
        changed = _with_absolute(value, inner)
    elif isinstance(value, list):
        changed = [_recordable(name, absolute_path(one)) for one in value]
    else:
        changed = _recordable(name, absolute_path(value))
    return section if changed == value else section.model_copy(update={name: changed})


def _recordable(name: str, path: Path) -> str:
    """Return a path as a configuration records it, which is UTF-8 text."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{name} = {str(path)!r}: the name has bytes that are not UTF-8, and configurations are. Rename the file "
            "or folder, or name a link to it."
        ) from None
    return str(path)
