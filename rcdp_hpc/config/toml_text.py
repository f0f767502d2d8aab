"""TOML text as a tree of settings; whatever is wrong with it, the error is one and the same."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

# Sections within sections, and lists within lists: the deepest key that there is has four parts.
DEEPEST = 20
SHOWN = 60
# Python writes out no integer of more than 4300 digits.
MOST_BITS = 14_000
_DEEP_KEY = re.compile(rf"^[ \t]*\[*[ \t]*((?:[\w-]+[ \t]*\.[ \t]*){{{DEEPEST},{DEEPEST}}})", re.MULTILINE | re.ASCII)


def toml_tree(text: str, parse_float: Callable[[str], Any] = float) -> dict[str, Any]:
    """Return the settings in a TOML text.

    Raises
    ------
    tomllib.TOMLDecodeError
        If it is not valid TOML, a value is nested too deeply, or a number has too many digits to be read.
    """
    deep = _DEEP_KEY.search(text)
    if deep is not None:  # tomllib takes minutes for such a key
        number = text.count("\n", 0, deep.start(1)) + 1
        raise tomllib.TOMLDecodeError(f"nested more than {DEEPEST} deep (at line {number})")
    try:
        tree = tomllib.loads(text, parse_float=parse_float)
    except tomllib.TOMLDecodeError as error:
        last = len(text.rstrip().split("\n"))
        raise tomllib.TOMLDecodeError(str(error).replace("at end of document", f"at line {last}, the last")) from None
    except RecursionError:
        raise tomllib.TOMLDecodeError(f"nested more than {DEEPEST} deep (at line {_deepest_line(text)})") from None
    except ValueError:
        raise tomllib.TOMLDecodeError(f"a number has too many digits (at line {_longest_number(text)})") from None
    problem = next(_problems(tree), None)
    if problem is not None:
        raise tomllib.TOMLDecodeError(problem)
    return tree


def shortened(text: str, most: int = SHOWN) -> str:
    """Return the beginning of a text that is too long for a message."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def _problems(tree: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with values: those too deep, and integers that cannot be shown. Without recursion."""
    waiting: list[tuple[str, Any, int]] = [(name, value, 1) for name, value in tree.items()]
    while waiting:
        name, value, depth = waiting.pop()
        if depth > DEEPEST:
            yield f"{shortened(name)} is nested more than {DEEPEST} deep"
        elif isinstance(value, int) and value.bit_length() > MOST_BITS:
            yield f"{shortened(name)} is a number with too many digits"
        elif isinstance(value, dict):
            waiting += [(f"{name}.{key}", inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(name, inner, depth + 1) for inner in value if isinstance(inner, dict | list | int)]


def _deepest_line(text: str) -> int:
    """Return the number of the line, from 1, with the most brackets and dots."""
    lines = text.split("\n")
    counts = [line.count("[") + line.count("{") + line.count(".") for line in lines]
    return counts.index(max(counts)) + 1


def _longest_number(text: str) -> int:
    """Return the number of the line, from 1, with the most digits."""
    counts = [sum(map(str.isdigit, line)) for line in text.split("\n")]
    return counts.index(max(counts)) + 1
