"""The random matrices of the reservoir (eq. 3, 6 and 7), with NumPy and SciPy only.

Every matrix is a function of ``reservoir.seed`` and of the settings it is built from. Candidates that differ in one
setting share all random numbers: the connections of a sparser reservoir are a subset of those of a denser one, and a
connection in both has the same weight before scaling. Differences in fitness then come from the settings, not from the
random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.reservoir.random_streams import DISTRIBUTIONS, Part, distributed, shared_symmetric, stream, symmetric
from rcdp_hpc.reservoir.spectral_radius import spectral_radius
from rcdp_hpc.reservoir.topology import orthogonal_matrix, topology_of

RadiusOf = Callable[[scipy.sparse.csr_array], float]


@dataclass(frozen=True)
class ReservoirMatrices:
    """The fixed parameters of eq. 9.

    Attributes
    ----------
    recurrent : scipy.sparse.csr_array, shape (nodes, nodes), float64
        Connection matrix C.
    input : numpy.ndarray, shape (nodes, features), float64
        Input weights W_in.
    bias : numpy.ndarray, shape (nodes,), float64
        Biases b_in.
    mixing : numpy.ndarray, shape (nodes, 2 · memory_units), float64, optional
        Only for kind = "diagonal" (see `rcdp_hpc.reservoir.diagonal`), where `recurrent` and `input` are the matrices
        of the memory.
    """

    recurrent: scipy.sparse.csr_array
    input: NDArray[np.float64]
    bias: NDArray[np.float64]
    mixing: NDArray[np.float64] | None = None


def reservoir_matrices(
    settings: ReservoirSection, features: int, part: Part = (), radius_of: RadiusOf = spectral_radius
) -> ReservoirMatrices:
    """Build all matrices of a reservoir.

    Parameters
    ----------
    settings : ReservoirSection
        The section ``[reservoir]``, with a candidate's values applied.
    features : int
        Features per step of the input sequence.
    part : tuple of int
        Which of several reservoirs, (scan, layer); () is the first one.
    radius_of : callable
        Computes the spectral radius.

    Returns
    -------
    ReservoirMatrices

    Raises
    ------
    CandidateError
        If the connection matrix cannot be scaled to the spectral radius.
    InputError
        If ``feature_scaling`` does not have one factor per feature.
    """
    weights = scaled_input_weights(settings, features, part)
    check_feature_scaling(settings, features)
    if settings.feature_scaling:
        weights = weights * np.array(settings.feature_scaling)
    bias = biases(settings.nodes, settings.bias_scaling, settings.seed, part)
    return ReservoirMatrices(connection_matrix(settings, part, radius_of), weights, bias)


def check_feature_scaling(settings: ReservoirSection, features: int) -> None:
    """Raise an `InputError` if ``feature_scaling`` is set and does not have one factor per feature of a step."""
    if settings.feature_scaling and len(settings.feature_scaling) != features:
        raise InputError(
            f"reservoir.feature_scaling has {len(settings.feature_scaling)} factors, but a step has {features} "
            "features: give one factor for each"
        )


def connection_matrix(
    settings: ReservoirSection, part: Part = (), radius_of: RadiusOf = spectral_radius
) -> scipy.sparse.csr_array:
    """Build the connection matrix C (eq. 3, 6 and 7): a mask times random weights, rescaled.

    The mask is that of ``reservoir.topology`` (`rcdp_hpc.reservoir.topology`). With ``scaling = "spectral_radius"`` the
    weights are rescaled so that the largest eigenvalue modulus is ``spectral_radius`` (relative error 1e-8 up to 2000
    nodes, 1e-6 above). With ``"weight_scale"`` they are multiplied by w: uniform weights are then in [-w, w].

    Parameters
    ----------
    settings : ReservoirSection
        Uses nodes, density, topology, rewiring, jump, weights, scaling, spectral_radius, weight_scale and seed.
    part : tuple of int
        Which of several reservoirs, (scan, layer); () is the first one.
    radius_of : callable
        Computes the spectral radius.

    Returns
    -------
    scipy.sparse.csr_array, shape (nodes, nodes), float64
        Row i holds the weights of the connections into neuron i.

    Raises
    ------
    CandidateError
        If there are no connections, or a spectral radius is asked for and they have no cycle.
    """
    nodes, density = settings.nodes, settings.density
    matrix = unscaled_matrix(settings, part)
    if matrix.nnz == 0:
        raise CandidateError(
            f"reservoir.density = {density:g} leaves {nodes} nodes without any connection: "
            "raise reservoir.density or reservoir.nodes"
        )
    if settings.scaling == "weight_scale":
        matrix.data *= settings.weight_scale
        return matrix
    radius = 1.0 if settings.weights == "orthogonal" else radius_of(matrix)
    if radius == 0:
        raise CandidateError(
            f"the connection matrix has no cycle, so no spectral radius: reservoir.density = {density:g} is "
            f"too small for {nodes} nodes; raise one of the two"
        )
    matrix.data *= settings.spectral_radius / radius
    return matrix


def unscaled_matrix(settings: ReservoirSection, part: Part) -> scipy.sparse.csr_array:
    """Return the connection matrix before it is scaled; parameters as of `connection_matrix`."""
    nodes = settings.nodes
    if settings.weights == "orthogonal":
        return orthogonal_matrix(nodes, settings.density, settings.seed, part)
    topology = topology_of(settings)
    if not topology.count(settings):
        return scipy.sparse.csr_array((nodes, nodes))
    positions, weights = topology.draw(settings, part)
    return csr_matrix(positions, distributed(weights, settings.weights), nodes)


def scaled_input_weights(settings: ReservoirSection, features: int, part: Part = ()) -> NDArray[np.float64]:
    """Return the input weights W_in of the settings before ``feature_scaling``, shape (nodes, features), float64.

    With ``input_normalised`` they are divided by sqrt(k · v), for k inputs per neuron and the variance v of the
    distribution: for inputs of standard deviation 1, W_in · u then has the standard deviation ``input_scaling`` for any
    number of inputs.
    """
    weights = input_weights(
        settings.nodes, features, settings.input_scaling, settings.seed,
        distribution=settings.input_weights, density=settings.input_density, part=part,
    )  # fmt: skip
    if settings.input_normalised:
        variance = DISTRIBUTIONS[settings.input_weights].variance
        weights /= np.sqrt(_inputs_per_neuron(features, settings.input_density) * variance)
    return weights


def _inputs_per_neuron(features: int, density: float) -> int:
    return max(1, round(density * features)) if density < 1 else features


def input_weights(
    nodes: int,
    features: int,
    input_scaling: float,
    seed: int,
    distribution: str = "uniform",
    density: float = 1.0,
    part: Part = (),
) -> NDArray[np.float64]:
    """Return the input weights W_in, shape (nodes, features), float64.

    Parameters
    ----------
    nodes, features : int
    input_scaling : float
        Factor on numbers of the distribution, which is uniform in [-1, 1) by default.
    seed : int
    distribution : str
        A name of `rcdp_hpc.reservoir.random_streams.DISTRIBUTIONS`.
    density : float
        Below 1, each neuron has only the round(density · features) inputs with the smallest random scores, at least
        one.
    part : tuple of int
        Which of several reservoirs, (scan, layer); () is the first one.
    """
    drawn = shared_symmetric("input", seed, part, nodes * features).reshape(nodes, features)
    weights = input_scaling * distributed(drawn, distribution)
    if density < 1:
        scores = stream("input_mask", seed, part).random_raw(nodes * features).reshape(nodes, features)
        order = np.argsort(scores, axis=1, kind="stable")
        np.put_along_axis(weights, order[:, _inputs_per_neuron(features, density) :], 0.0, axis=1)
    return weights


def biases(nodes: int, bias_scaling: float, seed: int, part: Part = ()) -> NDArray[np.float64]:
    """Return the biases b_in, uniform in [-bias_scaling, bias_scaling], shape (nodes,), float64."""
    return bias_scaling * shared_symmetric("bias", seed, part, nodes)


def leak_rates(settings: ReservoirSection, part: Part = ()) -> NDArray[np.float64] | None:
    """Return the leak rate of each neuron, log-uniform in [leak_low, leak]; None if all have ``leak``.

    Parameters
    ----------
    settings : ReservoirSection
        Uses nodes, leak, leak_low and seed.
    part : tuple of int
        Which of several reservoirs, (scan, layer); () is the first one.

    Returns
    -------
    numpy.ndarray, shape (nodes,), float64, or None

    Raises
    ------
    CandidateError
        If ``leak`` is below ``leak_low``.
    """
    low, high = settings.leak_low, settings.leak
    if not low:
        return None
    if high < low:
        raise CandidateError(
            f"reservoir.leak = {high:g} is below reservoir.leak_low = {low:g}: lower reservoir.leak_low, or set it to 0"
        )
    drawn = (symmetric(stream("leak", settings.seed, part), settings.nodes) + 1) / 2
    return np.clip(low * (high / low) ** drawn, low, high)


def csr_matrix(positions: NDArray[np.int64], weights: NDArray[np.float64], nodes: int) -> scipy.sparse.csr_array:
    """Return the matrix with these weights at the positions row · nodes + column, which are ascending."""
    rows, columns = np.divmod(positions, nodes)
    starts = np.zeros(nodes + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=nodes), out=starts[1:])
    index = np.int32 if positions.size < 2**31 else np.int64
    parts = (weights, columns.astype(index), starts.astype(index))
    return scipy.sparse.csr_array(parts, shape=(nodes, nodes))
