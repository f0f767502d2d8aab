"""Random immigrants after stagnation.

J. J. Grefenstette, "Genetic algorithms for changing environments", Parallel Problem Solving from Nature 2 (1992)
137-144, replaces a part of the population in every generation; here only after stagnation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.search.optimizers.improvements.base import Improvement

if TYPE_CHECKING:
    from rcdp_hpc.search.optimizers.base import Costs, Positions
    from rcdp_hpc.search.optimizers.moth_flame import MothFlame

STAGNATION = 5  # generations without a better flame
REPLACED_SHARE = 0.25  # of the moths, the last ones


class Restart(Improvement):
    """After 5 generations without a better flame, random positions replace the last quarter of the moths.

    Attributes
    ----------
    stale : ndarray, shape (), int64
        Generations without a better flame.
    """

    def __init__(self) -> None:
        self.stale = np.array(0, dtype=np.int64)

    def observe(self, search: MothFlame, costs: Costs) -> None:
        """Count the generation if it has no better flame."""
        better = float(np.min(costs)) < search.flame_costs[0]
        self.stale = np.array(0 if better else self.stale + 1, dtype=np.int64)

    def next_moths(self, search: MothFlame, moths: Positions) -> Positions:
        """Return the moths, the last quarter replaced after stagnation."""
        if self.stale < STAGNATION:
            return moths
        self.stale = np.array(0, dtype=np.int64)
        numbers = search.random_numbers(search.generation, 6, *moths.shape)[5]  # 1 to 4 are those of `Levy`
        positions = search.lower + numbers * (search.upper - search.lower)
        count = max(1, int(REPLACED_SHARE * search.population))
        moths[-count:] = np.clip(positions, search.lower, search.upper)[-count:]
        return moths

    def state(self) -> dict[str, NDArray[Any]]:
        """Return stale."""
        return {"stale": self.stale.copy()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a state."""
        self.stale = state["stale"]
