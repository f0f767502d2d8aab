"""Every combination of choices, once: the optimiser of a selection."""

from __future__ import annotations

import itertools

import numpy as np

from rcdp_hpc.search.optimizers.base import Positions
from rcdp_hpc.search.optimizers.random_search import RandomSearch


class Grid(RandomSearch):
    """All positions of a box whose dimensions are choices, in one generation; the last dimension varies fastest.

    A dimension of n choices has the bounds [-1/2, n - 1/2] (`rcdp_hpc.search.space.Dimension`), so its positions are 0
    to n - 1. Parameters are those of `Optimizer`; `population` must be the number of combinations and `generations` 1.
    Seed and starting point have no effect.
    """

    def ask(self) -> Positions:
        """Return all positions, shape (N, d)."""
        counts = np.rint(self.upper - self.lower).astype(int)
        positions = np.array(list(itertools.product(*(range(count) for count in counts))), dtype=np.float64)
        if len(positions) != self.population or self.generations != 1:
            raise ValueError(f"a grid of {len(positions)} positions needs this population and one generation")
        return positions + self.lower + 0.5
