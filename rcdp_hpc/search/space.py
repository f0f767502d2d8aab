"""The search space: which values are searched, between which bounds, on which scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from rcdp_hpc.config import (
    Config,
    OptimizerSection,
    RangeSection,
    ReadoutSection,
    ReservoirSection,
    SearchSection,
    Section,
    SpaceSection,
)
from rcdp_hpc.config.choices import is_user_class
from rcdp_hpc.errors import InputError
from rcdp_hpc.search.state_sets import STATE_SETS

Values = dict[str, float | int | str]
# The sections of the dimensions that need a trained readout; all others are keys of [reservoir].
_OWNERS: Mapping[str, tuple[str, type[Section]]] = {
    "learning_rate": ("optimizer", OptimizerSection),
    "weight_decay": ("optimizer", OptimizerSection),
    "relu_slope": ("readout", ReadoutSection),
    "hidden": ("readout", ReadoutSection),
}
READOUT_KEYS = tuple(_OWNERS)


def owner_of(name: str) -> tuple[str, type[Section]]:
    """Return the section of a dimension's key, its name first."""
    return _OWNERS.get(name, ("reservoir", ReservoirSection))


@dataclass(frozen=True)
class Dimension:
    """One searched value.

    Attributes
    ----------
    name : str
        Its key in the section ``[reservoir]``, ``[readout]`` or ``[optimizer]``.
    low, high : float
        Bounds of the value, whole numbers where `integer` is set.
    log, integer : bool
        Searched as log10 of the value; rounded to whole numbers, halves up.
    choices : tuple
        What is chosen from; bounds and numbers are then places in it, from 0. Empty where there are bounds.
    start : float or None
        Value, or place among the choices, that the first candidate takes; None is the configured value.
    """

    name: str
    low: float
    high: float
    log: bool
    integer: bool
    choices: tuple[float | int | str, ...] = ()
    start: float | None = None

    @property
    def lower(self) -> float:
        """Lower bound in search coordinates; choices have equal shares of [-1/2, n - 1/2]."""
        if self.choices:
            return -0.5
        return float(np.log10(self.low)) if self.log else self.low

    @property
    def upper(self) -> float:
        """Upper bound in search coordinates."""
        if self.choices:
            return self.high + 0.5
        return float(np.log10(self.high)) if self.log else self.high

    def decode(self, coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn search coordinates into values within the bounds."""
        inside = np.clip(coordinates, self.lower, self.upper)
        values = 10.0**inside if self.log else inside
        if self.integer or self.choices:
            values = np.floor(values + 0.5)
        return np.clip(values, self.low, self.high)

    def started(self, config: Config) -> float:
        """Return the coordinate to start from; NaN if the configured value is not among the choices."""
        if self.choices:
            configured = self._configured(config)
            if self.start is None:
                return float(self.choices.index(configured)) if configured in self.choices else np.nan
            return float(self.start)
        value = float(np.clip(self._configured(config) if self.start is None else self.start, self.low, self.high))
        return float(np.log10(value)) if self.log else value

    def _configured(self, config: Config) -> Any:
        if self.name == "state_set":  # a configuration has the settings of none by name
            return None
        return getattr(getattr(config, owner_of(self.name)[0]), self.name)

    def named(self, value: float) -> float | int | str:
        """Return a decoded number as the key takes it."""
        if self.choices:
            return self.choices[int(value)]
        return int(value) if self.integer else float(value)


@dataclass(frozen=True)
class Space:
    """The ordered dimensions of a search.

    Attributes
    ----------
    dimensions : tuple of Dimension
        At least one.
    """

    dimensions: tuple[Dimension, ...]

    @classmethod
    def from_config(cls, section: SpaceSection, evaluation: str) -> Space:
        """Read the section ``[search.space]``.

        Parameters
        ----------
        section : SpaceSection
        evaluation : {"ridge", "train", "function"}
            The setting ``search.evaluation``.

        Raises
        ------
        InputError
            If no dimension is given, one of the readout's is given although it is solved by ridge, or a bound is
            not accepted as a value of its key.
        """
        ranges = {name: getattr(section, name) for name in SpaceSection.model_fields}
        dimensions = tuple(_dimension(name, found, evaluation) for name, found in ranges.items() if found is not None)
        if not dimensions:
            raise InputError(
                "search.space is empty: give at least one dimension, as in density = { low = 0.01, high = 0.5 } under "
                "[search.space], or set search.generations = 0 to skip the search"
            )
        return cls(dimensions)

    @property
    def names(self) -> tuple[str, ...]:
        """The dimensions' names, in order."""
        return tuple(dimension.name for dimension in self.dimensions)

    @property
    def lower(self) -> NDArray[np.float64]:
        """Lower bounds in search coordinates, shape (d,)."""
        return np.array([dimension.lower for dimension in self.dimensions])

    @property
    def upper(self) -> NDArray[np.float64]:
        """Upper bounds in search coordinates, shape (d,)."""
        return np.array([dimension.upper for dimension in self.dimensions])

    def start(self, config: Config) -> NDArray[np.float64]:
        """Return the point to start from in search coordinates, shape (d,).

        Each dimension starts at its ``start``, by default at the configured value of its key, moved into the bounds; at
        NaN if that is not among its choices.
        """
        return np.array([dimension.started(config) for dimension in self.dimensions], dtype=np.float64)

    def decode_rows(self, positions: ArrayLike) -> NDArray[np.float64]:
        """Turn positions into values, both of shape (n, d)."""
        columns = np.asarray(positions, dtype=np.float64).T
        return np.stack(
            [dimension.decode(column) for dimension, column in zip(self.dimensions, columns, strict=True)], axis=1
        )

    def named(self, row: NDArray[np.float64]) -> Values:
        """Return one row of values, shape (d,), by name; whole numbers as int."""
        return {dimension.name: dimension.named(value) for dimension, value in zip(self.dimensions, row, strict=True)}

    def decode(self, position: ArrayLike) -> Values:
        """Return the values at a position, shape (d,), by name."""
        return self.named(self.decode_rows(np.asarray(position, dtype=np.float64)[np.newaxis])[0])


def with_values(config: Config, values: Values) -> Config:
    """Return the configuration with a candidate's values, and those of its state set, in its sections.

    Raises
    ------
    InputError
        If a value names code (module:name) that is not among the choices of its dimension, as in a file that was
        altered.
    """
    for name, value in values.items():
        if isinstance(value, str) and is_user_class(value):
            _refuse_other_code(config, name, value)
    chosen = values.get("state_set")
    reservoir = dict(STATE_SETS[str(chosen)].settings) if chosen is not None else {}
    # A value of its own replaces that of the set.
    reservoir |= {name: value for name, value in values.items() if name not in (*READOUT_KEYS, "state_set")}
    changes: dict[str, dict[str, Any]] = {"reservoir": reservoir}
    for name in values.keys() & _OWNERS.keys():
        changes.setdefault(owner_of(name)[0], {})[name] = values[name]
    sections = {section: getattr(config, section).model_copy(update=update) for section, update in changes.items()}
    return config.model_copy(update=sections)


def _refuse_other_code(config: Config, name: str, value: str) -> None:
    bounds = getattr(config.search.space, name, None)
    if bounds is None or value not in (bounds.choices or ()):
        raise InputError(
            f"{name} = {value!r} of a candidate names code that search.space.{name} does not have among its choices: "
            "start the search again with --restart"
        )


def searched_space(search: SearchSection) -> Space:
    """Return the space of the section ``[search]``; errors as `Space.from_config`."""
    return Space.from_config(search.space, search.evaluation)


def _dimension(name: str, bounds: RangeSection, evaluation: str) -> Dimension:
    if name in READOUT_KEYS and evaluation == "ridge":
        raise InputError(
            f"search.space.{name} has no meaning with search.evaluation = {evaluation!r}, where no readout is trained: "
            "set search.evaluation = 'train', or take it out"
        )
    if name == "state_set":
        return _state_set(bounds)
    _, owner = owner_of(name)
    integer = bounds.integer or owner.model_fields[name].annotation is int
    if bounds.choices is not None:
        return _choice(owner, name, bounds.choices, bounds.start, integer)
    if bounds.low is None or bounds.high is None or isinstance(bounds.start, str):  # the section lets none through
        raise AssertionError(f"search.space.{name} has no bounds")
    low, high = bounds.low, bounds.high
    if integer:
        low, high = float(np.ceil(low)), float(np.floor(high))
        if low >= high:
            raise InputError(
                f"search.space.{name}: fewer than two whole numbers lie between {bounds.low:g} and {bounds.high:g}"
            )
    _check_bound(owner, name, "low", low, integer)
    _check_bound(owner, name, "high", high, integer)
    return Dimension(name, low, high, bounds.log, integer, start=bounds.start)


def _state_set(bounds: RangeSection) -> Dimension:
    choices = tuple(str(choice) for choice in bounds.choices or ())
    unknown = [choice for choice in choices if choice not in STATE_SETS]
    if unknown or not choices:
        raise InputError(
            f"search.space.state_set: {', '.join(unknown) or 'bounds'} is not a list of names of state sets; give "
            f"choices = [...] from {', '.join(STATE_SETS)}"
        )
    place = None if bounds.start is None else float(choices.index(str(bounds.start)))
    return Dimension("state_set", 0.0, len(choices) - 1.0, False, False, choices, place)


def _choice(
    owner: type[Section], name: str, choices: list[float | str], start: float | str | None, integer: bool
) -> Dimension:
    for choice in choices:
        if integer and isinstance(choice, float) and choice != int(choice):
            raise InputError(f"search.space.{name}: a choice = {choice:g} is no whole number")
        _check_bound(owner, name, "a choice", choice, integer)
    found = tuple(int(choice) if integer and isinstance(choice, float) else choice for choice in choices)
    place = None if start is None else float(choices.index(start))
    return Dimension(name, 0.0, len(found) - 1.0, False, False, found, place)


def _check_bound(owner: type[Section], name: str, side: str, value: float | str, integer: bool) -> None:
    """Refuse a bound or choice that would be refused as the value of its key."""
    try:
        owner.model_validate({name: int(value) if integer and not isinstance(value, str) else value})
    except ValidationError as error:
        section, _ = owner_of(name)
        problem = error.errors()[0]["msg"].lower()
        shown = repr(value) if isinstance(value, str) else f"{value:g}"
        raise InputError(
            f"search.space.{name}: {side} = {shown} is not accepted as {section}.{name} ({problem})"
        ) from None
