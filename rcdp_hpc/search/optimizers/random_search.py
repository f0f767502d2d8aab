"""Uniform random search: the floor that any optimiser has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcdp_hpc.search.optimizers.base import Optimizer, Positions


class RandomSearch(Optimizer):
    """N positions uniform in the box each generation, whatever the costs. Parameters are those of `Optimizer`."""

    def begin(self) -> None:
        """Take the first position for the best until costs are told."""
        self.best_position = self.ask()[0]
        self.best_cost = np.inf

    def ask(self) -> Positions:
        """Return the positions of this generation, shape (N, d)."""
        return self.first() if self.generation == 1 else self.uniform(self.generation)

    def tell(self, costs: ArrayLike) -> None:
        """Take the costs, shape (N,), and keep the best."""
        checked = self.checked_costs(costs)
        first = int(np.argmin(checked))
        if checked[first] < self.best_cost:
            self.best_position, self.best_cost = self.ask()[first], float(checked[first])
        self.generation += 1

    def best(self) -> tuple[NDArray[np.float64], float]:
        """Return the best position so far, shape (d,), and its cost."""
        return self.best_position.copy(), self.best_cost

    def state(self) -> dict[str, NDArray[Any]]:
        """Return generation, best_position and best_cost."""
        return {
            "generation": np.array(self.generation, dtype=np.int64),
            "best_position": self.best_position.copy(),
            "best_cost": np.array(self.best_cost),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go back to a state."""
        checked = self.checked_state(state)
        self.generation = int(checked["generation"])
        self.best_position, self.best_cost = checked["best_position"], float(checked["best_cost"])
