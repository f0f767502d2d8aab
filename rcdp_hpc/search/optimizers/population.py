"""What the optimisers that move a population have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcdp_hpc.search.optimizers.base import Costs, Optimizer, Positions


class PopulationOptimizer(Optimizer):
    """N positions that move after every generation, and the best position evaluated so far.

    Subclasses say how they move, and which arrays beside these belong to their state. Parameters are those of
    `Optimizer`.
    """

    carried: ClassVar[tuple[str, ...]] = ()

    def begin(self) -> None:
        """Place the positions; the first is the best until costs are told."""
        self.positions = self.first()
        self.best_position = self.positions[0].copy()
        self.best_cost = np.array(np.inf)

    @property
    def progress(self) -> float:
        """Share of the generations told, l/T."""
        return (self.generation - 1) / self.generations

    def ask(self) -> Positions:
        """Return the positions of this generation, shape (N, d)."""
        return self.positions.copy()

    def tell(self, costs: ArrayLike) -> None:
        """Take the costs, shape (N,), keep the best position, and move."""
        checked = self.checked_costs(costs)
        first = int(np.argmin(checked))
        if checked[first] < self.best_cost:
            self.best_position, self.best_cost = self.positions[first].copy(), np.array(checked[first])
        self.learn(checked)
        self.generation += 1
        if not self.done:
            self.positions = np.clip(self.moved(checked), self.lower, self.upper)

    def best(self) -> tuple[NDArray[np.float64], float]:
        """Return the best position so far, shape (d,), and its cost."""
        return self.best_position.copy(), float(self.best_cost)

    def learn(self, costs: Costs) -> None:
        """Take what the subclass remembers beyond the best position from the generation just evaluated."""

    @abstractmethod
    def moved(self, costs: Costs) -> Positions:
        """Return the positions of generation `self.generation`, shape (N, d), not yet clipped.

        `costs` are those of `self.positions`, the positions of the generation before.
        """

    def state(self) -> dict[str, NDArray[Any]]:
        """Return generation, positions, best_position, best_cost and what the subclass carries."""
        arrays = {name: np.array(getattr(self, name)) for name in self._names()}
        return {"generation": np.array(self.generation, dtype=np.int64), **arrays}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go back to a state."""
        checked = self.checked_state(state)
        self.generation = int(checked["generation"])
        for name in self._names():
            setattr(self, name, checked[name])

    def _names(self) -> tuple[str, ...]:
        return ("positions", "best_position", "best_cost", *self.carried)
