"""The space of a function of the user, written in Python: bounds or choices by name."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.search.space import Dimension, Space

KEYS = ("low", "high", "log", "integer", "choices", "start")
WORDS = ("log", "integer")
EXPECTED = (
    "expected (low, high), (low, high, 'log' or 'integer'), or a dict with low and high, or choices, such as "
    "{'low': 1e-6, 'high': 1.0, 'log': True} or {'choices': ['tanh', 'relu']}"
)
LARGEST_INTEGER = 2**53  # float64 holds every integer up to this one


@dataclass(frozen=True)
class Box(Space):
    """The space of a function of the user; dimensions without a start begin at random values."""

    def start(self, config: Config) -> NDArray[np.float64]:
        """Return the first candidate in search coordinates, NaN for a dimension without a start, shape (d,)."""
        starts = (np.nan if one.start is None else one.start_coordinate(config) for one in self.dimensions)
        return np.array(list(starts), dtype=np.float64)


def box_of(space: Mapping[str, Any]) -> Box:
    """Return the space that a dict describes.

    Parameters
    ----------
    space : mapping of str
        For each name ``(low, high)``, ``(low, high, "log")``, ``(low, high, "integer")``, or a dict with the keys low,
        high, log, integer, choices and start.

    Raises
    ------
    InputError
        If it is empty, or an entry is not accepted; the message names the entry.
    """
    if not isinstance(space, Mapping):
        raise InputError(f"space is a {type(space).__name__}: expected a dict of names, each with {EXPECTED[9:]}")
    if not space:
        raise InputError("space is empty: give at least one name with bounds, as in {'x': (-5.0, 5.0)}")
    for name in space:
        if not isinstance(name, str) or not name:
            raise InputError(f"space: the name {name!r} is not text")
    return Box(tuple(_dimension(name, entry) for name, entry in space.items()))


def _dimension(name: str, entry: Any) -> Dimension:
    keys = _keys(name, entry)
    if "choices" in keys:
        return _choice(name, keys)
    if "low" not in keys or "high" not in keys:
        raise _refused(name, f"{entry!r} has no low and high")
    log, integer = (_switch(name, keys, key) for key in WORDS)
    low, high = (_number(name, key, keys[key]) for key in ("low", "high"))
    if integer:
        if max(abs(low), abs(high)) > LARGEST_INTEGER:
            raise _refused(name, f"integers beyond {LARGEST_INTEGER} are not exact in float64")
        low, high = float(math.ceil(low)), float(math.floor(high))
    if not low < high:
        what = f"there are fewer than two integers between {keys['low']} and {keys['high']}" if integer else ""
        raise _refused(name, what or f"low = {low:g} must be below high = {high:g}")
    if log and low <= 0:
        raise _refused(name, f"low = {low:g} must be above 0 on a logarithmic scale")
    start = None if keys.get("start") is None else _number(name, "start", keys["start"])
    if start is not None and not low <= start <= high:
        raise _refused(name, f"start = {start:g} must lie between low = {low:g} and high = {high:g}")
    dimension = Dimension(name, low, high, log, integer, start=start)
    if not math.isfinite(high - low) or not dimension.lower < dimension.upper:
        raise _refused(name, f"low = {low!r} and high = {high!r} are too far apart or too close for float64")
    return dimension


def _keys(name: str, entry: Any) -> dict[str, Any]:
    """Return an entry of the space as a dict of `KEYS`."""
    if isinstance(entry, Mapping):
        unknown = [key for key in entry if key not in KEYS]
        if unknown:
            raise _refused(name, f"unknown key {unknown[0]!r}; the keys are {', '.join(KEYS)}")
        return dict(entry)
    if isinstance(entry, str) or not isinstance(entry, Sequence | np.ndarray) or len(entry) < 2:
        raise _refused(name, f"{entry!r} is not accepted")
    low, high, *words = entry
    unknown = [word for word in words if not isinstance(word, str) or word not in WORDS]
    if unknown:
        raise _refused(name, f"{unknown[0]!r} is neither 'log' nor 'integer'")
    return {"low": low, "high": high, **dict.fromkeys(words, True)}


def _choice(name: str, keys: Mapping[str, Any]) -> Dimension:
    unused = {key for key in ("low", "high") if keys.get(key) is not None}
    unused |= {key for key in WORDS if _switch(name, keys, key)}
    if unused:
        raise _refused(name, f"choices exclude {', '.join(sorted(unused))}")
    given = keys["choices"]
    if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray):
        raise _refused(name, f"choices = {given!r} is not a list")
    choices = tuple(_plain(choice) for choice in given)
    for choice in choices:
        if not isinstance(choice, str | int | float) or (isinstance(choice, float) and not math.isfinite(choice)):
            raise _refused(name, f"the choice {choice!r} is neither text nor a finite number")
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise _refused(name, f"choices = {list(choices)} must be two or more different values")
    start = _plain(keys.get("start"))
    if start is not None and start not in choices:
        raise _refused(name, f"start = {start!r} is not among the choices {list(choices)}")
    return Dimension(
        name, 0.0, len(choices) - 1.0, False, False, choices, None if start is None else float(choices.index(start))
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _switch(name: str, keys: Mapping[str, Any], key: str) -> bool:
    value = _plain(keys.get(key, False))
    if not isinstance(value, bool):
        raise _refused(name, f"{key} = {value!r} must be True or False")
    return value


def _number(name: str, key: str, value: Any) -> float:
    if isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise _refused(name, f"{key} = {value!r} is not a finite number")


def _refused(name: str, problem: str) -> InputError:
    return InputError(f"space[{name!r}]: {problem}; {EXPECTED}")
