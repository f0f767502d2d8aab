"""The search space: which values are searched, between which bounds, on which scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from rcdp_hpc.config import (
    Config,
    RangeSection,
    ReservoirSection,
    SearchSection,
    Section,
    SpaceSection,
    TrainingSection,
)
from rcdp_hpc.errors import InputError

Values = dict[str, float | int]
READOUT_KEYS = ("learning_rate", "relu_slope", "hidden")


@dataclass(frozen=True)
class Dimension:
    """One searched value.

    Attributes
    ----------
    name : str
        Its key in the section ``[reservoir]`` or ``[training]``.
    low, high : float
        Bounds of the value, whole numbers where `integer` is set.
    log, integer : bool
        Searched as log10 of the value; rounded to whole numbers, halves up.
    """

    name: str
    low: float
    high: float
    log: bool
    integer: bool

    @property
    def lower(self) -> float:
        """Lower bound in search coordinates."""
        return float(np.log10(self.low)) if self.log else self.low

    @property
    def upper(self) -> float:
        """Upper bound in search coordinates."""
        return float(np.log10(self.high)) if self.log else self.high

    def decode(self, coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn search coordinates into values within the bounds."""
        inside = np.clip(coordinates, self.lower, self.upper)
        values = 10.0**inside if self.log else inside
        if self.integer:
            values = np.floor(values + 0.5)
        return np.clip(values, self.low, self.high)


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
        evaluation : {"ridge", "train"}
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

    def decode_rows(self, positions: ArrayLike) -> NDArray[np.float64]:
        """Turn positions into values, both of shape (n, d)."""
        columns = np.asarray(positions, dtype=np.float64).T
        return np.stack(
            [dimension.decode(column) for dimension, column in zip(self.dimensions, columns, strict=True)], axis=1
        )

    def named(self, row: NDArray[np.float64]) -> Values:
        """Return one row of values, shape (d,), by name; whole numbers as int."""
        return {
            dimension.name: int(value) if dimension.integer else float(value)
            for dimension, value in zip(self.dimensions, row, strict=True)
        }

    def decode(self, position: ArrayLike) -> Values:
        """Return the values at a position, shape (d,), by name."""
        return self.named(self.decode_rows(np.asarray(position, dtype=np.float64)[np.newaxis])[0])


def with_values(config: Config, values: Values) -> Config:
    """Return the configuration with a candidate's values in ``[reservoir]`` and ``[training]``."""
    reservoir = {name: value for name, value in values.items() if name not in READOUT_KEYS}
    training = {name: value for name, value in values.items() if name in READOUT_KEYS}
    update = {
        "reservoir": config.reservoir.model_copy(update=reservoir),
        "training": config.training.model_copy(update=training),
    }
    return config.model_copy(update=update)


def searched_space(search: SearchSection) -> Space:
    """Return the space of the section ``[search]``; errors as `Space.from_config`."""
    return Space.from_config(search.space, search.evaluation)


def _dimension(name: str, bounds: RangeSection, evaluation: str) -> Dimension:
    if name in READOUT_KEYS and evaluation != "train":
        raise InputError(
            f"search.space.{name} has no meaning with search.evaluation = {evaluation!r}, where no readout is trained: "
            "set search.evaluation = 'train', or take it out"
        )
    owner: type[Section] = TrainingSection if name in READOUT_KEYS else ReservoirSection
    integer = bounds.integer or owner.model_fields[name].annotation is int
    low, high = bounds.low, bounds.high
    if integer:
        low, high = float(np.ceil(low)), float(np.floor(high))
        if low >= high:
            raise InputError(
                f"search.space.{name}: fewer than two whole numbers lie between {bounds.low:g} and {bounds.high:g}"
            )
    _check_bound(owner, name, "low", low, integer)
    _check_bound(owner, name, "high", high, integer)
    return Dimension(name, low, high, bounds.log, integer)


def _check_bound(owner: type[Section], name: str, side: str, value: float, integer: bool) -> None:
    """Refuse a bound that would be refused as the value of its key."""
    try:
        owner.model_validate({name: int(value) if integer else value})
    except ValidationError as error:
        section = "training" if owner is TrainingSection else "reservoir"
        problem = error.errors()[0]["msg"].lower()
        raise InputError(
            f"search.space.{name}: {side} = {value:g} is not accepted as {section}.{name} ({problem})"
        ) from None
