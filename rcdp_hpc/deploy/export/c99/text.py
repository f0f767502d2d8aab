"""Pieces of C text: literals, arrays and comments that no content can break."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LINE = 116
C_TYPES = {"float32": "float", "float64": "double", "int8": "code"}
LARGEST_INT = 2**31 - 1


def literal(text: str) -> str:
    """Return a string literal of the UTF-8 bytes of a text.

    Quotes, backslashes, question marks (of which C reads pairs as trigraphs), control characters and bytes outside
    ASCII are octal escapes, which end after three digits.
    """
    plain = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'


def comment(text: str) -> str:
    """Return a text in ASCII that a comment can hold: it cannot end the comment, and has no trigraph."""
    ascii_text = text.encode("ascii", "backslashreplace").decode()
    printable = "".join(letter if letter.isprintable() else " " for letter in ascii_text)
    return printable.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?")


def identifier(name: str) -> str:
    """Return letters, digits and underscores for a name; different names can have the same."""
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")


def array(name: str, values: NDArray[Any], c_type: str = "", shape: Sequence[int] | None = None) -> str:
    """Return the definition of a constant array of one axis.

    Parameters
    ----------
    name : str
        An identifier.
    values : ndarray
        float32, float64, int8, or integers that an int can hold.
    c_type : str
        Type of the entries; default: as `number_type`.
    shape : sequence of int, optional
        What the comment says; default: the shape of the array.
    """
    flat = np.ascontiguousarray(values).reshape(-1)
    axes = " x ".join(map(str, values.shape if shape is None else shape))
    numbers = _numbers(flat) if flat.size else ["0"]
    head = f"/* {axes or 1} */\nstatic const {c_type or number_type(flat)} {name}[{len(numbers)}] = {{\n"
    return head + "\n".join(_lines(numbers)) + "\n};\n"


def number_type(values: NDArray[Any]) -> str:
    """Return the type of C for the numbers of an array."""
    return C_TYPES.get(values.dtype.name, "int")


def _numbers(flat: NDArray[Any]) -> list[str]:
    """Return each number as C text that reads back as the same bits."""
    if flat.dtype.kind in "iu":
        if flat.size and np.abs(flat.astype(np.int64)).max() > LARGEST_INT:
            raise ValueError("an index is too large for an int")
        return [str(number) for number in flat.tolist()]
    suffix = "f" if flat.dtype == np.float32 else ""
    # The shortest text that reads back as the number.
    texts = [text + suffix for text in flat.astype("U").tolist()]
    for place in np.flatnonzero(~np.isfinite(flat)).tolist():
        texts[place] = "NAN" if np.isnan(flat[place]) else "INFINITY" if flat[place] > 0 else "-INFINITY"
    for place in np.flatnonzero((flat == 0) & ~np.signbit(flat)).tolist():
        texts[place] = "0"
    return texts


def _lines(numbers: Sequence[str]) -> list[str]:
    """Return numbers with commas, as many to a line as fit."""
    widest = max(len(number) for number in numbers[:4096]) + 2
    count = max(1, LINE // widest)
    return ["    " + ", ".join(numbers[start : start + count]) + "," for start in range(0, len(numbers), count)]
