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
MAX_VELOCITY = 0.5  # in widths of the box: Vmax = Xmax of a box around 0


class ParticleSwarm(PopulationOptimizer):
    """Particles attracted to the best position of each (p) and to the best of all (g).

    After every generation, with r1 and r2 uniform in [0, 1) for every particle and dimension:

    - v ← w·v + c1·r1·(p - x) + c2·r2·(g - x) (eq. 2a), c1 = c2 = 2, w falling linearly from 0.9 to 0.4;
    - v is limited to half the width of the box (Vmax = Xmax);
    - x ← x + v (eq. 2b), clipped to the bounds.

    The first velocities are uniform within the same limit. Parameters are those of `Optimizer`.
    """

    further_state: ClassVar[tuple[str, ...]] = ("velocities", "personal_bests", "personal_costs")

    def initialise(self) -> None:
        """Place the particles and give each a velocity."""
        super().initialise()
        self.limit = MAX_VELOCITY * (self.upper - self.lower)
        _, numbers = self.random_numbers(1, 2, *self.positions.shape)  # the first half placed the particles
        self.velocities = (2.0 * numbers - 1.0) * self.limit
        self.personal_bests = self.positions.copy()
        self.personal_costs: Costs = np.full(self.population, np.inf)

    def update(self, costs: Costs) -> None:
        """Update the best position of each particle."""
        better = costs < self.personal_costs
        self.personal_bests[better] = self.positions[better]
        self.personal_costs[better] = costs[better]

    def next_positions(self, costs: Costs) -> Positions:
        """Return the particles after eq. 2a and 2b, shape (N, d)."""
        steps = max(self.generations - 2, 1)
        inertia = INERTIA[0] - (INERTIA[0] - INERTIA[1]) * (self.generation - 2) / steps
        r1, r2 = self.random_numbers(self.generation, 2, *self.positions.shape)
        attraction = COGNITIVE * r1 * (self.personal_bests - self.positions) + SOCIAL * r2 * (
            self.best_position - self.positions
        )
        self.velocities = np.clip(inertia * self.velocities + attraction, -self.limit, self.limit)
        return self.positions + self.velocities
