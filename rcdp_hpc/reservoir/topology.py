"""Which neurons are connected: a class for each ``reservoir.topology``, and orthogonal connection matrices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.config.choices import TABLES
from rcdp_hpc.reservoir.random_streams import Part, distributed, stream, symmetric, uniform
from rcdp_hpc.runtime.user_code import load_choice

# Random numbers that are drawn at a time.
BLOCK_SIZE = 1 << 21


class Topology(ABC):
    """A rule for the connections of n neurons. A position, row · n + column, is a connection from column to row.

    Attributes
    ----------
    may_lack_cycle : bool
        Whether the connections may be without a cycle, so that they have no spectral radius.
    """

    may_lack_cycle = False

    @staticmethod
    @abstractmethod
    def count(settings: ReservoirSection) -> int:
        """Return the number of connections, or an upper bound that is 0 only if there are none."""

    @abstractmethod
    def draw(self, settings: ReservoirSection, part: Part) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the connections.

        Parameters
        ----------
        settings : ReservoirSection
            Uses nodes, seed, and the keys of the topology.
        part : tuple of int
            Which of several reservoirs, (scan, layer); () is the first one.

        Returns
        -------
        positions : numpy.ndarray, shape (connections,), int64
            Ascending.
        weights : numpy.ndarray, shape (connections,), float64
            Uniform in [-1, 1).
        """


def topology_of(settings: ReservoirSection) -> Topology:
    """Return the topology that the settings name."""
    topology: Topology = load_choice(TABLES["reservoir.topology"], settings.topology)()
    return topology


class RandomTopology(Topology):
    """Exactly round(density · nodes²) connections: those with the smallest of nodes² random scores."""

    may_lack_cycle = True

    @staticmethod
    def count(settings: ReservoirSection) -> int:
        """Return round(density · nodes²)."""
        return round(settings.density * settings.nodes * settings.nodes)

    def draw(self, settings: ReservoirSection, part: Part) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the connections; only scores below a bound a little above the threshold are held in memory."""
        nodes, count = settings.nodes, self.count(settings)
        total = nodes * nodes
        share = count / total
        margin = 8 * np.sqrt(share * (1 - share) / total) + 1 / total
        while True:
            bound = np.uint64(min(int((share + margin) * 2.0**64), 2**64 - 1))
            positions, scores, weights = _scores_up_to(bound, total, settings.seed, part)
            if positions.size >= count:
                break
            margin *= 4
        if positions.size > count:
            smallest = np.sort(np.argpartition(scores, count - 1)[:count])
            positions, weights = positions[smallest], weights[smallest]
        return positions, weights


def _scores_up_to(
    bound: np.uint64, total: int, seed: int, part: Part
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.float64]]:
    """Draw `total` scores and weights block by block; return positions, scores and weights of scores up to `bound`."""
    mask = stream("mask", seed, part)
    weight = stream("weights", seed, part)
    blocks = []
    for start, length in _blocks(total):
        scores = mask.random_raw(length)
        inside = np.flatnonzero(scores <= bound)
        blocks.append((inside + start, scores[inside], uniform(weight.random_raw(length)[inside])))
    positions, scores, weights = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return positions, scores, weights


def _blocks(total: int) -> Iterator[tuple[int, int]]:
    for start in range(0, total, BLOCK_SIZE):
        yield start, min(BLOCK_SIZE, total - start)


class FixedTopology(Topology):
    """A topology whose positions do not depend on the random weights."""

    @abstractmethod
    def positions(self, settings: ReservoirSection, part: Part) -> NDArray[np.int64]:
        """Return the positions, ascending."""

    def draw(self, settings: ReservoirSection, part: Part) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the positions and one weight for each."""
        positions = self.positions(settings, part)
        return positions, symmetric(stream("weights", settings.seed, part), positions.size)


