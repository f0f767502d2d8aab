"""Predicted cost of a candidate, from the seconds of earlier candidates. No result depends on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.search.space import Dimension, Space

MEASUREMENTS = 2000  # the most recent ones are used
LEAST_SHARE = 0.05  # of the mean cost; a lower prediction is raised to it
LARGEST = 1e150  # choices of a function of the user beyond it are only told apart, as texts are
# Until there are enough measurements, the cost grows with these values: eigenvalues and sparse matrices, training.
_PRIOR = ("density", "hidden")

Columns = NDArray[np.float64]
Sizes = Mapping[str, Columns]


def _width(of: Sizes) -> Columns:
    return of["layers"] * of["nodes"] * of["states"]


# Work that grows as a product of sizes. A size that is not searched counts as 1.
_PRODUCTS: tuple[tuple[tuple[str, ...], Callable[[Sizes], Columns]], ...] = (
    (("layers", "nodes"), lambda of: of["layers"] * of["nodes"] ** 2),  # states
    (("layers", "nodes", "states"), lambda of: _width(of) ** 2),  # the sums of ridge regression
    (("layers", "nodes", "states", "outputs"), lambda of: _width(of) * of["outputs"]),  # eq. 10
    (
        ("outputs", "hidden", "readout_layers"),
        lambda of: of["hidden"] * (of["outputs"] + of["readout_layers"] * of["hidden"]),  # eq. 11
    ),
    (("batch",), lambda of: 1 / of["batch"]),  # steps of an epoch
)
_SIZES = {name for names, _ in _PRODUCTS for name in names}


class CostModel:
    """Predicts the seconds of a candidate from the seconds of earlier candidates.

    The prediction is linear in the candidate's values and, if sizes are searched, in products of them: the work of a
    reservoir grows with the square of its nodes. Before there are enough measurements, the predicted cost grows with
    connection density, hidden width and these products.

    Parameters
    ----------
    space : Space
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        sizes = {one.name for one in space.dimensions if one.name in _SIZES and min(_numbers(one) or [0.0]) > 0}
        self._sizes = sizes
        self._products = [product for names, product in _PRODUCTS if set(names) & sizes]
        self._values: list[Columns] = []
        self._seconds: list[float] = []

    @property
    def slowest(self) -> float:
        """The seconds of the slowest candidate so far; 0 without measurements."""
        return max(self._seconds, default=0.0)

    def observe(self, values: Columns, seconds: float) -> None:
        """Add the measured seconds of a candidate with these values, shape (d,)."""
        self._values.append(values)
        self._seconds.append(seconds)
        del self._values[:-MEASUREMENTS], self._seconds[:-MEASUREMENTS]

    def predict(self, values: Columns) -> Columns:
        """Return the predicted costs of candidates, shape (n,), from their values, shape (n, d).

        The unit is seconds if there are enough measurements, and arbitrary otherwise.
        """
        single, products = self._single(values), self._product_columns(values)
        columns = np.column_stack([np.ones(len(values)), *single.values(), *products])
        if len(self._seconds) < 2 * columns.shape[1]:
            prior = [column for name, column in single.items() if name in _PRIOR]
            return np.sum([np.ones(len(values)), *prior, *products], axis=0)
        measured, seconds = np.array(self._values), np.array(self._seconds)
        design = np.column_stack([
            np.ones(len(measured)), *self._single(measured).values(), *self._product_columns(measured),
        ])  # fmt: skip
        weights, *_ = np.linalg.lstsq(design, seconds, rcond=1e-6)
        return np.maximum(columns @ weights, LEAST_SHARE * seconds.mean())

    def _single(self, values: Columns) -> dict[str, Columns]:
        """Return columns of single values by name, 0 to 1; a text has one for each choice but the first."""
        found: dict[str, Columns] = {}
        for dimension, column in zip(self.space.dimensions, values.T, strict=True):
            numbers = _numbers(dimension)
            if numbers is None:
                found |= {
                    f"{dimension.name} {place}": 1.0 * (column == place) for place in range(1, len(dimension.choices))
                }
            else:
                low, high = min(numbers), max(numbers)
                found[dimension.name] = (_in_numbers(dimension, column) - low) / (high - low)
        return found

    def _product_columns(self, values: Columns) -> list[Columns]:
        """Return the products of sizes, divided by their largest value in the space."""
        sizes, largest = {name: np.ones(len(values)) for name in _SIZES}, {name: np.ones(1) for name in _SIZES}
        for dimension, column in zip(self.space.dimensions, values.T, strict=True):
            numbers = _numbers(dimension)
            if dimension.name in self._sizes and numbers is not None:
                sizes[dimension.name] = _in_numbers(dimension, column)
                # The most steps are those of the smallest batch.
                largest[dimension.name] = np.array([min(numbers) if dimension.name == "batch" else max(numbers)])
        return [product(sizes) / product(largest) for product in self._products]


def _numbers(dimension: Dimension) -> list[float] | None:
    """Return the bounds of a dimension or its choices; None if a choice is text, or too large a number."""
    if not dimension.choices:
        return [dimension.low, dimension.high]
    if not all(isinstance(choice, int | float) and abs(choice) < LARGEST for choice in dimension.choices):
        return None
    return [float(choice) for choice in dimension.choices]


def _in_numbers(dimension: Dimension, column: Columns) -> Columns:
    """Return the values of a column whose numbers are indices if the dimension has choices."""
    return np.array(dimension.choices, dtype=np.float64)[column.astype(int)] if dimension.choices else column
