"""Moth-flame optimisation as published.

S. Mirjalili, "Moth-flame optimization algorithm: A novel nature-inspired heuristic paradigm",
Knowledge-Based Systems 89 (2015) 228-249. docs/search.md lists where the author's MATLAB program and two
widespread Python packages differ from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcdp_hpc.search.optimizers.base import Costs, Optimizer, Positions

SPIRAL_SHAPE = 1.0  # b of eq. 3.12


class MothFlame(Optimizer):
    """Moths on spirals around flames, the best positions found so far.

    Generation l = 1..T of N moths M: the flames F become the best N of the old flames and of the moths just
    evaluated, best first; then every moth moves:

    - flames left: round(N - l·(N - 1)/T), halves up (eq. 3.14), 1 at l = T;
    - t uniform in [r, 1] for every moth and dimension, r = -1 - l/T;
    - D = abs(F_j - M_i) (eq. 3.13) and M_i ← D·e^(b·t)·cos(2·pi·t) + F_j (eq. 3.12, eq. 4 of the paper this
      package is built on), b = 1, j = min(i, flames left): moths beyond the last flame circle the last one;
    - positions are clipped to the bounds.

    What the move after generation T leads to is not evaluated. Of equal costs the older comes first, flames
    before moths. Parameters are those of `Optimizer`.
    """

    def begin(self) -> None:
        """Place the moths; each is its own flame until costs are told."""
        self.moths = self.first()
        self.flames: Positions = self.moths.copy()
        self.flame_costs: Costs = np.full(self.population, np.inf)

    def ask(self) -> Positions:
        """Return the moths of this generation, shape (N, d)."""
        return self.moths.copy()

    def tell(self, costs: ArrayLike) -> None:
        """Take the moths' costs, shape (N,), renew the flames and move the moths."""
        evaluated = self.checked_costs(costs)
        self._renew_flames(evaluated)
        self.generation += 1
        if not self.done:
            self.moths = self._moved()

    def best(self) -> tuple[NDArray[np.float64], float]:
        """Return the first flame, shape (d,), and its cost."""
        return self.flames[0].copy(), float(self.flame_costs[0])

    def flame_count(self, generation: int) -> int:
        """Return how many flames are left after a generation (eq. 3.14)."""
        count, last = self.population, self.generations
        # In whole numbers, so that a half is a half: floor(x + 1/2) of x = N - l·(N - 1)/T.
        return (2 * (count * last - generation * (count - 1)) + last) // (2 * last)

    def status(self) -> str:
        """Return how many flames the last move was made around."""
        return f"{self.flame_count(max(self.generation - 1, 1))} flames"

    def state(self) -> dict[str, NDArray[Any]]:
        """Return generation, moths, flames and flame_costs."""
        return {
            "generation": np.array(self.generation, dtype=np.int64),
            "moths": self.moths.copy(),
            "flames": self.flames.copy(),
            "flame_costs": self.flame_costs.copy(),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go back to a state."""
        checked = self.checked_state(state)
        self.generation = int(checked["generation"])
        self.moths, self.flames, self.flame_costs = checked["moths"], checked["flames"], checked["flame_costs"]

    def _renew_flames(self, costs: Costs) -> None:
        if self.generation == 1:  # before it there are no flames
            positions, pooled = self.moths, costs
        else:
            positions, pooled = np.concatenate([self.flames, self.moths]), np.concatenate([self.flame_costs, costs])
        kept = np.argsort(pooled, kind="stable")[: self.population]
        self.flames, self.flame_costs = positions[kept], pooled[kept]

    def _moved(self) -> Positions:
        """Return the moths of the generation now begun; l of the equations is the one before it."""
        told = self.generation - 1
        own_flame = np.minimum(np.arange(self.population), self.flame_count(told) - 1)
        centre = self.flames[own_flame]
        distance = np.abs(centre - self.moths)
        r = -1.0 - told / self.generations
        t = r + (1.0 - r) * self.draws(self.generation)
        spiral = distance * np.exp(SPIRAL_SHAPE * t) * np.cos(2.0 * np.pi * t) + centre
        return np.clip(spiral, self.lower, self.upper)
