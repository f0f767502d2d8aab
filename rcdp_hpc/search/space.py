"""The search space: searched values, their bounds and scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from rcdp_hpc.config import DIMENSION_KEYS, Config, RangeSection, SearchSection, Section, SpaceSection
from rcdp_hpc.config.choices import is_user_class
from rcdp_hpc.errors import InputError
from rcdp_hpc.search.state_sets import STATE_SETS

Values = dict[str, float | int | str]
STATE_SET = "state_set"
# The dimensions that need a readout that is fitted to each candidate; all others belong to the reservoir.
READOUT_DIMENSIONS = tuple(
    name for name, key in DIMENSION_KEYS.items() if name != STATE_SET and not key.startswith("reservoir.")
)


@dataclass(frozen=True)
class Owner:
    """The key of the configuration whose value a dimension replaces.

    Attributes
    ----------
    section : str
        Name of the section.
    key : str
        Key within the section.
    type : type of Section
    """

    section: str
    key: str
    type: type[Section]

    def accepts(self, value: float | int | str) -> str | None:
        """Return why the section does not accept a value of the key; None if it does."""
        try:
            self.type.model_validate({self.key: value})
        except ValidationError as error:
            return error.errors()[0]["msg"].lower()
        return None


def owner_of(name: str) -> Owner:
    """Return the key that a dimension sets; `name` is in the table of dimensions and is not "state_set"."""
    section, _, key = DIMENSION_KEYS[name].partition(".")
    owner = Config.model_fields[section].annotation
    assert isinstance(owner, type)
    assert issubclass(owner, Section)
    return Owner(section, key, owner)


@dataclass(frozen=True)
class Dimension:
    """One searched value.

    Attributes
    ----------
    name : str
        Its name in ``[search.space]``; `owner_of` has the key that it sets.
    low, high : float
        Bounds of the value; integers if `integer` is set.
    log : bool
        Search log10 of the value.
    integer : bool
        Round to integers, halves up.
    choices : tuple
        Accepted values; bounds and numbers are then indices of choices, from 0. Empty for a dimension with bounds.
    start : float or None
        Value, or index of the choice, of the first candidate; None for the configured value.
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
        """Lower bound in search coordinates; integers and choices have equal shares, each 1/2 to either side."""
        low = self.low - 0.5 if self.integer or self.choices else self.low
        return float(np.log10(low)) if self.log else low

    @property
    def upper(self) -> float:
        """Upper bound in search coordinates."""
        high = self.high + 0.5 if self.integer or self.choices else self.high
        return float(np.log10(high)) if self.log else high

    def decode(self, coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values of search coordinates, within the bounds, shape (n,)."""
        inside = np.clip(coordinates, self.lower, self.upper)
        values = 10.0**inside if self.log else inside
        if self.integer or self.choices:
            values = np.floor(values + 0.5)
        return np.clip(values, self.low, self.high)

    def start_coordinate(self, config: Config) -> float:
        """Return the coordinate of the first candidate; NaN if the configured value is not among the choices."""
        if self.choices:
            if self.start is not None:
                return float(self.start)
            configured = self._configured(config)
            return float(self.choices.index(configured)) if configured in self.choices else np.nan
        value = float(np.clip(self._configured(config) if self.start is None else self.start, self.low, self.high))
        return float(np.log10(value)) if self.log else value

    def _configured(self, config: Config) -> Any:
        if self.name == STATE_SET:  # not a key of the configuration
            return None
        owner = owner_of(self.name)
        return getattr(getattr(config, owner.section), owner.key)

    def named(self, value: float) -> float | int | str:
        """Return a decoded number in the type of the key."""
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
        """Return the space of the section ``[search.space]``.

        Parameters
        ----------
        section : SpaceSection
        evaluation : {"ridge", "train", "function"}
            The setting ``search.evaluation``.

        Raises
        ------
        InputError
            If there is no dimension, a dimension belongs to a trained readout although the readout is solved by ridge,
            or a key does not accept a bound.
        """
        ranges = {name: getattr(section, name) for name in SpaceSection.model_fields}
        dimensions = tuple(
            _dimension(name, bounds, evaluation) for name, bounds in ranges.items() if bounds is not None
        )
        if not dimensions:
            raise InputError(
                "search.space is empty: give at least one dimension, as in density = { low = 0.01, high = 0.5 } under "
                "[search.space], or set search.generations = 0 to skip the search"
            )
        return cls(dimensions)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the dimensions, in order."""
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
        """Return the first candidate in search coordinates, shape (d,).

        A dimension starts at its ``start``, by default at the configured value of its key clipped to the bounds. It is
        NaN if the configured value is not among the choices.
        """
        return np.array([dimension.start_coordinate(config) for dimension in self.dimensions], dtype=np.float64)

    def decode_rows(self, positions: ArrayLike) -> NDArray[np.float64]:
        """Return the values of positions, both of shape (n, d)."""
        columns = np.asarray(positions, dtype=np.float64).T
        return np.stack(
            [dimension.decode(column) for dimension, column in zip(self.dimensions, columns, strict=True)], axis=1
        )

    def named(self, row: NDArray[np.float64]) -> Values:
        """Return one row of values, shape (d,), by name; integers as int."""
        return {dimension.name: dimension.named(value) for dimension, value in zip(self.dimensions, row, strict=True)}

    def decode(self, position: ArrayLike) -> Values:
        """Return the values at a position, shape (d,), by name."""
        return self.named(self.decode_rows(np.asarray(position, dtype=np.float64)[np.newaxis])[0])


def with_values(config: Config, values: Values) -> Config:
    """Return the configuration with a candidate's values, and those of its state set, in its sections.

    Raises
    ------
    InputError
        If a name is not that of a dimension, or a value names code (module:name) that is not among the choices of its
        dimension, as in a file that was altered.
    """
    changes: dict[str, dict[str, Any]] = {"reservoir": {}}
    chosen = values.get(STATE_SET)
    if chosen is not None:
        changes["reservoir"].update(STATE_SETS[str(chosen)].settings)
    for name, value in values.items():  # a searched value replaces that of the set
        if name == STATE_SET:
            continue
        if name not in DIMENSION_KEYS:
            raise InputError(
                f"{name} of a candidate is not a dimension of the search space: start the search again with --restart"
            )
        if isinstance(value, str) and is_user_class(value):
            _refuse_other_code(config, name, value)
        owner = owner_of(name)
        changes.setdefault(owner.section, {})[owner.key] = value
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
    if name in READOUT_DIMENSIONS and evaluation == "ridge":
        raise InputError(
            f"search.space.{name} has no effect with search.evaluation = {evaluation!r}, which trains no readout: set "
            "search.evaluation = 'train', or remove it"
        )
    if name == STATE_SET:
        return _state_set(bounds)
    owner = owner_of(name)
    integer = bounds.integer or owner.type.model_fields[owner.key].annotation is int
    if bounds.choices is not None:
        return _choice(owner, name, bounds.choices, bounds.start, integer)
    if bounds.low is None or bounds.high is None or isinstance(bounds.start, str):  # the section refuses this
        raise AssertionError(f"search.space.{name} has no bounds")
    low, high = bounds.low, bounds.high
    if integer:
        low, high = float(np.ceil(low)), float(np.floor(high))
        if low >= high:
            raise InputError(
                f"search.space.{name}: there are fewer than two integers between {bounds.low:g} and {bounds.high:g}"
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
    start_index = None if bounds.start is None else float(choices.index(str(bounds.start)))
    return Dimension(STATE_SET, 0.0, len(choices) - 1.0, False, False, choices, start_index)


def _choice(owner: Owner, name: str, choices: list[float | str], start: float | str | None, integer: bool) -> Dimension:
    for choice in choices:
        if integer and isinstance(choice, float) and choice != int(choice):
            raise InputError(f"search.space.{name}: {choice:g} is not an integer")
        _check_bound(owner, name, "a choice", choice, integer)
    values = tuple(int(choice) if integer and isinstance(choice, float) else choice for choice in choices)
    start_index = None if start is None else float(choices.index(start))
    return Dimension(name, 0.0, len(values) - 1.0, False, False, values, start_index)


def _check_bound(owner: Owner, name: str, side: str, value: float | str, integer: bool) -> None:
    """Refuse a bound or choice that its key does not accept."""
    problem = owner.accepts(int(value) if integer and not isinstance(value, str) else value)
    if problem is not None:
        shown = repr(value) if isinstance(value, str) else f"{value:g}"
        raise InputError(
            f"search.space.{name}: {side} = {shown} is not accepted as {owner.section}.{owner.key} ({problem})"
        )
