"""Particle swarm optimisation with an inertia weight, as published.

J. Kennedy, R. Eberhart, "Particle swarm optimization", Proc. ICNN'95, vol. 4 (1995) 1942-1948.
Y. Shi, R. Eberhart, "A modified particle swarm optimizer", Proc. IEEE ICEC (1998) 69-73, eq. 2a and 2b: those
of 1995 (there 1a and 1b) with an inertia weight.
Y. Shi, R. Eberhart, "Empirical study of particle swarm optimization", Proc. CEC (1999) 1945-1950: inertia
falling linearly from 0.9 to 0.4, acceleration constants of 2.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rcdp_hpc.search.optimizers.base import Costs, Positions
from rcdp_hpc.search.optimizers.population import PopulationOptimizer

INERTIA = (0.9, 0.4)
COGNITIVE = SOCIAL = 2.0  # c1 and c2 of eq. 2a
FASTEST = 0.5  # of the width of the box: Vmax = Xmax of a box around 0


class ParticleSwarm(PopulationOptimizer):
    """Particles drawn to the best position each has seen (p), and to the best of all (g).

    After generation l, with r1 and r2 uniform in [0, 1) for every particle and dimension:

    - v ← w·v + c1·r1·(p - x) + c2·r2·(g - x) (eq. 2a), c1 = c2 = 2, w falling linearly from 0.9 to 0.4;
    - v is held within half the width of the box (Vmax = Xmax);
    - x ← x + v (eq. 2b), clipped to the bounds.

    The first velocities are uniform within the same limit. Parameters are those of `Optimizer`.
    """

    carried: ClassVar[tuple[str, ...]] = ("velocities", "own_positions", "own_costs")

    def begin(self) -> None:
        """Place the particles and give each a velocity."""
        super().begin()
        self.limit = FASTEST * (self.upper - self.lower)
        size = self.positions.size
        drawn = self.numbers(1, 2 * size)[size:].reshape(self.population, -1)  # the first of them placed the particles
        self.velocities = (2.0 * drawn - 1.0) * self.limit
        self.own_positions = self.positions.copy()
        self.own_costs: Costs = np.full(self.population, np.inf)

    def learn(self, costs: Costs) -> None:
        """Keep each particle's best position."""
        better = costs < self.own_costs
        self.own_positions[better] = self.positions[better]
        self.own_costs[better] = costs[better]

    def moved(self, costs: Costs) -> Positions:
        """Return the particles after eq. 2a and 2b, shape (N, d)."""
        steps = max(self.generations - 2, 1)
        inertia = INERTIA[0] - (INERTIA[0] - INERTIA[1]) * (self.generation - 2) / steps
        size = self.positions.shape
        r1, r2 = self.numbers(self.generation, 2 * self.positions.size).reshape(2, *size)
        pull = COGNITIVE * r1 * (self.own_positions - self.positions) + SOCIAL * r2 * (
            self.best_position - self.positions
        )
        self.velocities = np.clip(inertia * self.velocities + pull, -self.limit, self.limit)
        return self.positions + self.velocities
