"""Cache of connection matrices: candidates with equal mask and weights share them, and their eigenvalues."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

import scipy.sparse

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.connection import (
    ReservoirMatrices,
    biases,
    connection_matrix,
    scaled_input_weights,
)
from rcdp_hpc.reservoir.shared_draws import LARGEST_KEPT, SharedDraws
from rcdp_hpc.reservoir.spectral_radius import spectral_radius

if TYPE_CHECKING:
    from rcdp_hpc.search.evaluation.radii_ahead import RadiiAhead

# Seed, nodes and number of connections.
Key = tuple[int, int, int]
CACHE_BYTES = 128 * 2**20


class MatrixCache:
    """The matrices of a reservoir, bitwise those of `reservoir_matrices`.

    The mask, the weights before scaling and their spectral radius depend only on seed, nodes and number of connections.
    Candidates of equal density share them; many candidates are on the bounds of the space.

    Parameters
    ----------
    max_bytes : int
        Most memory of the cached matrices; the least recently used is removed first.
    ahead : RadiiAhead, optional
        Computes radii ahead.
    device : str, optional
        Device that computes radii (`rcdp_hpc.reservoir.gelfand`) of matrices that fit into it; default: ARPACK.

    Attributes
    ----------
    reused : int
        Number of matrices taken from the cache.
    """

    def __init__(
        self, max_bytes: int = CACHE_BYTES, ahead: RadiiAhead | None = None, device: str | None = None
    ) -> None:
        self.max_bytes = max_bytes
        self.ahead = ahead
        self.device = device
        self.reused = 0
        self._draws: SharedDraws | None = None
        self._cached: OrderedDict[Key, tuple[scipy.sparse.csr_array, float | None]] = OrderedDict()

    def matrices(self, settings: ReservoirSection, features: int) -> ReservoirMatrices:
        """Return all matrices of a reservoir; parameters and errors as `reservoir_matrices`."""
        return ReservoirMatrices(
            self._recurrent(settings),
            scaled_input_weights(settings, features),
            biases(settings.nodes, settings.bias_scaling, settings.seed),
        )

    def draws(self, settings: ReservoirSection) -> SharedDraws:
        """Return the random numbers of all connections of reservoirs with this seed and size."""
        if self._draws is None or (self._draws.seed, self._draws.nodes) != (settings.seed, settings.nodes):
            self._draws = SharedDraws(settings.seed, settings.nodes)
        return self._draws

    def unscaled(self, settings: ReservoirSection) -> tuple[scipy.sparse.csr_array, float | None]:
        """Return the matrix with weights uniform in [-1, 1), and its spectral radius if it is scaled by it.

        Raises
        ------
        CandidateError
            If there are no connections.
        """
        key = key_of(settings)
        raw, radius = self._cached.get(key, (None, None))
        if raw is None:
            raw = self._drawn(settings, key[2])
        else:
            self.reused += 1
        if settings.scaling == "spectral_radius" and radius is None:
            radius = self._radius(key, raw)
        self._store(key, raw, radius)
        return raw, radius

    def _radius(self, key: Key, raw: scipy.sparse.csr_array) -> float:
        if self.device is not None:
            # Only here, since processes that compute radii ahead need no torch.
            from rcdp_hpc.reservoir.gelfand import LARGEST_ON_DEVICE, rounded_radius

            if raw.shape[0] <= LARGEST_ON_DEVICE:
                return rounded_radius(raw, self.device)
        radius = self.ahead.radius(key) if self.ahead else None
        return spectral_radius(raw) if radius is None else radius

    def prepare(self, candidates: Iterable[ReservoirSection]) -> None:
        """Let radii of candidates that are evaluated in this order be computed ahead."""
        if self.ahead is not None:
            scaled = (key_of(one) for one in candidates if one.scaling == "spectral_radius" and one.is_plain)
            self.ahead.ask(key for key in scaled if key[2] and self._cached.get(key, (None, None))[1] is None)

    def _drawn(self, settings: ReservoirSection, count: int) -> scipy.sparse.csr_array:
        drawn = None
        if count and settings.nodes <= LARGEST_KEPT:
            drawn = self.draws(settings).matrix(count)
        if drawn is None:
            drawn = connection_matrix(settings.model_copy(update={"scaling": "weight_scale", "weight_scale": 1.0}))
        return drawn

    def _recurrent(self, settings: ReservoirSection) -> scipy.sparse.csr_array:
        raw, radius = self.unscaled(settings)
        if settings.scaling == "weight_scale":
            factor = settings.weight_scale
        elif radius:
            factor = settings.spectral_radius / radius
        else:
            return connection_matrix(settings)  # raises the error for a matrix without a cycle
        matrix = raw.copy()
        matrix.data *= factor
        return matrix

    def _store(self, key: tuple[int, int, int], raw: scipy.sparse.csr_array, radius: float | None) -> None:
        self._cached[key] = (raw, radius)
        self._cached.move_to_end(key)
        while len(self._cached) > 1 and sum(_bytes(matrix) for matrix, _ in self._cached.values()) > self.max_bytes:
            self._cached.popitem(last=False)


def key_of(settings: ReservoirSection) -> Key:
    """Return what mask and unscaled weights of a random reservoir depend on."""
    return settings.seed, settings.nodes, round(settings.density * settings.nodes**2)


def _bytes(matrix: scipy.sparse.csr_array) -> int:
    return int(matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes)
