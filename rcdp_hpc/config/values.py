"""Values as users write them, in TOML or after ``--set``, turned into what a key takes."""

from __future__ import annotations

import datetime
import re
import tomllib
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from rcdp_hpc.config.keys import key_types
from rcdp_hpc.config.toml_text import toml_tree
from rcdp_hpc.errors import InputError

# An entry of a list: quoted text, which may hold commas, or anything up to the next comma.
_ENTRY = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'[^']*'|[^,]*?)\s*(,|$)""")


class WrittenFloat(float):
    """A number of a TOML file that remembers its text: a column may be named 3.10."""

    text: str

    def __new__(cls, text: str) -> WrittenFloat:
        """Read the number."""
        value = super().__new__(cls, text)
        value.text = text
        return value


def is_text(annotation: Any) -> bool:
    """Return whether a type takes text only."""
    if get_origin(annotation) is Literal:
        return all(isinstance(value, str) for value in get_args(annotation))
    return annotation is str


def items_of(annotation: Any) -> Any:
    """Return the type of the entries if `annotation` is a list or an optional list, None otherwise."""
    if get_origin(annotation) in (Union, types.UnionType):
        lists = [one for one in get_args(annotation) if get_origin(one) is list]
        return items_of(lists[0]) if lists else None
    return get_args(annotation)[0] if get_origin(annotation) is list else None


@cache
def _text_keys() -> frozenset[str]:
    return frozenset(key for key, kind in key_types().items() if is_text(kind) or is_text(items_of(kind)))


@cache
def _keys_without_bool() -> frozenset[str]:
    """Return the keys that take neither true nor false: Python counts them as 1 and 0."""
    return frozenset(key for key, kind in key_types().items() if bool not in (kind, *get_args(kind)))


def as_written(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings in which keys of text have text: ``label_column = 3`` names the column "3".

    ``true`` and ``false`` become texts, too, unless the key takes them, so that they are refused as numbers.
    """
    result: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            result[name] = as_written(value, f"{key}.")
        elif isinstance(value, list):
            result[name] = [_text(entry) if key in _text_keys() else _plain(entry) for entry in value]
        else:
            as_text = key in _text_keys() or (isinstance(value, bool) and key in _keys_without_bool())
            result[name] = _text(value) if as_text else _plain(value)
    return result


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, WrittenFloat) else value


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, WrittenFloat):
        return value.text
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value) if isinstance(value, int | float) else value


def setting_value(key: str, text: str) -> Any:
    """Return the value that ``--set key=text`` gives to a dotted key.

    Keys of text take the text as it is; quotes around it are removed. Lists need no brackets and no quotes. Every
    other value is TOML.

    Raises
    ------
    InputError
        If a list is not closed or has an empty entry.
    """
    kind = key_types().get(key)
    if is_text(kind):
        return _unquoted(text)
    items = items_of(kind)
    if items is None or items_of(items) is not None:
        return _toml_or_text(text)
    try:
        return [_unquoted(entry) if is_text(items) else _toml_or_text(entry) for entry in _entries(text)]
    except ValueError as error:
        raise InputError(
            f"--set {key}={text}: {error}; expected a list such as {key}=[a, b], with quotes around an entry that "
            "holds a comma"
        ) from None


def _entries(text: str) -> list[str]:
    text = text.strip()
    if text.startswith("["):
        if not text.endswith("]"):
            raise ValueError("the bracket is not closed")
        text = text[1:-1].strip()
    entries, at = [], 0
    while at < len(text):
        found = _ENTRY.match(text, at)
        if found is None or not found[1]:
            raise ValueError("an entry is empty")
        entry = found[1]
        if entry[0] in "\"'" and (len(entry) == 1 or entry[-1] != entry[0]):
            raise ValueError(f"the quote of {entry} is not closed")
        entries.append(entry)
        at = found.end()
    return entries


def _unquoted(text: str) -> str:
    if text in ("\t", " ", r"\t"):  # data.delimiter
        return text.replace(r"\t", "\t")
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        value = _toml_or_text(text)
        return value if isinstance(value, str) else text
    return text


def _toml_or_text(text: str) -> Any:
    text = text.strip()
    try:
        tree = toml_tree(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    # A line break begins another key, and # a comment: none of them is part of a value.
    whole = len(tree) == 1 and ("#" not in text or "#" in repr(tree["value"]))
    return tree["value"] if whole else text
