"""Moth-flame optimisation as published.

S. Mirjalili, "Moth-flame optimization algorithm: A novel nature-inspired heuristic paradigm",
Knowledge-Based Systems 89 (2015) 228-249. docs/search-optimizers.md lists how the author's MATLAB
program and two widespread Python packages differ from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcdp_hpc.config.choices import MOTH_FLAME_IMPROVEMENTS
from rcdp_hpc.runtime.user_code import load_choice
from rcdp_hpc.search.optimizers.base import Costs, Optimizer, Positions
from rcdp_hpc.search.optimizers.improvements.base import Improvement

if TYPE_CHECKING:
    from rcdp_hpc.config import SearchSection

SPIRAL_SHAPE = 1.0  # b of eq. 3.12


class MothFlame(Optimizer):
    """Moths on spirals around flames, the best positions so far.

    In generation l = 1..T of N moths M the flames F become the best N of the old flames and the moths just evaluated,
    best first. Then every moth moves:

    - the number of flames is round(N - l·(N - 1)/T), halves up (eq. 3.14), and 1 at l = T;
    - t is uniform in [r, 1] for every moth and dimension, r = -1 - l/T;
    - D = abs(F_j - M_i) (eq. 3.13) and M_i ← D·e^(b·t)·cos(2·pi·t) + F_j (eq. 3.12, eq. 4 of the paper that this
      package implements), b = 1, j = min(i, number of flames): moths beyond the last flame circle the last one;
    - positions are clipped to the bounds.

    The positions after generation T are not evaluated. Of equal costs the older comes first, flames before moths.
    Parameters are those of `Optimizer`, and:

    Parameters
    ----------
    improvements : sequence of str
        Names from `MOTH_FLAME_IMPROVEMENTS`, in any order; empty is the published algorithm.
    """

    def __init__(
        self,
        lower: ArrayLike,
        upper: ArrayLike,
        population: int,
        generations: int,
        seed: int,
        start: ArrayLike | None = None,
        improvements: Sequence[str] = (),
    ) -> None:
        unknown = [name for name in improvements if name not in MOTH_FLAME_IMPROVEMENTS]
        if unknown:
            raise ValueError(f"improvements must be among {MOTH_FLAME_IMPROVEMENTS.names}, not {unknown}")
        # Always in the order of the table, so that the order in the configuration has no effect.
        names = [name for name in MOTH_FLAME_IMPROVEMENTS.names if name in improvements]
        self.improvements: list[Improvement] = [load_choice(MOTH_FLAME_IMPROVEMENTS, name)() for name in names]
        super().__init__(lower, upper, population, generations, seed, start)

    @classmethod
    def options(cls, search: SearchSection) -> dict[str, Any]:
        """Return the improvements of a configuration."""
        return {"improvements": search.improvements}

    def initialise(self) -> None:
        """Place the moths; each is its own flame until costs arrive."""
        self.moths = self.first_positions()
        for improvement in self.improvements:
            self.moths = improvement.first_moths(self, self.moths)
        self.flames: Positions = self.moths.copy()
        self.flame_costs: Costs = np.full(self.population, np.inf)

    def ask(self) -> Positions:
        """Return the moths of this generation, shape (N, d)."""
        return self.moths.copy()

    def tell(self, costs: ArrayLike) -> None:
        """Receive the costs of the moths, shape (N,), update the flames and move the moths."""
        evaluated = self.checked_costs(costs)
        for improvement in self.improvements:
            improvement.observe(self, evaluated)
        self._update_flames(evaluated)
        self.generation += 1
        if not self.done:
            self.moths = self._next_moths()

    def best(self) -> tuple[NDArray[np.float64], float]:
        """Return the first flame, shape (d,), and its cost."""
        return self.flames[0].copy(), float(self.flame_costs[0])

    def flame_count(self, generation: int) -> int:
        """Return the number of flames after a generation (eq. 3.14)."""
        count, last = self.population, self.generations
        # In integers, so that a half is exact: floor(x + 1/2) of x = N - l·(N - 1)/T.
        return (2 * (count * last - generation * (count - 1)) + last) // (2 * last)

    def status(self) -> str:
        """Return the number of flames of the last move."""
        return f"{self.flame_count(max(self.generation - 1, 1))} flames"

    def state(self) -> dict[str, NDArray[Any]]:
        """Return generation, moths, flames, flame_costs and the state of the improvements."""
        state = {
            "generation": np.array(self.generation, dtype=np.int64),
            "moths": self.moths.copy(),
            "flames": self.flames.copy(),
            "flame_costs": self.flame_costs.copy(),
        }
        for improvement in self.improvements:
            state |= improvement.state()
        return state

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a state."""
        checked = self.checked_state(state)
        self.generation = int(checked["generation"])
        self.moths = checked["moths"]
        self.flames = checked["flames"]
        self.flame_costs = checked["flame_costs"]
        for improvement in self.improvements:
            improvement.restore(checked)

    def _update_flames(self, costs: Costs) -> None:
        if self.generation == 1:  # there are no flames yet
            positions, pooled = self.moths, costs
        else:
            positions = np.concatenate([self.flames, self.moths])
            pooled = np.concatenate([self.flame_costs, costs])
        order = np.argsort(pooled, kind="stable")[: self.population]
        self.flames = positions[order]
        self.flame_costs = pooled[order]

    def _next_moths(self) -> Positions:
        """Return the moths of generation `generation`; l of the equations is the generation before it."""
        evaluated = self.generation - 1
        flame_of_moth = np.minimum(np.arange(self.population), self.flame_count(evaluated) - 1)
        centre = self.flames[flame_of_moth]
        distance = np.abs(centre - self.moths)
        r = -1.0 - evaluated / self.generations
        t = r + (1.0 - r) * self.random_numbers(self.generation, *self.moths.shape)
        spiral = distance * np.exp(SPIRAL_SHAPE * t) * np.cos(2.0 * np.pi * t) + centre
        moths: Positions = np.clip(spiral, self.lower, self.upper)
        for improvement in self.improvements:
            moths = improvement.next_moths(self, moths)
        return moths
