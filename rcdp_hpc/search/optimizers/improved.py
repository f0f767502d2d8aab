"""Moth-flame optimisation with changes that literature proposes; none of them is part of the published algorithm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcdp_hpc.search.optimizers.base import Positions
from rcdp_hpc.search.optimizers.moth_flame import MothFlame
from rcdp_hpc.search.optimizers.vultures import levy

IMPROVEMENTS = ("opposition", "levy", "restart")
STALE_GENERATIONS = 5  # generations without a better flame, after which moths are replaced
REPLACED = 0.25  # of the moths, the last ones


class ImprovedMothFlame(MothFlame):
    """Moth-flame optimisation with any of three changes, none of which takes more evaluations.

    - ``"opposition"``: in generation 1 the second half of the moths are the opposites lower + upper - x of the first
      half (H. R. Tizhoosh, "Opposition-based learning", Proc. CIMCA (2005) 695-701).
    - ``"levy"``: after the spiral every moth takes a step of a Levy flight, 0.01 of it in units of the box's width
      (Z. Li, Y. Zhou, S. Zhang, J. Song, "Levy-flight moth-flame algorithm for function optimization and engineering
      design problems", Mathematical Problems in Engineering (2016) 1423930).
    - ``"restart"``: after 5 generations without a better flame the last quarter of the moths is drawn anew: the random
      immigrants of J. J. Grefenstette ("Genetic algorithms for changing environments", Parallel Problem Solving from
      Nature 2 (1992) 137-144), who lets them in every generation, only where the search stagnates.

    Parameters are those of `Optimizer`, and:

    Parameters
    ----------
    improvements : sequence of {"opposition", "levy", "restart"}
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
        if not set(improvements) <= set(IMPROVEMENTS):
            raise ValueError(f"improvements must be among {IMPROVEMENTS}")
        self.improvements = frozenset(improvements)
        self.stale = np.array(0, dtype=np.int64)
        super().__init__(lower, upper, population, generations, seed, start)

    def first(self) -> Positions:
        """Return the moths of generation 1, shape (N, d)."""
        moths = super().first()
        if "opposition" in self.improvements:
            half = self.population // 2
            moths[self.population - half :] = np.clip(self.lower + self.upper - moths[:half], self.lower, self.upper)
        return moths

    def tell(self, costs: ArrayLike) -> None:
        """Take the moths' costs, shape (N,), renew the flames and move the moths."""
        best = min(float(self.flame_costs[0]), float(np.min(self.checked_costs(costs))))
        self.stale = np.array(0 if best < self.flame_costs[0] else self.stale + 1, dtype=np.int64)
        super().tell(costs)
        if self.stale >= STALE_GENERATIONS:
            self.stale = np.array(0, dtype=np.int64)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the state of `MothFlame` and stale, the generations without a better flame."""
        return {**super().state(), "stale": self.stale.copy()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go back to a state."""
        super().restore(state)
        self.stale = self.checked_state(state)["stale"]

    def _moved(self) -> Positions:
        moths, size = super()._moved(), self.moths.size
        further = self.numbers(self.generation, 6 * size)[size:].reshape(5, *self.moths.shape)
        if "levy" in self.improvements:
            moths = np.clip(moths + levy(*further[:4]) * (self.upper - self.lower), self.lower, self.upper)
        if "restart" in self.improvements and self.stale >= STALE_GENERATIONS:
            count = max(1, int(REPLACED * self.population))
            drawn = self.lower + further[4] * (self.upper - self.lower)
            moths[-count:] = np.clip(drawn, self.lower, self.upper)[-count:]
        return moths
