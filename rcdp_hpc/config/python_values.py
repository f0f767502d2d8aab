"""Settings that a Python program gives as dicts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from rcdp_hpc.config.keys import key_types
from rcdp_hpc.config.toml_text import DEEPEST, shortened
from rcdp_hpc.errors import InputError


def python_tree(settings: Mapping[str, Any], depth: int = 1) -> dict[str, Any]:
    """Return a copy of a dict of settings with the types of TOML: paths as text, tuples and arrays as lists.

    Raises
    ------
    InputError
        If a key is not text, or dicts are nested too deeply.
    """
    if depth > DEEPEST:
        raise InputError(f"configuration given as a dict: nested more than {DEEPEST} deep")
    for key in settings:
        if not isinstance(key, str):
            raise InputError(f"configuration given as a dict: the key {shortened(repr(key))} is not text")
        if depth == 1 and key in key_types():
            section, _, name = key.rpartition(".")
            raise InputError(
                f"configuration given as a dict: {key} is a key of the section {section}: "
                f"{{{section!r}: {{{name!r}: ...}}}}"
            )
    return {key: _plain(value, depth) for key, value in settings.items()}


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return python_tree(value, depth + 1)
    if isinstance(value, PurePath):
        return str(value)
    # NumPy takes longer to import than all of the configuration; every command would wait for it.
    if hasattr(value, "__array__") and hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(entry, depth) for entry in value]
    return value


def merge(tree: dict[str, Any], changes: Mapping[str, Any], prefix: str = "") -> None:
    """Replace settings of a tree, in place. A key whose value is a dict, such as a range, is replaced whole."""
    for name, value in changes.items():
        key = f"{prefix}{name}"
        present = tree.get(name)
        if isinstance(value, Mapping) and isinstance(present, dict) and key not in key_types():
            merge(present, value, f"{key}.")
        else:
            tree[name] = value
