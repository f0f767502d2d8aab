"""Base class of the optimisers that move a population of positions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcdp_hpc.search.optimizers.base import Costs, Optimizer, Positions


class PopulationOptimizer(Optimizer):
    """N positions that move after every generation, and the best position evaluated so far.

    A subclass defines `next_positions`. One with further state sets it up in `initialise`, lists its attributes in
    `further_state`, and updates it in `update`. Parameters are those of `Optimizer`.

    Attributes
    ----------
    positions : ndarray, shape (N, d)
        The positions of this generation.
    best_position : ndarray, shape (d,)
    best_cost : ndarray, shape ()
    further_state : tuple of str
        Class attribute: names of the attributes, arrays of fixed shape, that belong to the state.
    """

    further_state: ClassVar[tuple[str, ...]] = ()

    def initialise(self) -> None:
        """Place the positions; the first one is the best until costs arrive."""
        self.positions = self.first_positions()
        self.best_position = self.positions[0].copy()
        self.best_cost = np.array(np.inf)

    @property
    def progress(self) -> float:
        """The evaluated share of the generations, l/T."""
        return (self.generation - 1) / self.generations

    def ask(self) -> Positions:
        """Return the positions of this generation, shape (N, d)."""
        return self.positions.copy()

    def tell(self, costs: ArrayLike) -> None:
        """Receive the costs, shape (N,), update the best position, and move."""
        checked = self.checked_costs(costs)
        first = int(np.argmin(checked))
        if checked[first] < self.best_cost:
            self.best_position = self.positions[first].copy()
            self.best_cost = np.array(checked[first])
        self.update(checked)
        self.generation += 1
        if not self.done:
            self.positions = np.clip(self.next_positions(checked), self.lower, self.upper)

    def best(self) -> tuple[NDArray[np.float64], float]:
        """Return the best position so far, shape (d,), and its cost."""
        return self.best_position.copy(), float(self.best_cost)

    def update(self, costs: Costs) -> None:
        """Update the further state by the costs of `positions`, shape (N,); by default there is none."""

    @abstractmethod
    def next_positions(self, costs: Costs) -> Positions:
        """Return the positions of generation `generation`, shape (N, d); the caller clips them to the bounds.

        Parameters
        ----------
        costs : ndarray, shape (N,)
            Costs of `positions`, which are still those of the generation before.
        """

    def state(self) -> dict[str, NDArray[Any]]:
        """Return generation, positions, best_position, best_cost and the further state."""
        arrays = {name: np.array(getattr(self, name)) for name in self._state_names()}
        return {"generation": np.array(self.generation, dtype=np.int64), **arrays}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a state."""
        checked = self.checked_state(state)
        self.generation = int(checked["generation"])
        for name in self._state_names():
            setattr(self, name, checked[name])

    def _state_names(self) -> tuple[str, ...]:
        return ("positions", "best_position", "best_cost", *self.further_state)