class Ring(FixedTopology):
    """Each neuron feeds the next one: i - 1 to i."""

    @staticmethod
    def count(settings: ReservoirSection) -> int:
        """Return the number of neurons."""
        return settings.nodes

    def positions(self, settings: ReservoirSection, part: Part) -> NDArray[np.int64]:
        """Return the positions."""
        return _ring(settings.nodes)


class CycleJumps(FixedTopology):
    """A ring with jumps in both directions between the neurons 0, jump, 2 · jump, ...

    The last jump leads back to neuron 0 if `nodes` is a multiple of `jump` (Rodan and Tino 2012).
    """

    @staticmethod
    def count(settings: ReservoirSection) -> int:
        """Return an upper bound."""
        return 2 * settings.nodes

    def positions(self, settings: ReservoirSection, part: Part) -> NDArray[np.int64]:
        """Return the positions."""
        nodes, jump = settings.nodes, settings.jump
        stops = np.arange(0, nodes, jump, dtype=np.int64)
        ends = np.append(stops[1:], 0) if nodes % jump == 0 else stops[1:]
        starts = stops[: ends.size]
        return np.unique(np.concatenate([_ring(nodes), starts * nodes + ends, ends * nodes + starts]))


class SmallWorld(FixedTopology):
    """A directed small world (Watts and Strogatz 1998).

    Each neuron reads its round(density · nodes) nearest neighbours on a ring, without itself. With probability
    `rewiring` a connection comes from a neuron chosen at random instead. Connections that coincide count once.
    """

    @staticmethod
    def count(settings: ReservoirSection) -> int:
        """Return an upper bound."""
        return settings.nodes * min(round(settings.density * settings.nodes), settings.nodes - 1)

    def positions(self, settings: ReservoirSection, part: Part) -> NDArray[np.int64]:
        """Return the positions."""
        nodes = settings.nodes
        count = min(round(settings.density * nodes), nodes - 1)
        distance = np.arange(count, dtype=np.int64)
        offsets = np.where(distance % 2 == 0, -(distance // 2) - 1, distance // 2 + 1)
        rows = np.repeat(np.arange(nodes, dtype=np.int64), count)
        columns = (rows + np.tile(offsets, nodes)) % nodes
        drawn = (symmetric(stream("rewiring", settings.seed, part), 2 * rows.size) + 1) / 2
        elsewhere = np.minimum((drawn[1::2] * nodes).astype(np.int64), nodes - 1)
        columns = np.where(drawn[::2] < settings.rewiring, elsewhere, columns)
        return np.unique(rows * nodes + columns)


def _ring(nodes: int) -> NDArray[np.int64]:
    rows = np.arange(nodes, dtype=np.int64)
    return rows * nodes + (rows - 1) % nodes


def orthogonal_matrix(nodes: int, density: float, seed: int, part: Part = ()) -> scipy.sparse.csr_array:
    """Return a random orthogonal matrix: a permutation times orthogonal blocks of about density · nodes neurons.

    All its eigenvalues have modulus 1. With density 1 it is a single block, uniformly distributed (QR of a normal
    matrix).

    Parameters
    ----------
    nodes : int
    density : float
    seed : int
    part : tuple of int
        Which of several reservoirs, (scan, layer); () is the first one.

    Returns
    -------
    scipy.sparse.csr_array, shape (nodes, nodes), float64
    """
    count = max(1, min(nodes, round(1 / density)))
    source = stream("weights", seed, part)
    blocks = []
    with threadpool_limits(1):
        for neurons in np.array_split(np.arange(nodes), count):
            normal = distributed(symmetric(source, neurons.size**2), "normal").reshape(neurons.size, neurons.size)
            orthogonal, triangle = scipy.linalg.qr(normal)
            blocks.append(orthogonal * np.where(np.diag(triangle) < 0, -1.0, 1.0))
    order = np.argsort(stream("permutation", seed, part).random_raw(nodes), kind="stable")
    matrix = scipy.sparse.csr_array(scipy.sparse.block_diag(blocks, format="csr"))
    return matrix[order] if count > 1 else matrix
