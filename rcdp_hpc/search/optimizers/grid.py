"""Every combination of choices, once: what a selection evaluates."""

from __future__ import annotations

import itertools

import numpy as np

from rcdp_hpc.search.optimizers.base import Positions
from rcdp_hpc.search.optimizers.random_search import RandomSearch


class Grid(RandomSearch):
    """All places of a box whose dimensions are choices, in one generation, the last dimension varying fastest.

    A dimension of n choices has the bounds [-1/2, n - 1/2] (`rcdp_hpc.search.space.Dimension`), so its places are
    0 .. n - 1. Parameters are those of `Optimizer`; `population` must be the number of combinations and `generations`
    1. Seed and start do not matter.
    """

    def ask(self) -> Positions:
        """Return all places, shape (N, d)."""
        counts = np.rint(self.upper - self.lower).astype(int)
        places = np.array(list(itertools.product(*(range(count) for count in counts))), dtype=np.float64)
        if len(places) != self.population or self.generations != 1:
            raise ValueError(f"a grid of {len(places)} places needs this population and one generation")
        return places + self.lower + 0.5
