"""The whale optimisation algorithm as published.

S. Mirjalili, A. Lewis, "The whale optimization algorithm", Advances in Engineering Software 95 (2016) 51-67.
"""

from __future__ import annotations

import numpy as np

from rcdp_hpc.search.optimizers.base import Costs, Positions
from rcdp_hpc.search.optimizers.population import PopulationOptimizer

SPIRAL_SHAPE = 1.0  # b of eq. 2.5


class Whale(PopulationOptimizer):
    """Whales that encircle, or spiral around, the best position X* found so far.

    After generation l = 1..T every whale X moves, with a falling linearly from 2 in the first move towards 0:

    - A = 2a·r - a (eq. 2.3) and C = 2·r (eq. 2.4), with an independent r uniform in [0, 1] for each;
    - p uniform in [0, 1) chooses (eq. 2.6). If p < 1/2 and abs(A) < 1, X ← X* - A·D, D = abs(C·X* - X) (eq. 2.1, 2.2).
      If p < 1/2 and abs(A) ≥ 1, X ← X_rand - A·D, D = abs(C·X_rand - X), X_rand a random whale (eq. 2.7, 2.8);
    - otherwise X ← D'·e^(b·u)·cos(2·pi·u) + X*, D' = abs(X* - X), u uniform in [-1, 1], b = 1 (eq. 2.5);
    - positions are clipped to the bounds.

    The paper writes A and C as vectors and compares abs(A) with 1. Here they are one number per whale, which that
    comparison needs. All whales move from their evaluated positions. Parameters are those of `Optimizer`.
    """

    def next_positions(self, costs: Costs) -> Positions:
        """Return the whales after eq. 2.1 to 2.8, shape (N, d)."""
        a = 2.0 - 2.0 * (self.generation - 2) / self.generations
        r_a, r_c, p, u, choice = self.random_numbers(self.generation, 5, self.population, 1)
        prey = self.best_position
        whales = self.positions
        coefficient = 2.0 * a * r_a - a
        random_whales = whales[np.minimum((choice[:, 0] * self.population).astype(np.int64), self.population - 1)]
        centre = np.where(np.abs(coefficient) < 1.0, prey, random_whales)
        encircled = centre - coefficient * np.abs(2.0 * r_c * centre - whales)
        u = 2.0 * u - 1.0
        spiral = np.abs(prey - whales) * np.exp(SPIRAL_SHAPE * u) * np.cos(2.0 * np.pi * u) + prey
        return np.where(p < 0.5, encircled, spiral)
