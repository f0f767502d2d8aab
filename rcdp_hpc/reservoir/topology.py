"""Who is connected to whom where that is not random, and orthogonal connection matrices."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from rcdp_hpc.reservoir.random_streams import Part, distributed, stream, symmetric


def ring_places(nodes: int) -> NDArray[np.int64]:
    """Return the connections of a ring, i - 1 to i, as row · nodes + column, ascending, shape (nodes,)."""
    rows = np.arange(nodes, dtype=np.int64)
    return rows * nodes + (rows - 1) % nodes


def cycle_jump_places(nodes: int, jump: int) -> NDArray[np.int64]:
    """Return the connections of a ring with jumps both ways between the neurons 0, jump, 2 · jump, ...

    The last jump leads back to neuron 0 where `nodes` is a multiple of `jump` (Rodan and Tino 2012).
    """
    stops = np.arange(0, nodes, jump, dtype=np.int64)
    following = np.append(stops[1:], 0) if nodes % jump == 0 else stops[1:]
    here = stops[: following.size]
    return np.unique(np.concatenate([ring_places(nodes), here * nodes + following, following * nodes + here]))


def small_world_places(nodes: int, density: float, rewiring: float, seed: int, part: Part = ()) -> NDArray[np.int64]:
    """Return the connections of a small world (Watts and Strogatz 1998, directed).

    Each neuron listens to its round(density · nodes) nearest ones on a ring, itself not among them; each of these
    connections is led to a neuron chosen at random with probability `rewiring`. Where two fall together one is left.
    """
    count = min(round(density * nodes), nodes - 1)
    distance = np.arange(count, dtype=np.int64)
    offsets = np.where(distance % 2 == 0, -(distance // 2) - 1, distance // 2 + 1)
    rows = np.repeat(np.arange(nodes, dtype=np.int64), count)
    columns = (rows + np.tile(offsets, nodes)) % nodes
    drawn = (symmetric(stream("rewiring", seed, part), 2 * rows.size) + 1) / 2
    elsewhere = np.minimum((drawn[1::2] * nodes).astype(np.int64), nodes - 1)
    columns = np.where(drawn[::2] < rewiring, elsewhere, columns)
    return np.unique(rows * nodes + columns)


def orthogonal_matrix(nodes: int, density: float, seed: int, part: Part = ()) -> scipy.sparse.csr_array:
    """Return a random orthogonal matrix: a permutation times orthogonal blocks of about density · nodes neurons.

    All its eigenvalues have modulus 1. At density 1 it is a single block, drawn uniformly (QR of a normal matrix).
    """
    blocks = max(1, min(nodes, round(1 / density)))
    source, parts = stream("weights", seed, part), []
    with threadpool_limits(1):
        for piece in np.array_split(np.arange(nodes), blocks):
            normal = distributed(symmetric(source, piece.size**2), "normal").reshape(piece.size, piece.size)
            orthogonal, triangle = scipy.linalg.qr(normal)
            parts.append(orthogonal * np.where(np.diag(triangle) < 0, -1.0, 1.0))
    order = np.argsort(stream("permutation", seed, part).random_raw(nodes), kind="stable")
    matrix = scipy.sparse.csr_array(scipy.sparse.block_diag(parts, format="csr"))
    return matrix[order] if blocks > 1 else matrix
