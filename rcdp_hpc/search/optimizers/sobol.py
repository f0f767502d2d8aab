"""Sobol search: the quasi-random floor.

I. M. Sobol, "On the distribution of points in a cube and the approximate evaluation of integrals", USSR
Computational Mathematics and Mathematical Physics 7 (1967) 86-112; direction numbers of S. Joe, F. Y. Kuo, SIAM
Journal on Scientific Computing 30 (2008) 2635-2654, from SciPy.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from rcdp_hpc.search.optimizers.base import Costs, Positions
from rcdp_hpc.search.optimizers.population import PopulationOptimizer

if TYPE_CHECKING:
    from scipy.stats import qmc

BITS = 30


class Sobol(PopulationOptimizer):
    """Generation l takes points (l - 1)·N to l·N - 1 of one Sobol sequence, independent of the costs.

    The sequence is shifted digitally (exclusive or) by random numbers, so that seeds differ and the net property is
    kept. Every point is in the middle of its cell, 2^-31 from its corner. Parameters are those of `Optimizer`.
    """

    def first_positions(self) -> Positions:
        """Return the points of generation 1, the first replaced by the starting point, shape (N, d)."""
        points = self._points()
        points[0] = self.with_start(points[0])
        return points

    def next_positions(self, costs: Costs) -> Positions:
        """Return the next N points, shape (N, d)."""
        return self._points()

    def _points(self) -> Positions:
        # Imported here: scipy.stats takes half a second to load, and other optimisers do not use it.
        from scipy.stats import qmc

        sequence = qmc.Sobol(self.lower.size, scramble=False, bits=BITS)
        if self.generation > 1:
            sequence.fast_forward((self.generation - 1) * self.population)
        cells = (_next_points(sequence, self.population) * 2.0**BITS).astype(np.int64)
        shift = (self.random_numbers(1, self.lower.size) * 2.0**BITS).astype(np.int64)
        share = ((cells ^ shift) + 0.5) * 2.0**-BITS
        return np.clip(self.lower + share * (self.upper - self.lower), self.lower, self.upper)


def _next_points(sequence: qmc.Sobol, count: int) -> Positions:
    """Return the next points without SciPy's warning that their number is not a power of 2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        points: Positions = sequence.random(count)
    return points
