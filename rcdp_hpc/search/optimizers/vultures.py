"""The African vultures optimisation algorithm as published.

B. Abdollahzadeh, F. S. Gharehchopogh, S. Mirjalili, "African vultures optimization algorithm: A new
nature-inspired metaheuristic algorithm for global optimization problems", Computers & Industrial Engineering
158 (2021) 107408.
"""

from __future__ import annotations

from math import pi
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcdp_hpc.search.optimizers.base import Costs, Positions
from rcdp_hpc.search.optimizers.levy_flight import levy_steps
from rcdp_hpc.search.optimizers.population import PopulationOptimizer

BEST_SHARE = 0.8  # L1 of eq. 1; L2 = 1 - L1
EXPONENT = 2.5  # w of eq. 3
P1, P2, P3 = 0.6, 0.4, 0.6


class Vultures(PopulationOptimizer):
    """Vultures around the two best positions so far.

    After generation l of T every vulture P follows R, the best position with probability 0.8 and otherwise the second
    best (eq. 1, and eq. 2 with L1 and L2), with a hunger F that falls to 0. With f = l/T:

    - t = h·(sin^w(pi/2·f) + cos(pi/2·f) - 1), h uniform in [-2, 2], w = 2.5 (eq. 3);
      F = (2·rand + 1)·z·(1 - f) + t, z uniform in [-1, 1] (eq. 4);
    - abs(F) ≥ 1, exploration (eq. 5), P1 = 0.6: R - D·F with D = abs(X·R - P), X = 2·rand (eq. 6, 7), or
      R - F + rand·((ub - lb)·rand + lb) (eq. 8);
    - 1/2 ≤ abs(F) < 1 (eq. 9), P2 = 0.4: D·(F + rand) - (R - P) (eq. 10, 11), or R - (S1 + S2) with
      S1 = R·(rand·P/(2·pi))·cos(P) and S2 = R·(rand·P/(2·pi))·sin(P) (eq. 12, 13);
    - abs(F) < 1/2 (eq. 14), P3 = 0.6: the mean of A1 and A2, A_k = B_k - B_k·P/(B_k - P²)·F for the two best
      B_k (eq. 15, 16), or R - abs(R - P)·F·Levy (eq. 17, 18).

    Every vulture has its own random numbers rand, h and z, and every dimension its own X, u and v of the Levy flight.
    Eq. 18 calls u and v random numbers in [0, 1]; Mantegna's method, which it cites, takes normal numbers, and so do
    the authors' program and this class. If eq. 15 divides by 0, the coordinate becomes that of R. Positions are
    clipped to the bounds. Parameters are those of `Optimizer`.
    """

    further_state: ClassVar[tuple[str, ...]] = ("second_position", "second_cost")

    def initialise(self) -> None:
        """Place the vultures; the last one is the second best until costs arrive."""
        super().initialise()
        self.second_position = self.positions[-1].copy()
        self.second_cost = np.array(np.inf)
        self._earlier_best = (self.best_position, self.best_cost)

    def tell(self, costs: ArrayLike) -> None:
        """Receive the costs, shape (N,), update the two best positions, and move."""
        self._earlier_best = (self.best_position, self.best_cost)
        super().tell(costs)

    def update(self, costs: Costs) -> None:
        """Set the second best to that of the two best so far and the vultures just evaluated."""
        earlier_position, earlier_cost = self._earlier_best
        pooled = np.concatenate([[float(earlier_cost), float(self.second_cost)], costs])
        positions = np.concatenate([[earlier_position, self.second_position], self.positions])
        order = np.argsort(pooled, kind="stable")
        others = [row for row in order[1:] if not np.array_equal(positions[row], positions[order[0]])]
        row = others[0] if others else order[1]
        self.second_position = positions[row].copy()
        self.second_cost = np.array(pooled[row])

    def next_positions(self, costs: Costs) -> Positions:
        """Return the vultures after eq. 1 to 18, shape (N, d)."""
        count, size = self.positions.shape
        numbers = self.random_numbers(self.generation, count * (10 + 5 * size))
        wheel, h, z, rand1, rand2, rand3, rand4, rand5, rand6, choice = numbers[: 10 * count].reshape(10, count, 1)
        x, *normal = numbers[10 * count :].reshape(5, count, size)
        f = self.progress
        vultures = self.positions
        leader = np.where(wheel < BEST_SHARE, self.best_position, self.second_position)
        t = (4.0 * h - 2.0) * (np.sin(pi / 2 * f) ** EXPONENT + np.cos(pi / 2 * f) - 1.0)
        hunger = (2.0 * rand1 + 1.0) * (2.0 * z - 1.0) * (1.0 - f) + t
        distance = np.abs(2.0 * x * leader - vultures)
        explore = np.where(
            choice <= P1,
            leader - distance * hunger,
            leader - hunger + rand2 * ((self.upper - self.lower) * rand3 + self.lower),
        )
        turn = leader * vultures / (2.0 * pi)
        spiral = leader - (turn * rand5 * np.cos(vultures) + turn * rand6 * np.sin(vultures))
        compete = np.where(choice <= P2, distance * (hunger + rand4) - (leader - vultures), spiral)
        flight = leader - np.abs(leader - vultures) * hunger * levy_steps(*normal)
        gather = np.where(choice <= P3, self._mean_of_best(hunger, leader), flight)
        size_of_hunger = np.abs(hunger)
        return np.where(size_of_hunger >= 1.0, explore, np.where(size_of_hunger >= 0.5, compete, gather))

    def _mean_of_best(self, hunger: NDArray[np.float64], leader: Positions) -> Positions:
        """Return eq. 16, the mean of A1 and A2 of eq. 15."""
        vultures = self.positions
        total = np.zeros_like(vultures)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for best in (self.best_position, self.second_position):
                total += best - best * vultures / (best - vultures**2) * hunger
        return np.where(np.isfinite(total), total / 2.0, leader)
