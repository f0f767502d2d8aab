"""A genetic algorithm on real numbers, from its published operators.

K. Deb, R. B. Agrawal, "Simulated binary crossover for continuous search space", Complex Systems 9 (1995) 115-148.
K. Deb, M. Goyal, "A combined genetic adaptive search (GeneAS) for engineering design", Computer Science and
Informatics 26 (1996) 30-45: polynomial mutation.
D. E. Goldberg, K. Deb, "A comparative analysis of selection schemes used in genetic algorithms", Foundations of
Genetic Algorithms 1 (1991) 69-93: binary tournament.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.search.optimizers.base import Costs, Positions
from rcdp_hpc.search.optimizers.population import PopulationOptimizer

CROSSOVER_CHANCE = 0.9
CROSSOVER_INDEX = 15.0
MUTATION_INDEX = 20.0


class Genetic(PopulationOptimizer):
    """Parents by binary tournament, children by simulated binary crossover and polynomial mutation.

    N children replace the N parents after every generation; the best position so far replaces the first child. The
    steps (the papers number theirs differently):

    1. two parents, each the better of two random positions (Goldberg and Deb 1991);
    2. crossover with probability 0.9, each dimension with probability 1/2. For u uniform in [0, 1), beta =
       (2u)^(1/(n + 1)) if u ≤ 1/2, otherwise (1/(2·(1 - u)))^(1/(n + 1)), n = 15; the children are
       ((1 ± beta)·p1 + (1 ∓ beta)·p2)/2 (Deb and Agrawal 1995);
    3. mutation of each dimension with probability 1/d. For u uniform in [0, 1), delta = (2u)^(1/(m + 1)) - 1 if
       u < 1/2, otherwise 1 - (2·(1 - u))^(1/(m + 1)), m = 20; the child moves by delta times the width of the box (Deb
       and Goyal 1996).

    Positions are clipped to the bounds. Parameters are those of `Optimizer`.
    """

    def next_positions(self, costs: Costs) -> Positions:
        """Return the children of the evaluated generation, shape (N, d)."""
        count, size = self.positions.shape
        pairs = (count + 1) // 2
        numbers = self.random_numbers(self.generation, pairs * (5 + 2 * size) + 2 * pairs * 2 * size)
        contests = numbers[: 4 * pairs].reshape(4, pairs)
        chance = numbers[4 * pairs : 5 * pairs, None]
        spread, takes_part = numbers[5 * pairs : pairs * (5 + 2 * size)].reshape(2, pairs, size)
        mutates, shift = numbers[pairs * (5 + 2 * size) :].reshape(2, 2 * pairs, size)

        first, second = (self._winners(contests[place], contests[place + 1], costs) for place in (0, 2))
        beta = np.where((chance < CROSSOVER_CHANCE) & (takes_part < 0.5), spread_factor(spread), 1.0)
        middle = (first + second) / 2.0
        half = beta * (first - second) / 2.0
        children = np.stack([middle + half, middle - half], axis=1).reshape(2 * pairs, size)
        step = mutation_step(shift) * (self.upper - self.lower)
        children = (children + np.where(mutates < 1.0 / size, step, 0.0))[:count]
        children[0] = self.best_position
        return children

    def _winners(self, first_u: NDArray[np.float64], second_u: NDArray[np.float64], costs: Costs) -> Positions:
        """Return the better position of each random pair, shape (pairs, d); the first of equals."""
        first, second = (np.minimum((u * len(costs)).astype(np.int64), len(costs) - 1) for u in (first_u, second_u))
        return self.positions[np.where(costs[second] < costs[first], second, first)]


def spread_factor(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return beta of simulated binary crossover."""
    power = 1.0 / (CROSSOVER_INDEX + 1.0)
    return np.where(u <= 0.5, (2.0 * u) ** power, (1.0 / (2.0 * (1.0 - u))) ** power)


def mutation_step(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return delta of polynomial mutation."""
    power = 1.0 / (MUTATION_INDEX + 1.0)
    return np.where(u < 0.5, (2.0 * u) ** power - 1.0, 1.0 - (2.0 * (1.0 - u)) ** power)
