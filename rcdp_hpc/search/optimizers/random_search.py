"""Uniform random search: the floor that any optimiser has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcdp_hpc.search.optimizers.base import Optimizer, Positions


class RandomSearch(Optimizer):
    """N positions uniform in the box each generation, independent of the costs. Parameters are those of `Optimizer`."""

    def initialise(self) -> None:
        """Take the first position as the best until costs arrive."""
        self.best_position = self.ask()[0]
        self.best_cost = np.inf

    def ask(self) -> Positions:
        """Return the positions of this generation, shape (N, d)."""
        return self.first_positions() if self.generation == 1 else self.uniform_positions(self.generation)

    def tell(self, costs: ArrayLike) -> None:
        """Receive the costs, shape (N,), and update the best position."""
        checked = self.checked_costs(costs)
        first = int(np.argmin(checked))
        if checked[first] < self.best_cost:
            self.best_position = self.ask()[first]
            self.best_cost = float(checked[first])
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
        """Continue from a state."""
        checked = self.checked_state(state)
        self.generation = int(checked["generation"])
        self.best_position = checked["best_position"]
        self.best_cost = float(checked["best_cost"])
