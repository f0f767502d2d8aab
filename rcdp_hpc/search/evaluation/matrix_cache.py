"""Connection matrices that candidates share, built once: the same mask, weights and eigenvalues."""

from __future__ import annotations

from collections import OrderedDict

import scipy.sparse

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.connection import (
    ReservoirMatrices,
    biases,
    connection_matrix,
    scaled_input_weights,
)
from rcdp_hpc.reservoir.spectral_radius import spectral_radius

BYTES_KEPT = 128 * 2**20


class MatrixCache:
    """The matrices of a reservoir, bitwise those of `reservoir_matrices`.

    The mask, the weights before scaling and their spectral radius depend on seed, nodes and number of connections
    alone. Candidates at the same density (the bounds of the space collect many) share them.

    Parameters
    ----------
    bytes_kept : int
        Memory for matrices kept, at most; the one used longest ago goes first.

    Attributes
    ----------
    reused : int
        How often a matrix was there already.
    """

    def __init__(self, bytes_kept: int = BYTES_KEPT) -> None:
        self.bytes_kept, self.reused = bytes_kept, 0
        self._kept: OrderedDict[tuple[int, int, int], tuple[scipy.sparse.csr_array, float | None]] = OrderedDict()

    def matrices(self, settings: ReservoirSection, features: int) -> ReservoirMatrices:
        """Return all matrices of a reservoir; parameters and errors as `reservoir_matrices`."""
        return ReservoirMatrices(
            self._recurrent(settings),
            scaled_input_weights(settings, features),
            biases(settings.nodes, settings.bias_scaling, settings.seed),
        )

    def _recurrent(self, settings: ReservoirSection) -> scipy.sparse.csr_array:
        key = (settings.seed, settings.nodes, round(settings.density * settings.nodes**2))
        raw, radius = self._kept.get(key, (None, None))
        if raw is None:
            # weights uniform in [-1, 1]: those that both ways of scaling multiply
            unscaled = settings.model_copy(update={"scaling": "weight_scale", "weight_scale": 1.0})
            raw = connection_matrix(unscaled)
        else:
            self.reused += 1
        if settings.scaling == "spectral_radius" and radius is None:
            radius = spectral_radius(raw)
        self._keep(key, raw, radius)
        if settings.scaling == "weight_scale":
            factor = settings.weight_scale
        elif radius:
            factor = settings.spectral_radius / radius
        else:
            return connection_matrix(settings)  # it knows how to say that there is no cycle
        matrix = raw.copy()
        matrix.data *= factor
        return matrix

    def _keep(self, key: tuple[int, int, int], raw: scipy.sparse.csr_array, radius: float | None) -> None:
        self._kept[key] = (raw, radius)
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(_bytes(matrix) for matrix, _ in self._kept.values()) > self.bytes_kept:
            self._kept.popitem(last=False)


def _bytes(matrix: scipy.sparse.csr_array) -> int:
    return int(matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes)
