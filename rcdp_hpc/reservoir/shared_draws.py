"""The random numbers of all possible connections, drawn once for the candidates of a search.

Candidates of one seed and size share the scores and weights of their connections, and differ in how many of the
smallest scores are connections (`rcdp_hpc.reservoir.topology.RandomTopology`). With the scores sorted once, the mask of
a candidate is one comparison with the score of its last connection.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from rcdp_hpc.reservoir.connection import csr_matrix
from rcdp_hpc.reservoir.random_streams import stream, symmetric

# Neurons of the largest reservoir whose numbers a search keeps: 24 bytes for each possible connection.
LARGEST_KEPT = 2000


class SharedDraws:
    """Scores and weights of the nodes² possible connections of a random reservoir with uniform weights.

    Parameters
    ----------
    seed, nodes : int

    Attributes
    ----------
    scores : numpy.ndarray, shape (nodes²,), uint64
    weights : numpy.ndarray, shape (nodes²,), float64
        Uniform in [-1, 1).
    """

    def __init__(self, seed: int, nodes: int) -> None:
        self.seed = seed
        self.nodes = nodes
        self.scores: NDArray[np.uint64] = stream("mask", seed).random_raw(nodes * nodes)
        self.weights = symmetric(stream("weights", seed), nodes * nodes)

    @cached_property
    def _sorted(self) -> NDArray[np.uint64]:
        return np.sort(self.scores)

    def bound(self, count: int) -> np.uint64 | None:
        """Return the score of the last of `count` connections; None if the next score is the same one."""
        last: np.uint64 = self._sorted[count - 1]
        return None if count < self._sorted.size and self._sorted[count] == last else last

    def matrix(self, count: int) -> scipy.sparse.csr_array | None:
        """Return the matrix with this many connections, to the bit that of `RandomTopology`, or None without a bound.

        Parameters
        ----------
        count : int
            At least 1.
        """
        bound = self.bound(count)
        if bound is None:
            return None
        positions = np.flatnonzero(self.scores <= bound)
        return csr_matrix(positions, self.weights[positions], self.nodes)
