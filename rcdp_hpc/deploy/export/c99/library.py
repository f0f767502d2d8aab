"""The functions of `functions.c`: their text, and which of them call others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FUNCTIONS = Path(__file__).with_name("functions.c")
# Letters that stand for a type of C.
PARAMETERS = ("REAL", "WEIGHT")


@dataclass(frozen=True)
class Function:
    """A block of `functions.c`.

    Attributes
    ----------
    name : str
    calls : tuple of str
        Blocks that it needs.
    text : str
    """

    name: str
    calls: tuple[str, ...]
    text: str

    @property
    def parameter(self) -> str:
        """The letters in the text that stand for a type; empty if there are none."""
        return next((letters for letters in PARAMETERS if letters in self.text), "")


@cache
def functions() -> dict[str, Function]:
    """Return all blocks by name, in the order of the file."""
    _, *blocks = re.split(r"^//// ", FUNCTIONS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {}
    for block in blocks:
        head, text = block.split("\n", 1)
        name, _, calls = head.partition(":")
        found[name] = Function(name, tuple(call.strip() for call in calls.split(",") if call), text.strip("\n") + "\n")
    return found


def call_name(name: str, c_type: str) -> str:
    """Return the name of a function for a type: ``dot_float``; the name itself if the function has no type."""
    return f"{name}_{c_type}" if functions()[name].parameter else name


def texts(used: Iterable[tuple[str, str]]) -> list[str]:
    """Return the texts of functions and of those that they call, in the order of the file.

    Parameters
    ----------
    used : iterable of (str, str)
        Names of functions, and the type of each; of a function without a type it is ignored.
    """
    wanted: set[tuple[str, str]] = set()

    def want(name: str, c_type: str) -> None:
        function = functions()[name]
        wanted.add((name, c_type if function.parameter else ""))
        for call in function.calls:
            # A function without a type calls those of float.
            want(call, c_type if function.parameter else "float")

    for name, c_type in used:
        want(name, c_type)
    return [
        re.sub(function.parameter, c_type, function.text) if c_type else function.text
        for function in functions().values()
        for c_type in ("", "float", "double", "code")
        if (function.name, c_type) in wanted
    ]
